import logging
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest
import trustme

from line_neurons.agent.errors import BackendError, MissingPartError, ReplyError, UsageError
from line_neurons.agent.replies import REPLY_SCHEMA
from line_neurons.tools.language_models.openai.chat import FORMATS, OpenAIEngine
from line_neurons.tools.language_models.openai.client import retry_after
from line_neurons.tools.language_models.openai.models import served
from line_neurons.tools.language_models.reply_cache import ReplyCache
from support.fake_ollama import body, endless, hang_up, meeting, proposal, raw, status
from support.fake_openai import KEY, MODEL, ScriptedOpenAI, answer, error, serving
from support.raw_server import DRIPS, raw_serving


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def engine_at(waiting):
    """Makes an engine for servers at these addresses."""

    def make(*urls, **settings):
        chosen = {"name": MODEL, "top_p": 0.9, "reply_tokens": 512, "timeout": 20} | settings
        return OpenAIEngine(chosen.pop("name"), urls, clock=waiting.clock, sleep=waiting.sleep, **chosen)

    return make


def test_seed_sampling_length_and_schema_reach_the_server(engine_at, ask):
    penalties = {"presence_penalty": 0.5, "frequency_penalty": 0.0}
    with serving() as server:
        assert ask(engine_at(server.base_url, penalties=penalties)).concept == "owl"
    (sent,) = server.questions
    assert sent == {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "Answer with JSON only."},
            {"role": "user", "content": "Scoreboard: ..."},
        ],
        "seed": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "presence_penalty": 0.5,
        "max_tokens": 512,
        "stream": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "proposal", "strict": True, "schema": REPLY_SCHEMA},
        },
    }


def test_the_fingerprint_has_the_model_and_the_settings_and_no_address(engine_at):
    with serving() as one, serving() as other:
        first = engine_at(one.base_url).fingerprint
        assert first == f"openai:{MODEL} top_p=0.9 reply_tokens=512 format=json_schema"
        assert first == engine_at(other.base_url, one.base_url, timeout=7).fingerprint
        assert first != engine_at(one.base_url, top_p=0.8).fingerprint


def test_what_the_server_reports_of_the_model_is_known(engine_at):
    meta = {"n_params": 7_615_616_512, "size": 4_677_120_000, "n_ctx_train": 32_768}
    script = ScriptedOpenAI(models=[{"id": MODEL, "meta": meta}], trial=answer("{", backend="b4567"))
    with serving(script) as server:
        engine = engine_at(server.base_url)
        assert "weights=7615616512/4677120000 " in engine.fingerprint
    told = {"context": "32768", "parameters": "7615616512", "size": "4677120000", "backend": "b4567"}
    assert engine.identity() == told


def test_an_alias_is_told_from_the_model_behind_it(engine_at, ask):
    script = ScriptedOpenAI(answer(model="gpt-x-2026-01-01"), trial=answer("{", model="gpt-x-2026-01-01"))
    with serving(script) as server:
        engine = engine_at(server.base_url)
        assert "served_as=gpt-x-2026-01-01 " in engine.fingerprint
        ask(engine)
        script.acts = [answer(model="gpt-x-2026-09-09")]
        with pytest.raises(BackendError, match="replied as 'gpt-x-2026-09-09', not as 'gpt-x-2026-01-01'"):
            ask(engine, seed=8)


def test_a_reply_is_cached_and_validated_as_any_other(engine_at, ask, tmp_path):
    cache = ReplyCache(tmp_path / "replies.db")
    with serving() as server:
        engine = engine_at(server.base_url)
        assert ask(engine, cache) == ask(engine, cache)
        assert len(server.questions) == 1
        for act, kind in [
            (answer("no JSON"), "not_json"), (answer("{", finish="length"), "truncated"), (answer(""), "empty"),
            (answer('{"concept": "owl"}'), "schema"), (answer(proposal("a very long name of a bird")), "concept"),
            (answer(None, finish="content_filter", refusal="I cannot"), None),
        ]:  # fmt: skip
            server.acts = [act]
            if kind:
                with pytest.raises(ReplyError) as caught:
                    ask(engine, seed=hash(kind) % 1000)
                assert caught.value.kind == kind


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_are_kept_apart(engine_at, ask, field):
    with serving(ScriptedOpenAI(answer(**{field: "It has feathers."}))) as server:
        assert ask(engine_at(server.base_url)).reasoning == "It has feathers. birds of prey"


def test_an_empty_reply_of_a_thinking_model_is_warned_of_once(engine_at, ask, caplog):
    with serving(ScriptedOpenAI(answer("", finish="length", reasoning="hm"))) as server:
        engine = engine_at(server.base_url)
        for seed in (1, 2):
            with pytest.raises(ReplyError):
                ask(engine, seed=seed)
    assert caplog.text.count("all 512 tokens were spent; try a larger --reply-tokens") == 1


def without(*names):
    """Refuse formats by what they contain, else greet as an unheld model does."""

    def act(handler, question):
        found = str(question.get("response_format", ""))
        for name in names:
            if name in found:
                error(400, f"response_format: '{name}' is not supported")(handler, question)
                return
        answer("{")(handler, question)

    return act


@pytest.mark.parametrize(
    ("refused", "format_"),
    [
        ((), "json_schema"),
        (("maxLength",), "json_schema_without_lengths"),
        (("json_schema",), "json_object"),
        (("json_schema", "json_object"), "none"),
    ],
)
def test_a_server_without_the_schema_gets_the_next_format_and_that_is_told(
    engine_at, ask, caplog, refused, format_
):
    with serving(ScriptedOpenAI(trial=without(*refused))) as server:
        engine = engine_at(server.base_url)
        ask(engine)
        assert f" format={format_}" in engine.fingerprint
    assert server.questions[0].get("response_format") == FORMATS[format_](1)
    assert ("does not hold replies to the full schema" in caplog.text) == bool(refused)


def test_a_schema_that_is_accepted_and_not_enforced_is_told(engine_at, caplog):
    with serving(ScriptedOpenAI(trial=answer("Hello! How can I help?"))) as server:
        engine_at(server.base_url).fingerprint  # noqa: B018
    assert "accepts a JSON schema and does not enforce it" in caplog.text


def test_the_newer_name_of_the_longest_reply_is_used_where_the_older_one_is_refused(engine_at, ask):
    def newer(handler, question):
        if "max_tokens" in question:
            said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            error(400, said, "unsupported_parameter")(handler, question)
        else:
            answer("{")(handler, question)

    with serving(ScriptedOpenAI(trial=newer)) as server:
        ask(engine_at(server.base_url))
    assert server.questions[0]["max_completion_tokens"] == 512 and "max_tokens" not in server.questions[0]


def test_a_model_that_is_not_served_is_refused_before_anything_is_asked_with_near_ones(engine_at):
    with serving() as server, pytest.raises(MissingPartError, match="does not serve the model") as caught:
        engine_at(server.base_url, name="qwen2.5-7b-instruct").fingerprint  # noqa: B018
    assert caught.value.remedy == f"did you mean openai:{MODEL}?"
    assert (server.trials, server.questions) == ([], [])


def test_a_model_with_no_near_one_is_told_what_there_is(engine_at):
    script = ScriptedOpenAI(models=[{"id": f"model-{n}"} for n in range(7)])
    with serving(script) as server, pytest.raises(MissingPartError) as caught:
        engine_at(server.base_url, name="zzz").fingerprint  # noqa: B018
    assert "it serves model-0, model-1, model-2, model-3, model-4 and 2 more" in caught.value.remedy


PASSING = {
    "500": (error(500, "internal error"), r"\(500\): internal error"),
    "503": (error(503, "Loading model"), "Loading model"),
    "graphics card": (
        error(500, "CUDA error: device-side assert"),
        "graphics card of the OpenAI-compatible server",
    ),
    "hung up": (hang_up, "lost during the reply"),
    "not HTTP": (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "lost during the reply"),
    "an error sent as a success": (
        body(b'{"error": {"message": "upstream failed", "code": 502}}'),
        "upstream failed",
    ),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_may_pass_is_asked_again(engine_at, waiting, ask, fault):
    act, _ = PASSING[fault]
    with serving(ScriptedOpenAI(act, act, act, answer())) as server:
        assert ask(engine_at(server.base_url)).concept == "owl"
    assert waiting.slept == [1, 2, 4]


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_stays_ends_with_one_line(engine_at, waiting, ask, fault):
    act, said = PASSING[fault]
    with serving(ScriptedOpenAI(act)) as server, pytest.raises(BackendError, match=said) as caught:
        ask(engine_at(server.base_url))
    assert waiting.slept == [1, 2, 4, 8]
    assert server.base_url in str(caught.value) and "\n" not in str(caught.value)


TOO_LONG = "This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens."


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (
            error(401, f"Incorrect API key provided: {KEY}"),
            r"refuses access \(401\): .*\*\*\*.*set OPENAI_API_KEY",
        ),
        (status(403, "no"), r"refuses access \(403\)"),
        (error(404, f"The model `{MODEL}` does not exist."), "does not serve the model"),
        (status(404, "404 page not found"), r"no OpenAI API at .* \(404\).*check the path"),
        (error(400, TOO_LONG), "does not fit into the context of .*--max-model-len"),
        (error(429, "You exceeded your current quota", "insufficient_quota"), "no credit left"),
        (error(400, "Unsupported value: 'temperature' does not support 0.5"), "does not accept seed, temperature"),
        (error(400, "default chat template is no longer allowed"), "cannot hold these chats.*instructions"),
        (error(400, "something else"), r"failed \(400\): something else"),
        (status(307, "", Location="http://me:pw@127.0.0.1:1/x"), "redirects elsewhere.*http://127.0.0.1:1/x"),
        (body(b"<!doctype html><title>Sign in</title>"), "not of the OpenAI API: a page of the web 'Sign in'"),
        (body(b"[]"), "not of the OpenAI API"),
        (body(b'{"choices": []}'), "not of the OpenAI API"),
        (body(b'{"choices": [{"message": {"content": 7}}]}'), "not of the OpenAI API"),
        (body(b'{"choices": [{"message": {"content": [1]}}]}'), "not of the OpenAI API"),
    ],
)
def test_a_fault_that_waiting_does_not_repair_is_told_at_once_with_the_remedy(engine_at, waiting, ask, act, said):
    with (
        serving(ScriptedOpenAI(act)) as server,
        pytest.raises((BackendError, MissingPartError), match=said) as caught,
    ):
        ask(engine_at(server.base_url))
    assert waiting.slept == []
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_missing_v1_is_told(engine_at):
    with serving() as server, pytest.raises(BackendError, match=r"\(404\)") as caught:
        engine_at(f"{server.url}/openai").fingerprint  # noqa: B018
    assert caught.value.remedy == f"is it {server.url}/openai/v1?"


def test_no_server_is_told_at_once_with_the_remedy(engine_at, waiting):
    with serving() as server:
        pass
    with pytest.raises(BackendError, match="no OpenAI-compatible server answers at") as caught:
        engine_at(server.base_url).fingerprint  # noqa: B018
    assert "--base-url" in caught.value.remedy
    assert waiting.slept == []


def test_a_certificate_that_is_not_trusted_and_the_wrong_scheme_are_told(engine_at):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    told = r"certificate of .* is not trusted.*SSL_CERT_FILE"
    with raw_serving(DRIPS["silence"], context) as server, pytest.raises(BackendError, match=told):
        engine_at(f"{server.url}/v1").fingerprint  # noqa: B018
    with serving() as server, pytest.raises(BackendError, match="does not speak HTTPS"):
        engine_at(server.base_url.replace("http:", "https:")).fingerprint  # noqa: B018


def test_a_server_that_never_finishes_is_given_up(engine_at, waiting, ask):
    with serving(ScriptedOpenAI(lambda handler, question: handler.script.released.wait(30))) as server:
        engine = engine_at(server.base_url, timeout=0.5)
        with pytest.raises(BackendError, match=r"within 0\.5 s"):
            ask(engine)
    assert waiting.slept == [1]


def test_a_reply_without_end_is_cut_before_it_fills_the_memory(engine_at, ask):
    told = "answered with more than 2 MB"
    with serving(ScriptedOpenAI(endless(b" " * 65_536))) as server, pytest.raises(BackendError, match=told):
        ask(engine_at(server.base_url))


def test_the_key_is_sent_and_never_told(engine_at, ask, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    cache = ReplyCache(tmp_path / "replies.db")
    with serving() as server:
        engine = engine_at(server.base_url)
        ask(engine, cache)
        assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
        server.acts = [error(401, f"bad key {KEY}")]
        with pytest.raises(BackendError, match="check the key in OPENAI_API_KEY") as caught:
            ask(engine, seed=9)
    for shown in (str(caught.value), caplog.text, engine.fingerprint, str(engine.identity())):
        assert KEY not in shown
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes()


def test_a_key_that_no_header_can_hold_is_told_without_it(engine_at, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u2026")
    with serving() as server, pytest.raises(UsageError, match="OPENAI_API_KEY holds a character"):
        engine_at(server.base_url).fingerprint  # noqa: B018


def test_a_password_of_the_address_is_sent_and_never_told(engine_at, ask):
    with serving() as server:
        engine = engine_at(server.base_url.replace("//", "//me:p%40w@"))
        ask(engine)
        assert server.headers[0]["authorization"].startswith("Basic ")
        server.acts = [error(401, "no")]
        with pytest.raises(BackendError, match="check user and password") as caught:
            ask(engine, seed=9)
    assert "p%40w" not in str(caught.value) and "p@w" not in str(caught.value)


@pytest.mark.parametrize(("asked", "slept"), [("7", [7, 7, 7]), ("3600", [60, 60, 60]), ("0.5", [1, 2, 4])])
def test_retry_after_is_honoured_within_bounds(engine_at, waiting, ask, asked, slept):
    busy = error(429, "slow down", **{"Retry-After": asked})
    with serving(ScriptedOpenAI(busy, busy, busy, answer())) as server:
        assert ask(engine_at(server.base_url)).concept == "owl"
    assert waiting.slept == slept


def test_a_limit_of_requests_is_waited_for_longer_than_a_fault(engine_at, waiting, ask):
    told = r"\(429\): slow down.*lower --llm-parallel"
    with serving(ScriptedOpenAI(error(429, "slow down"))) as server, pytest.raises(BackendError, match=told):
        ask(engine_at(server.base_url))
    assert len(waiting.slept) == 7


def test_retry_after_may_be_a_date():
    assert 20 < retry_after(formatdate(time.time() + 30, usegmt=True)) <= 30
    assert retry_after(formatdate(time.time() - 30, usegmt=True)) == 0
    assert [retry_after(text) for text in ("", "soon", "-3", "nan", "1e9")] == [0, 0, 0, 0, 0]


def test_requests_are_spread_over_the_servers(engine_at, ask):
    hold = meeting(2, answer())
    with serving(ScriptedOpenAI(hold)) as one, serving(ScriptedOpenAI(hold)) as two:
        engine = engine_at(one.base_url, two.base_url, timeout=90)
        _ = engine.fingerprint
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda seed: ask(engine, seed=seed).concept, range(4)))
    assert found == ["owl"] * 4
    assert (len(one.questions), len(two.questions)) == (2, 2)


def test_a_server_that_fails_is_left_out_for_a_while(engine_at, waiting, ask):
    with serving(ScriptedOpenAI(error(500, "broken"))) as bad, serving() as good:
        engine = engine_at(bad.base_url, good.base_url)
        for seed in range(6):
            ask(engine, seed=seed)
        assert (len(bad.questions), len(good.questions)) == (1, 6)
        assert waiting.slept == []
        waiting.now += 31
        bad.acts = [answer()]
        for seed in range(6, 10):
            ask(engine, seed=seed)
        assert len(bad.questions) == 3


def test_a_server_with_other_weights_is_refused_also_after_it_came_back(engine_at, waiting, ask):
    def models(size):
        return [{"id": MODEL, "meta": {"n_params": 7, "size": size}}]

    with serving(ScriptedOpenAI(models=models(4))) as one, serving(ScriptedOpenAI(models=models(5))) as two:
        with pytest.raises(BackendError, match=r"has another .* \(weights 7/5, not 7/4\)"):
            engine_at(one.base_url, two.base_url).fingerprint  # noqa: B018
        engine = engine_at(one.base_url)
        ask(engine)
        one.models, one.acts = models(6), [error(503, "restarting"), answer()]
        with pytest.raises(BackendError, match="weights 7/6, not 7/4"):
            ask(engine, seed=8)


def test_when_no_server_can_answer_each_is_named(engine_at, ask):
    with serving(ScriptedOpenAI(error(400, "odd"))) as one, serving(ScriptedOpenAI(error(401, "who"))) as two:
        engine = engine_at(one.base_url, two.base_url)
        with pytest.raises(BackendError, match="no OpenAI-compatible server can answer: ") as caught:
            ask(engine)
    assert one.base_url in str(caught.value) and two.base_url in str(caught.value)


@pytest.mark.parametrize("name", ["", "two\nlines", "x" * 400])
def test_an_id_that_no_model_has_is_refused(engine_at, name):
    with pytest.raises(UsageError, match="is not the id of a model"):
        engine_at("http://127.0.0.1:1/v1", name=name)


def test_models_are_listed_and_a_server_that_is_away_is_told():
    with serving() as gone:
        pass
    with serving() as server:
        here, away = served([server.base_url, gone.base_url])
    assert [model.id for model in here.models] == [MODEL]
    assert "no OpenAI-compatible server answers" in away.error
