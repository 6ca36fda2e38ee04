import pytest

from line_neurons.agent.errors import BackendError, ReplyError, UsageError
from line_neurons.agent.ports import Message, Prompt
from line_neurons.agent.replies import REPLY_SCHEMA
from line_neurons.tools.language_models.ollama.chat import model_name
from line_neurons.tools.language_models.proposer import MAX_REPLY_CHARACTERS, Proposer
from line_neurons.tools.language_models.reply_cache import ReplyCache
from support.fake_ollama import (
    DIGEST,
    MODEL,
    ScriptedOllama,
    answer,
    chunk,
    proposal,
    serving,
    stream,
)


def test_the_model_is_asked_with_the_schema_the_seed_and_the_settings(engine_at, ask, prompt):
    with serving() as server:
        sampling = {"top_k": None, "min_p": 0.0}
        found = ask(engine_at(server.url, top_p=0.8, sampling=sampling, context=2048, reply_tokens=300))
    assert (found.concept, found.reasoning) == ("owl", "birds of prey")
    (question,) = server.questions
    assert question["format"] == REPLY_SCHEMA
    assert list(question["format"]["properties"]) == ["reasoning", "concept"]
    assert question["options"] == {
        "top_p": 0.8, "min_p": 0.0, "num_ctx": 2048, "num_predict": 300, "seed": 7, "temperature": 0.5,
    }  # fmt: skip
    assert [(message["role"], message["content"]) for message in question["messages"]] == [
        (message.role, message.content) for message in prompt.messages
    ]
    assert "think" not in question


def test_nothing_is_asked_before_it_is_needed(engine_at):
    with serving() as server:
        engine = engine_at(server.url)
        Proposer(lambda: engine, lambda: engine.fingerprint, None)
        assert not server.asked


def test_a_kept_reply_keeps_the_thoughts_and_is_not_asked_again(engine_at, tmp_path, ask):
    script = ScriptedOllama(answer(thinking="hm"), capabilities=("completion", "thinking"))
    with serving(script) as server:
        replies = [ask(engine_at(server.url), ReplyCache(tmp_path / "replies.db")) for _ in range(2)]
    assert replies[0] == replies[1]
    assert replies[0].reasoning == "hm birds of prey"
    assert len(server.questions) == 1


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (answer('{"reasoning": "r", "conc', done="length"), "truncated"),
        (answer(proposal(), done="length"), "truncated"),
        (answer(""), "empty"),
        (answer("   \n "), "empty"),
        (answer("An owl."), "not_json"),
        (answer("Here you are: " + proposal()), "not_json"),
        (answer(proposal() + " Hope that helps!"), "not_json"),
        (answer("```json\n" + proposal() + "\n```"), "not_json"),
        (answer(proposal("owl") + proposal("kite")), "not_json"),
        (answer('["owl", "kite"]'), "schema"),
        (answer('{"reasoning": "r", "concept": ["owl", "kite"]}'), "schema"),
        (answer('{"reasoning": "r", "concept": 7}'), "schema"),
        (answer('{"reasoning": "r", "concept": "owl", "concept": "kite"}'), "schema"),
        (answer('{"reasoning": "r", "concept": "owl", "second": "kite"}'), "schema"),
        (answer('{"concept": "owl"}'), "schema"),
        (answer(proposal("owl, kite")), "concept"),
        (answer(proposal("a bird that hunts at night")), "concept"),
        (answer("<think>never closed " + proposal()), "empty"),
        (answer(proposal(reasoning="x" * (MAX_REPLY_CHARACTERS + 1))), "truncated"),
    ],
)
def test_an_answer_that_is_no_proposal_is_refused_with_what_was_wrong(engine_at, act, kind, ask):
    with serving(ScriptedOllama(act)) as server, pytest.raises(ReplyError) as caught:
        ask(engine_at(server.url))
    assert caught.value.kind == kind
    assert len(caught.value.raw) <= MAX_REPLY_CHARACTERS


@pytest.mark.parametrize(
    ("act", "reasoning"),
    [
        (answer(thinking="Owls\nhunt."), "Owls hunt. birds of prey"),
        (answer("<think>Owls\nhunt.</think>\n" + proposal()), "Owls hunt. birds of prey"),
        (answer("Owls hunt.</think>" + proposal()), "Owls hunt. birds of prey"),
        (answer("<think></think>" + proposal()), "birds of prey"),
        (answer(proposal(reasoning="a </think> b")), "a </think> b"),
    ],
)
def test_thoughts_are_reasoning_and_not_the_answer(engine_at, act, reasoning, ask):
    script = ScriptedOllama(act, capabilities=("completion", "thinking"))
    with serving(script) as server:
        found = ask(engine_at(server.url))
    assert (found.concept, found.reasoning) == ("owl", reasoning)
    assert "hunt" not in found.raw


def test_a_prompt_that_cannot_fit_into_the_context_is_not_sent(engine_at):
    long = Prompt((Message("user", "a word " * 400),))
    with serving() as server, pytest.raises(BackendError, match="does not fit into the context of 512 tokens"):
        engine_at(server.url, context=512).complete(long, seed=1, temperature=0.5)
    assert not server.questions


def test_a_prompt_that_the_server_had_to_cut_is_not_taken_for_answered(engine_at, ask):
    script = ScriptedOllama(stream(chunk(proposal()), chunk(done="stop") | {"prompt_eval_count": 2048}))
    with serving(script) as server:
        assert ask(engine_at(server.url, context=2049)).concept == "owl"
        with pytest.raises(BackendError, match="does not fit into the context of 2048 tokens") as caught:
            ask(engine_at(server.url, context=2048))
    assert "--context" in caught.value.remedy


def test_endless_thoughts_are_cut_and_an_unusable_answer_keeps_them(engine_at, ask):
    script = ScriptedOllama(answer("x", thinking="hm " * 9000), capabilities=("thinking",))
    with serving(script) as server, pytest.raises(ReplyError) as caught:
        ask(engine_at(server.url))
    assert 7900 < len(caught.value.reasoning) <= 8000


@pytest.mark.parametrize(
    ("think", "can", "version", "told", "held"),
    [
        ("auto", True, "0.24.0", True, True),
        ("auto", True, "0.12.4", True, True),
        ("auto", True, "0.12.3", False, True),
        ("auto", True, "0.9.3-custom", False, True),
        ("auto", True, "0.0.0", True, True),
        ("on", True, "0.9.3", True, False),
        ("on", True, "0.24.0", True, True),
        ("off", True, "0.24.0", False, True),
        ("auto", False, "0.24.0", None, True),
        ("off", False, "0.24.0", None, True),
    ],
)
def test_a_model_thinks_where_it_can_and_its_answer_still_keeps_to_the_schema(
    engine_at, think, can, version, told, held, ask
):
    script = ScriptedOllama(capabilities=("completion", "thinking") if can else ("completion",), version=version)
    with serving(script) as server:
        engine = engine_at(server.url, think=think, context=4096, reply_tokens=512)
        ask(engine)
    (question,) = server.questions
    assert question.get("think") is told
    assert ("format" in question) is held
    assert question["options"]["num_predict"] == (512 + 2048 if told else 512)
    assert engine.fingerprint.endswith("think=on" if told else "think=off")


@pytest.mark.parametrize(
    ("think", "done", "told"),
    [
        ("off", "stop", "returned an empty reply; try --think on"),
        ("auto", "stop", "returned an empty reply; try --think off"),
        (
            "auto",
            "length",
            "returned an empty reply: all 2560 tokens that it may use went into its thoughts; try --think off",
        ),
    ],
)
def test_a_thinking_model_that_answers_nothing_is_told_of_once_with_what_to_do(
    engine_at, ask, caplog, think, done, told
):
    script = ScriptedOllama(answer("", thinking="hm", done=done), capabilities=("completion", "thinking"))
    with serving(script) as server:
        engine = engine_at(server.url, think=think)
        for seed in range(2):
            with pytest.raises(ReplyError):
                ask(engine, seed=seed)
    (line,) = caplog.messages
    assert told in line
    assert "--reply-tokens" in line


def test_an_embedding_model_is_refused_before_it_is_asked_anything(engine_at):
    script = ScriptedOllama(capabilities=("embedding",))
    with serving(script) as server, pytest.raises(UsageError, match="cannot chat: it is an embedding model"):
        engine_at(server.url).fingerprint  # noqa: B018
    assert not server.questions


def test_a_model_is_asked_for_by_the_name_that_the_server_has_for_it_in_its_capitals(engine_at, ask):
    name = "hf.co/someone/Model-GGUF:Q4_K_M"
    with serving(ScriptedOllama(models={name: DIGEST})) as server:
        engines = [engine_at(server.url, name=given) for given in (name, name.lower())]
        for engine in engines:
            ask(engine)
    assert [question["model"] for question in server.questions] == [name, name]
    assert engines[0].fingerprint == engines[1].fingerprint
    assert engines[0].fingerprint.startswith(f"ollama:{name.lower()} ")


def test_a_model_that_cannot_think_is_not_made_to(engine_at):
    with serving() as server, pytest.raises(UsageError, match="cannot think"):
        engine_at(server.url, think="on").fingerprint  # noqa: B018
    assert not server.questions


def test_the_fingerprint_names_the_model_and_what_decides_its_answers_but_not_where_it_runs(engine_at):
    with serving() as one, serving() as two:
        first = engine_at(one.url, name="Llama3.1:8B", timeout=5).fingerprint
        assert first == engine_at(two.url, timeout=50).fingerprint
        others = [{"top_p": 0.5}, {"context": 2048}, {"reply_tokens": 100}]
        others += [{"sampling": {"top_k": top_k}} for top_k in (20, 40)]
        assert len({first, *(engine_at(one.url, **other).fingerprint for other in others)}) == 6
        two.models = {MODEL: "f" * 64}
        assert engine_at(two.url).fingerprint != first
    assert first == f"ollama:{MODEL} digest={DIGEST[:16]} top_p=0.9 context=4096 reply_tokens=512 think=off"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("llama3.1", "llama3.1:latest"),
        ("llama3.1:latest", "llama3.1:latest"),
        ("library/llama3.1", "llama3.1:latest"),
        ("models.example/library/llama3.1:8b", "llama3.1:8b"),
        ("Library/Llama3.1", "Llama3.1:latest"),
        ("hf.co/someone/Model-GGUF:Q4_K_M", "hf.co/someone/Model-GGUF:Q4_K_M"),
        ("box:5000/team/model", "box:5000/team/model:latest"),
    ],
)
def test_names_of_the_same_model_are_the_same(given, name):
    assert model_name(given) == name


@pytest.mark.parametrize("name", ["two words", "../../etc", "a:b:", "[red]x", "x" * 400, ""])
def test_a_name_that_no_model_can_have_is_refused(name):
    with pytest.raises(UsageError):
        model_name(name)
