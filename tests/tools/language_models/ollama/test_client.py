import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from line_neurons.agent.errors import BackendError, MissingPartError
from support.fake_ollama import (
    DIGEST,
    MEETING_SECONDS,
    MODEL,
    ScriptedOllama,
    answer,
    body,
    chunk,
    cut,
    dribble,
    endless,
    hang_up,
    meeting,
    proposal,
    raw,
    serving,
    stall,
    status,
    stream,
)

TOO_LARGE = "model requires more system memory (40.1 GiB) than is available (7.2 GiB)"
FAULTS = {
    "503": (status(503, "server busy, please try again"), "server busy"),
    "500": (status(500, "llama runner process has terminated"), "runner process"),
    "429": (status(429, "slow down"), "429"),
    "connection lost during the reply": (cut(chunk('{"reas')), "lost during the reply"),
    "answer that ends without its end": (stream(chunk('{"reas')), "lost during the reply"),
    "no answer at all": (stream(), "sent an empty reply"),
    "only loaded": (stream(chunk(done="load")), "sent an empty reply"),
    "graphics card": (stream({"error": "model runner: CUDA error"}), "graphics card of the Ollama server"),
    "error in mid-answer": (stream(chunk("{"), {"error": "runner crashed"}), "runner crashed"),
    "hung up": (raw(b""), "lost during the reply"),
    "not HTTP": (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "lost during the reply"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_may_pass_is_asked_again_after_longer_and_longer(engine_at, waiting, fault, ask):
    act, _ = FAULTS[fault]
    with serving(ScriptedOllama(act, act, act, answer())) as server:
        assert ask(engine_at(server.url)).concept == "owl"
    assert waiting.slept == [1, 2, 4]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_ends_with_one_line(engine_at, waiting, fault, ask):
    act, said = FAULTS[fault]
    with serving(ScriptedOllama(act)) as server, pytest.raises(BackendError, match=said) as caught:
        ask(engine_at(server.url))
    assert waiting.slept == [1, 2, 4, 8]
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("act", "error", "said"),
    [
        (status(404, "model 'x' not found"), MissingPartError, f"line pull {MODEL}"),
        (status(500, TOO_LARGE), BackendError, "too large for the memory.*40.1 GiB.*smaller model"),
        (stream({"error": "CUDA error: out of memory"}), BackendError, "too large for the memory"),
        (status(400, '"x" does not support chat'), BackendError, "cannot chat.*does not support chat.*ollama:"),
        (status(400, '"x" does not support thinking'), BackendError, "cannot think.*--think off"),
        (
            status(400, "json: cannot unmarshal object into Go struct field ChatRequest.format of type string"),
            BackendError,
            r"too old for replies that follow a schema.*upgrade Ollama to 0\.5",
        ),
        (status(400, "Client sent an HTTP request to an HTTPS server."), BackendError, "speaks HTTPS.*https://"),
        (status(401, "unauthorized"), BackendError, "refuses access.*OLLAMA_API_KEY"),
        (status(404, "404 page not found"), BackendError, "nothing of Ollama's is at .*is there a path before it"),
        (
            status(307, "", Location="http://me:pw@127.0.0.1:1/elsewhere"),
            BackendError,
            r"redirects elsewhere \(307\) to http://127\.0\.0\.1:1/elsewhere",
        ),
        (status(302, "", Location="/login"), BackendError, "redirects elsewhere"),
        (
            body(b"<!doctype html><title>Sign in</title>"),
            BackendError,
            "not Ollama's: a page of the web 'Sign in'.*login page",
        ),
        (status(403, "<html><title>Forbidden</title></html>"), BackendError, r"\(403\): 'Forbidden' \(set OLLAMA"),
        (body(b"\xff\xfe\x00garbage\n"), BackendError, "not Ollama's"),
        (body(b"[1, 2]\n"), BackendError, "not Ollama's"),
        (body(b'{"message": {"role": "assistant", "content": 7}, "done": true}\n'), BackendError, "not Ollama's"),
        (body(b'{"error": {"code": 7}}\n'), BackendError, "not Ollama's"),
    ],
)
def test_a_fault_that_waiting_does_not_mend_is_told_at_once_with_the_remedy(
    engine_at, waiting, act, error, said, ask
):
    with serving(ScriptedOllama(act)) as server, pytest.raises(error, match=said) as caught:
        ask(engine_at(server.url))
    assert waiting.slept == []
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_pulled_is_told_with_the_command_to_pull_it(engine_at, waiting):
    script = ScriptedOllama(models={"other:latest": DIGEST})
    with serving(script) as server, pytest.raises(MissingPartError, match="does not have the model") as caught:
        engine_at(server.url).fingerprint  # noqa: B018
    assert f"line pull {MODEL}" in caught.value.remedy
    assert waiting.slept == []


def test_a_server_that_is_not_there_is_told_at_once_before_a_run_begins(engine_at, waiting):
    with serving() as server:
        pass
    with pytest.raises(BackendError, match=f"no Ollama server answers at {server.url}") as caught:
        engine_at(server.url).fingerprint  # noqa: B018
    assert "ollama serve" in caught.value.remedy
    assert waiting.slept == []


def test_a_server_that_goes_away_is_waited_for(engine_at, waiting, ask):
    with serving() as server:
        engine = engine_at(server.url)
        ask(engine)
    with pytest.raises(BackendError, match="no Ollama server answers"):
        ask(engine, seed=8)
    assert waiting.slept == [1, 2, 4, 8]


@pytest.mark.parametrize("act", [stall, dribble])
def test_a_server_that_never_finishes_is_given_up_and_asked_once_more(engine_at, waiting, act, ask):
    with serving(ScriptedOllama(act)) as server, pytest.raises(BackendError, match=r"within 0\.3 s") as caught:
        ask(engine_at(server.url, timeout=0.3))
    assert "--timeout" in caught.value.remedy
    assert waiting.slept == [1]
    assert len(server.questions) == 2


@pytest.mark.parametrize("part", [json.dumps(chunk("x" * 20_000)).encode() + b"\n", b"x" * 1000])
def test_an_answer_without_end_is_cut_before_it_fills_the_memory(engine_at, waiting, part, ask):
    with serving(ScriptedOllama(endless(part))) as server, pytest.raises(BackendError, match="more than 3 MB"):
        ask(engine_at(server.url))
    assert waiting.slept == []


def test_a_name_and_a_password_are_sent_and_never_told(engine_at, ask):
    with serving(ScriptedOllama(answer(), status(401, "no"))) as server:
        engine = engine_at(server.url.replace("//", "//me:s%40cret@"))
        ask(engine)
        with pytest.raises(BackendError) as caught:
            ask(engine, seed=8)
    assert server.headers[0]["authorization"] == "Basic bWU6c0BjcmV0"
    assert "cret" not in str(caught.value) + engine.fingerprint


def test_questions_go_round_the_servers(engine_at, ask):
    with serving() as one, serving() as two, serving() as three:
        engine = engine_at(one.url, two.url, three.url)
        for seed in range(6):
            ask(engine, seed=seed)
    assert [len(server.questions) for server in (one, two, three)] == [2, 2, 2]


def test_questions_at_the_same_time_go_to_the_server_that_is_least_busy(engine_at, ask):
    together = meeting(2, answer())
    with serving(ScriptedOllama(together)) as one, serving(ScriptedOllama(together)) as two:
        engine = engine_at(one.url, two.url, timeout=PATIENT)
        engine.fingerprint  # noqa: B018
        found = []
        threads = [threading.Thread(target=lambda s=s: found.append(ask(engine, seed=s))) for s in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [reply.concept for reply in found] == ["owl", "owl"]
    assert len(one.questions) == len(two.questions) == 1


def seed_told(handler, question):
    """Answer with a concept that names the question's seed."""
    letter = chr(ord("a") + question["options"]["seed"])
    answer(proposal(f"owl {letter}"))(handler, question)


# Seconds of an answer that waits for others to be asked for, on a machine that is busy with other things.
PATIENT = 2 * MEETING_SECONDS
OWLS = [f"owl {chr(ord('a') + seed)}" for seed in range(16)]


def concepts(engine, ask, threads=16):
    """What 16 questions with seeds from 0, asked by so many threads, are answered with."""
    with ThreadPoolExecutor(threads) as pool:
        return [reply.concept for reply in pool.map(lambda seed: ask(engine, seed=seed), range(16))]


def seeds(server):
    """The seeds of the questions that a server was asked, in order."""
    return sorted(question["options"]["seed"] for question in server.questions)


def test_many_threads_ask_one_server_at_once_and_each_gets_its_own_answer(engine_at, ask):
    with serving(ScriptedOllama(meeting(16, seed_told))) as server:
        assert concepts(engine_at(server.url, timeout=PATIENT), ask) == OWLS
    assert len(server.questions) == 16
    assert server.asked["/api/show"] == 1


@pytest.mark.parametrize("threads", [1, 4])
def test_a_server_is_never_asked_more_at_once_than_there_are_threads_that_ask(engine_at, ask, threads):
    at_work, most, counting = set(), [0], threading.Lock()

    def leave(handler, question):
        with counting:
            at_work.remove(handler)
        seed_told(handler, question)

    together = meeting(threads, leave)

    def counted(handler, question):
        with counting:
            at_work.add(handler)
            most[0] = max(most[0], len(at_work))
        together(handler, question)

    with serving(ScriptedOllama(counted)) as server:
        assert concepts(engine_at(server.url, timeout=PATIENT), ask, threads) == OWLS
    assert most == [threads]


def test_many_questions_at_once_are_shared_out_evenly(engine_at, ask):
    together = meeting(16, seed_told)
    with serving(ScriptedOllama(together)) as one, serving(ScriptedOllama(together)) as two:
        assert concepts(engine_at(one.url, two.url, timeout=PATIENT), ask) == OWLS
    assert [len(server.questions) for server in (one, two)] == [8, 8]


def test_what_a_server_was_asked_when_it_died_is_answered_by_the_others(engine_at, waiting, ask):
    with serving(ScriptedOllama(meeting(8, hang_up))) as one, serving(ScriptedOllama(seed_told)) as two:
        engine = engine_at(one.url, two.url, timeout=PATIENT)
        engine.fingerprint  # noqa: B018
        two.acts = [meeting(8, seed_told)] * 8 + [seed_told]
        assert concepts(engine, ask) == OWLS
    assert waiting.slept == []
    assert len(set(seeds(one))) == 8
    assert seeds(two) == list(range(16))
    assert (len(one.questions), len(two.questions)) == (8, 16)


def test_a_server_that_dies_is_left_out_for_a_while_and_taken_back(engine_at, waiting, ask):
    with serving() as two:
        with serving() as one:
            engine = engine_at(one.url, two.url)
            ask(engine)
        port = int(one.url.rpartition(":")[2])
        for seed in range(3):
            ask(engine, seed=10 + seed)
        assert waiting.slept == []
        assert len(two.questions) == 3
        with serving(port=port) as back:
            ask(engine, seed=20)
            assert not back.asked
            waiting.now += 31
            for seed in range(4):
                ask(engine, seed=30 + seed)
            assert len(back.questions) == 2


def test_a_server_without_the_model_is_left_out(engine_at, waiting, ask):
    with serving(ScriptedOllama(models={})) as one, serving() as two:
        engine = engine_at(one.url, two.url)
        assert DIGEST[:16] in engine.fingerprint
        for seed in range(3):
            ask(engine, seed=seed)
        assert (len(one.questions), len(two.questions)) == (0, 3)
        one.models = two.models
        waiting.now += 31
        ask(engine, seed=3)
    assert len(one.questions) == 1


def test_when_no_server_can_answer_each_is_named_with_what_is_wrong(engine_at, waiting, ask):
    with serving() as gone:
        pass
    with (
        serving(ScriptedOllama(status(500, TOO_LARGE))) as one,
        serving(ScriptedOllama(status(503, "busy"))) as two,
        pytest.raises(BackendError) as caught,
    ):
        ask(engine_at(one.url, two.url, gone.url))
    told = str(caught.value)
    assert all(
        part in told for part in (one.url, "too large", two.url, "busy", gone.url, "no Ollama server answers")
    )
    assert "\n" not in told
    assert waiting.slept == [1, 2, 4, 8]


def test_when_no_server_has_the_model_it_is_a_missing_part(engine_at):
    without = [ScriptedOllama(models={}) for _ in range(2)]
    with serving(without[0]), serving(without[1]), pytest.raises(MissingPartError) as caught:
        engine_at(*(server.url for server in without)).fingerprint  # noqa: B018
    assert caught.value.remedy == f"line pull {MODEL}, or ollama pull {MODEL}"


def test_a_server_with_another_version_of_the_model_is_refused(engine_at):
    with serving() as one, serving(ScriptedOllama(models={MODEL: "f" * 64})) as two:
        with pytest.raises(BackendError, match="another llama") as caught:
            engine_at(one.url, two.url).fingerprint  # noqa: B018
        assert two.url in str(caught.value)
        assert not one.questions + two.questions


def test_a_version_pulled_in_mid_run_is_noticed(engine_at, ask):
    with serving() as server:
        engine = engine_at(server.url)
        ask(engine)
        server.models = {MODEL: "f" * 64}
        with pytest.raises(BackendError, match="another llama"):
            ask(engine, seed=8)
    assert len(server.questions) == 1


def test_the_api_key_of_the_environment_goes_with_every_request(engine_at, ask, monkeypatch):
    from line_neurons.tools.language_models.ollama.models import installed

    monkeypatch.setenv("OLLAMA_API_KEY", "a-key")
    with serving(ScriptedOllama(capabilities=("completion", "thinking"))) as server:
        ask(engine_at(server.url))
        installed([server.url])
    assert {headers.get("authorization") for headers in server.heard} == {"Bearer a-key"}


def test_several_servers_may_stand_in_ollama_host(monkeypatch):
    program = (
        "from line_neurons.tools.language_models.ollama.address import server_urls\n"
        "from line_neurons.tools.language_models.ollama.models import installed\n"
        "import os; print([one.version for one in installed(server_urls(''))], os.environ['OLLAMA_HOST'])"
    )
    with serving() as one, serving() as two:
        hosts = f"{one.url},{two.url.removeprefix('http://')}"
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "OLLAMA_HOST": hosts},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.strip() == f"['0.24.0', '0.24.0'] {hosts}", done.stderr


def test_a_version_that_is_none_does_no_harm(engine_at, ask):
    server = ScriptedOllama(capabilities=("completion", "thinking"), version="9" * 5000)
    with serving(server):
        assert ask(engine_at(server.url)).concept == "owl"


def test_an_answer_nested_without_end_is_one_line(engine_at, ask):
    with serving(ScriptedOllama(body(b"[" * 100_000))) as server, pytest.raises(BackendError) as caught:
        ask(engine_at(server.url))
    assert "\n" not in str(caught.value)
