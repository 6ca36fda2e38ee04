import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from line_neurons.agent.errors import MissingPartError, ReplyError, UsageError
from line_neurons.agent.presets import OLLAMA_SAMPLING
from line_neurons.agent.prompts import propose_prompt
from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.agent.settings import Settings, revised
from line_neurons.tools.language_models import llama_cpp as embedded
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.proposer import Proposer
from line_neurons.tools.language_models.registry import RandomWords, default_parallel, open_language_model
from line_neurons.tools.language_models.reply_cache import ReplyCache
from support.fake_ollama import DIGEST, MODEL, serving

BOARD = Scoreboard((Entry("crow", 9.0), Entry("magpie", 7.0), Entry("hammer", 0.1)), 10)
PROMPT = propose_prompt(BOARD, ["robin"])


class Queue:
    """An engine that answers from a list and counts."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    def complete(self, prompt, *, seed, temperature):
        self.asked += 1
        return self.answers[(self.asked - 1) % len(self.answers)]


def good(concept):
    return Completion(json.dumps({"reasoning": "r", "concept": concept}), False)


def test_a_kept_reply_needs_no_engine(tmp_path):
    engine = Queue(good("owl"))
    first = Proposer(lambda: engine, "m", ReplyCache(tmp_path / "r.db")).propose(PROMPT, seed=1, temperature=0.5)

    def none():
        raise AssertionError("the engine was asked for")

    again = Proposer(none, "m", ReplyCache(tmp_path / "r.db")).propose(PROMPT, seed=1, temperature=0.5)
    assert again == first
    assert engine.asked == 1


@pytest.mark.parametrize(
    "change",
    [{"seed": 2}, {"temperature": 0.7}, {"prompt": propose_prompt(BOARD, [])}, {"fingerprint": "n"}],
)
def test_another_seed_temperature_prompt_or_model_is_asked_anew(tmp_path, change):
    engine = Queue(good("owl"), good("kite"))
    asked = {"prompt": PROMPT, "seed": 1, "temperature": 0.5, "fingerprint": "m"}
    concepts = []
    for call in (asked, asked | change):
        proposer = Proposer(lambda: engine, call.pop("fingerprint"), ReplyCache(tmp_path / "r.db"))
        concepts.append(proposer.propose(call.pop("prompt"), **call).concept)
    assert concepts == ["owl", "kite"]


def test_unusable_replies_are_kept_too_so_that_a_replay_refuses_them_again(tmp_path):
    engine = Queue(Completion('{"reasoning": "r", "conc', True))
    proposer = Proposer(lambda: engine, "m", ReplyCache(tmp_path / "r.db"))
    for _ in range(2):
        with pytest.raises(ReplyError) as caught:
            proposer.propose(PROMPT, seed=1, temperature=0.5)
        assert caught.value.kind == "truncated"
    assert engine.asked == 1


def test_random_words_never_repeat_what_was_tried_while_there_are_others():
    engine = RandomWords(["crow", "magpies", "robin", "owl"])
    answers = {json.loads(engine.complete(PROMPT, seed=s, temperature=0).text)["concept"] for s in range(20)}
    assert answers == {"owl"}


def test_random_words_are_a_function_of_the_seed_and_reach_the_whole_vocabulary():
    engine = RandomWords([f"word{letter}" for letter in "abcdefgh"])
    drawn = [engine.complete(PROMPT, seed=seed, temperature=0).text for seed in range(200)]
    assert drawn == [engine.complete(PROMPT, seed=seed, temperature=0).text for seed in range(200)]
    assert len(set(drawn)) == 8


@pytest.mark.parametrize("spec", ["", "gpt", "embedded:none", "random:x", "ollama", "ollama:", "langchain:"])
def test_an_unknown_model_is_refused_with_the_known_ones(tmp_path, spec):
    with pytest.raises(UsageError) as caught:
        open_language_model(spec, settings=Settings(), assets=tmp_path, cache=None, words=lambda: ["a"])
    assert "qwen" in caught.value.remedy
    if not spec.startswith("embedded"):
        assert "ollama:NAME" in caught.value.remedy


def test_missing_weights_are_told_when_a_reply_must_be_computed(tmp_path):
    model = open_language_model(
        "embedded", settings=Settings(), assets=tmp_path, cache=tmp_path / "r.db", words=list
    )
    with pytest.raises(MissingPartError, match="not here"):
        model.propose(PROMPT, seed=0, temperature=0.5)


def test_the_settings_reach_the_servers_of_ollama(tmp_path):
    with serving() as server:
        settings = Settings(ollama=server.url, context=2048, reply_tokens=99, top_p=0.5, think="off")
        model = open_language_model(
            f"ollama:{MODEL}", settings=settings, assets=tmp_path, cache=tmp_path / "r.db", words=list
        )
        assert not server.asked
        assert model.propose(PROMPT, seed=1, temperature=0.5).concept == "owl"
        assert model.fingerprint.endswith(
            " top_p=0.5 top_k=40 min_p=0.0 typical_p=1.0 repeat_penalty=1.1 repeat_last_n=64 presence_penalty=0.0 "
            "frequency_penalty=0.0 context=2048 reply_tokens=99 think=off"
        )
        assert model.identity() == {"sha256": DIGEST, "quantisation": "Q4_K_M", "parameters": "8.0B"}
    assert server.questions[0]["options"] == {
        "top_p": 0.5, "top_k": 40, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.1, "repeat_last_n": 64,
        "presence_penalty": 0.0, "frequency_penalty": 0.0,
        "num_ctx": 2048, "num_predict": 99, "seed": 1, "temperature": 0.5,
    }  # fmt: skip


def test_an_option_of_the_sampling_that_a_run_has_no_record_of_is_not_sent(tmp_path):
    recorded = {name: value for name, value in Settings().model_dump().items() if name not in OLLAMA_SAMPLING}
    with serving() as server:
        settings = revised(recorded | {"ollama": server.url}, {})
        model = open_language_model(f"ollama:{MODEL}", settings=settings, assets=tmp_path, cache=None, words=list)
        model.propose(PROMPT, seed=1, temperature=0.5)
        assert (
            model.fingerprint
            == f"ollama:{MODEL} digest={DIGEST[:16]} top_p=0.9 context=4096 reply_tokens=512 think=off"
        )
    assert server.questions[0]["options"].keys().isdisjoint(OLLAMA_SAMPLING)
    assert revised(recorded | {"llm": "random"}, {}).top_k == 40


def test_opening_a_chat_model_of_langchain_imports_nothing(tmp_path):
    settings = Settings(langchain={"responses": ['{"reasoning": "r", "concept": "owl"}']})
    for path in ("no_such_package.Chat", "langchain_core.language_models.FakeListChatModel"):
        model = open_language_model(
            f"langchain:{path}", settings=settings, assets=tmp_path, cache=None, words=list
        )
        if path.startswith("no"):
            with pytest.raises(MissingPartError, match="no_such_package"):
                model.fingerprint  # noqa: B018
        else:
            assert model.propose(PROMPT, seed=1, temperature=0.5).concept == "owl"


def test_threads_that_ask_at_once_share_one_engine():
    made = []

    def make():
        made.append(Queue(good("owl")))
        return made[-1]

    proposer = Proposer(make, "m", None)
    threads = [threading.Thread(target=proposer.propose, args=(PROMPT,), kwargs={"seed": s, "temperature": 0.5})
               for s in range(8)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert made[0].asked == 8


def test_the_embedded_model_is_as_many_engines_as_asked_at_once_which_share_the_cores(tmp_path, monkeypatch):
    opened, all_asked = [], threading.Barrier(2)

    class Engine:
        def __init__(self, path, *, top_p, threads):
            opened.append((path.name, top_p, threads))

        def complete(self, prompt, *, seed, temperature):
            all_asked.wait(20)
            return good("owl")

    monkeypatch.setattr(embedded, "LlamaCppEngine", Engine)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)))
    model = open_language_model(
        "embedded", settings=Settings(llm_parallel=2), assets=tmp_path, cache=tmp_path / "r.db", words=list
    )
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(model.propose, PROMPT, seed=seed, temperature=0.5) for seed in range(2)]
        assert [reply.result().concept for reply in asked] == ["owl", "owl"]
    assert opened == [("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", 0.9, 2)] * 2


@pytest.mark.parametrize(("parallel", "cores", "threads"), [(1, 3, 3), (3, 3, 1), (256, 3, 1)])
def test_the_embedded_model_has_no_more_threads_than_there_are_cores(
    tmp_path, monkeypatch, parallel, cores, threads
):
    opened, answered = [], []

    class Engine:
        def __init__(self, path, *, top_p, threads):
            opened.append(threads)

        def complete(self, prompt, *, seed, temperature):
            answered.append(seed)
            time.sleep(0.001)
            return good("owl")

    monkeypatch.setattr(embedded, "LlamaCppEngine", Engine)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    settings = Settings(llm_parallel=parallel)
    model = open_language_model(
        "embedded", settings=settings, assets=tmp_path, cache=tmp_path / "r.db", words=list
    )
    with ThreadPoolExecutor(8) as askers:
        list(askers.map(lambda seed: model.propose(PROMPT, seed=seed, temperature=0.5), range(24)))
    assert len(answered) == 24
    assert set(opened) == {threads}
    assert sum(opened) <= cores


def test_the_number_of_engines_is_no_part_of_what_a_run_is_held_to(tmp_path):
    one, four = (
        open_language_model(
            "embedded", settings=Settings(llm_parallel=k), assets=tmp_path, cache=tmp_path / "r.db", words=list
        )
        for k in (1, 4)
    )
    assert one.fingerprint == four.fingerprint


@pytest.mark.parametrize(
    ("settings", "cores", "parallel"),
    [
        ({"llm": "embedded"}, 2, 2),
        ({"llm": "embedded:smollm2-135m"}, 64, 4),
        ({"llm": f"ollama:{MODEL}", "ollama": "gpu1"}, 2, 4),
        ({"llm": f"ollama:{MODEL}", "ollama": "gpu1, gpu2,http://gpu3"}, 2, 12),
        ({"llm": "openai:model", "base_url": "gpu1:8000"}, 2, 32),
        ({"llm": "openai:model", "base_url": "gpu1:8000,gpu2:8000"}, 2, 64),
        ({"llm": "openai:model", "base_url": ",".join(f"gpu{n}" for n in range(20))}, 2, 256),
        ({"llm": "langchain:package.module.Class"}, 2, 4),
        ({"llm": "random"}, 2, 1),
    ],
)
def test_how_many_questions_a_batch_asks_at_once_depends_on_who_answers(monkeypatch, settings, cores, parallel):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert default_parallel(Settings(**settings)) == parallel


def test_a_runaway_of_blanks_is_refused_without_searching_for_thoughts_from_each():
    engine = Queue(Completion(" \n" * 1_000_000, False))
    with pytest.raises(ReplyError):
        Proposer(lambda: engine, "m", None).propose(PROMPT, seed=1, temperature=0.5)
