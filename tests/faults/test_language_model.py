"""A language model that goes, hangs or talks nonsense in the middle of a run: what is said, what is recorded, and
that the run, once the model is back, ends as if nothing had been."""

import json
import os
import socket
import struct

import pytest

from line_neurons.agent.errors import BackendError, LineError, MissingPartError
from line_neurons.graphs.runs.lifecycle import retry, start, work
from line_neurons.tools.language_models.ollama.chat import OllamaEngine
from line_neurons.tools.language_models.proposer import Proposer
from line_neurons.tools.language_models.reply_cache import ReplyCache
from line_neurons.tui.cli.exit_codes import ALL_REFUSED
from support.command_checks import refused
from support.fake_ollama import (
    MODEL,
    ScriptedOllama,
    answer,
    body,
    chunk,
    cut,
    dribble,
    endless,
    proposal,
    raw,
    serving,
    stall,
    status,
    stream,
)
from support.fakes import LAYER, scripted_components
from support.whole_runs import Engine, begun, components_for, outcome

PATIENCE = 5


def by_seed(handler, question):
    """Answer each question with a concept of its seed, as ``whole_runs.Engine`` does."""
    seed = question["options"]["seed"]
    answer(proposal(f"thing {seed % 97}", f"because of {seed}"))(handler, question)


def close(handler, question):
    """Hang up without a word."""
    handler.close_connection = True


def reset(handler, question):
    """Reset the connection in the middle of the answer."""
    handler.begin()
    handler.part(chunk("{"))
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(handler.connection.detach())
    handler.close_connection = True


def asking(store, url, *, timeout=20.0, slept=None, **options):
    """Parts whose language model is the real client of the server at ``url``; waits are only written down."""
    sleep = (slept if slept is not None else []).append
    engine = OllamaEngine(
        MODEL, [url], top_p=0.9, context=4096, reply_tokens=512, timeout=timeout, think="auto", sleep=sleep
    )
    model = Proposer(lambda: engine, lambda: engine.fingerprint, ReplyCache(store / "replies.db"))
    return scripted_components(store, model, **{"iterations": 2, "images": 2, "top": 2, "random": 2} | options)


# Seconds that an answer may take where the fault is that none ends.
SHORT = 1.5
SLOW = {"silence", "a trickle for ever"}
# What a server does in place of an answer; what is said of it; how often it may be asked in all.
FAULTS = {
    "hangs up": (close, "was lost during the reply", PATIENCE),
    "cut in the middle": (cut(chunk('{"reasoning": "x')), "was lost during the reply", PATIENCE),
    "reset in the middle": (reset, "was lost during the reply", PATIENCE),
    "no end": (stream(chunk(proposal())), "was lost during the reply", PATIENCE),
    "silence": (stall, f"did not finish within {SHORT} s", 2),
    "a trickle for ever": (dribble, f"did not finish within {SHORT} s", 2),
    "500": (status(500, "llama runner process has terminated"), "failed (500): llama runner", PATIENCE),
    "502": (status(502), "failed (502)", PATIENCE),
    "429": (status(429, "busy"), "failed (429): busy", PATIENCE),
    "404": (status(404, "model not found"), "does not have the model", 1),
    "a page": (body(b"<!doctype html><h1>Hello</h1>"), "a reply that is not Ollama's", 1),
    "half of an answer": (body(json.dumps(chunk("x")).encode()[:30]), "a reply that is not Ollama's", 1),
    "no UTF-8": (body(b'{"message": {"content": "\xff\xfe"}}\n'), "a reply that is not Ollama's", 1),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "was lost during the reply", PATIENCE),
    "another's protocol": (body(b'{"choices": []}\n'), "", PATIENCE),
    "without end": (endless(b" " * 65_536), "answered with more than", 1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_server_that_fails_in_the_middle_stops_the_run_which_ends_as_undisturbed_once_it_is_mended(
    tmp_path, undisturbed, name
):
    fault, said, asked = FAULTS[name]
    with serving(ScriptedOllama(by_seed, by_seed, fault)) as server:
        slept = []
        components = asking(tmp_path, server.url, timeout=SHORT if name in SLOW else 20.0, slept=slept)
        run = start(components, LAYER, ["0-1"])
        with pytest.raises(LineError) as caught:
            work(components, run)
        assert isinstance(caught.value, BackendError | MissingPartError)
        assert said in str(caught.value)
        assert caught.value.remedy
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
        assert len(server.questions) <= 2 + asked
        assert sum(slept) <= 1 + 2 + 4 + 8
        stopped, unbegun = components.runs.units(run.id)
        assert (stopped.status, unbegun.status) == ("interrupted", "pending")
        assert stopped.error == str(caught.value)[:300]
        assert components.runs.run(run.id).status == "failed"
        server.acts[:] = [by_seed]
        mended = asking(tmp_path, server.url)
        assert work(mended, run).status == "finished"
        assert outcome(mended, run) == undisturbed


@pytest.mark.parametrize("name", ["500", "hangs up", "429", "silence"])
def test_a_server_that_is_back_in_time_leaves_no_trace(tmp_path, undisturbed, name):
    fault, _, _ = FAULTS[name]
    with serving(ScriptedOllama(by_seed, fault, by_seed)) as server:
        slept = []
        components = asking(tmp_path, server.url, timeout=SHORT if name in SLOW else 20.0, slept=slept)
        run = start(components, LAYER, ["0-1"])
        assert work(components, run).status == "finished"
        assert outcome(components, run) == undisturbed
    assert slept == [1.0]


def test_a_server_that_is_gone_from_the_start_leaves_nothing_behind(tmp_path):
    with serving() as server:
        gone = server.url
    components = asking(tmp_path, gone)
    with pytest.raises(BackendError, match="no Ollama server answers"):
        start(components, LAYER, ["0-1"])
    assert components.runs.names() == []


def test_a_server_that_goes_in_the_middle_and_comes_back_elsewhere_is_gone_on_with(tmp_path, undisturbed):
    with serving(ScriptedOllama(by_seed, by_seed, close)) as server:
        components = asking(tmp_path, server.url)
        run = start(components, LAYER, ["0-1"])

        def leave(progress):
            if progress.node == "update":
                server.acts[:] = [close]

        with pytest.raises(BackendError):
            work(components, run, leave)
    with pytest.raises(BackendError, match="no Ollama server answers"):
        work(asking(tmp_path, server.url), run)
    with serving(ScriptedOllama(by_seed)) as other:
        mended = asking(tmp_path, other.url)
        work(mended, run)
        assert outcome(mended, run) == undisturbed


NONSENSE = {
    "prose": "I would say that it is an owl.",
    "half": '{"reasoning": "birds of prey", "conc',
    "a page": "<html><body>502 Bad Gateway</body></html>",
    "another schema": json.dumps({"answer": "owl"}),
    "JSON in JSON": json.dumps(json.dumps({"reasoning": "x", "concept": "owl"})),
    "a list": json.dumps([{"reasoning": "x", "concept": "owl"}]),
    "nothing": "",
    "no concept": proposal(""),
    "a long one": proposal("owl " * 2000),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_recorded_and_asked_for_anew_so_often_and_no_more(tmp_path, name):
    script = ScriptedOllama(answer(NONSENSE[name]))
    with serving(script) as server:
        components = asking(tmp_path, server.url, retries=2)
        run = start(components, LAYER, ["0"])
        assert work(components, run).status == "finished"
        steps = [step for step in components.runs.steps(run.id, 0) if step.step]
        assert [step.outcome for step in steps] == 3 * ["invalid", "invalid", "invalid", "stalled"]
        assert all(step.detail["reason"] for step in steps if step.outcome == "invalid")
        assert steps[0].reply == NONSENSE[name]
        assert len(server.questions) == 9
        (unit,) = components.runs.units(run.id)
        assert (unit.status, unit.origin) == ("finished", "predefined")


def test_nonsense_once_costs_one_attempt(tmp_path):
    with serving(ScriptedOllama(answer("{"), by_seed)) as server:
        components = asking(tmp_path, server.url)
        run = start(components, LAYER, ["0"])
        work(components, run)
        first = [step for step in components.runs.steps(run.id, 0) if step.step == 1]
        assert [step.outcome for step in first] == ["invalid", "scored"]


class Failing(Engine):
    """An engine that raises from its third question on, until it is mended."""

    def __init__(self, error):
        self.error = error
        self.asked = 0

    def complete(self, prompt, *, seed, temperature):
        self.asked += 1
        if self.error and self.asked >= 3:
            raise self.error
        return super().complete(prompt, seed=seed, temperature=temperature)


@pytest.mark.parametrize(
    "error",
    [BackendError("the embedded language model failed: no more memory"), RuntimeError("llama_decode: -3"),
     MemoryError(), ZeroDivisionError("division by zero")],
)  # fmt: skip
def test_an_engine_that_raises_fails_its_units_which_are_taken_again(tmp_path, undisturbed, error):
    engine = Failing(error)
    components, run = begun(tmp_path, engine=engine, max_consecutive_failures=5)
    assert work(components, run).status == "failed"
    assert [unit.status for unit in components.runs.units(run.id)] == ["failed", "failed"]
    assert all(unit.error for unit in components.runs.units(run.id))
    assert engine.asked == 4
    engine.error = None
    assert retry(components.runs, run) == 2
    mended = components_for(tmp_path)
    assert work(mended, run).status == "finished"
    assert outcome(mended, run) == undisturbed


@pytest.mark.e2e
def test_the_command_says_in_one_line_what_failed_and_goes_on_to_the_same_labels(
    line, assets, short_waits, tmp_path
):
    def labels(store, command):
        code, out, err = line(*command, "--store", store, "--json")
        # What the scripted server answers may be refused throughout: nothing that the bank can image.
        assert code in {0, ALL_REFUSED}, err
        run = json.loads(out)
        shown = json.loads(line("show", run["id"], "18", "--store", store, "--json")[1])
        return [
            (step["step"], step["attempt"], step["outcome"], step["concept"], step["score"], step["reply"])
            for step in shown["history"]
        ]

    with serving(ScriptedOllama(by_seed)) as server:
        asked = [
            "torchvision:mobilenet_v2",
            "classifier.1",
            "18",
            "--llm",
            f"ollama:{MODEL}",
            "--ollama",
            server.url,
        ]
        (tmp_path / "words.txt").write_text("owl\nhammer\nrose\nviolin\n")
        asked += ["--control", "none", "--init", "vocabulary", "--vocabulary", str(tmp_path / "words.txt")]
        asked += ["--generator", "bank", "--top", "2", "--random", "2", "--images", "2", "--iterations", "2"]
        whole = labels(tmp_path / "whole", ["explain", *asked])
        server.acts[:] = [by_seed, body(b"<!doctype html>")]
        store = tmp_path / "disturbed"
        code, out, err = line("explain", *asked, "--store", store)
        told = refused((code, out, err.strip().splitlines()[-1]), "not Ollama's", "line resume", str(store))
        assert "Traceback" not in err + told
        server.acts[:] = [by_seed]
        assert labels(store, ["resume", "--ollama", server.url]) == whole
