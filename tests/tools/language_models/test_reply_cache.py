import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from line_neurons.agent.errors import BackendError, StoreError
from line_neurons.agent.ports import Message, Prompt
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.proposer import Proposer
from line_neurons.tools.language_models.reply_cache import ReplyCache

PROMPT = Prompt((Message("user", "?"),), shared=0)


def good(concept):
    return Completion(json.dumps({"reasoning": "r", "concept": concept}), False)


def test_a_cache_that_cannot_be_opened_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        ReplyCache(tmp_path / "file" / "r.db").get("p", "m")
    assert "\n" not in str(caught.value)


def test_opening_a_cache_writes_nothing(tmp_path):
    ReplyCache(tmp_path / "store" / "r.db")
    assert not (tmp_path / "store").exists()


def test_a_kept_reply_is_read_without_a_warning_to_the_user(tmp_path):
    cache = ReplyCache(tmp_path / "r.db")
    cache.put("p", "m", good("owl"))
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        again = ReplyCache(tmp_path / "r.db")
        assert again.get("p", "m") == good("owl")
    assert not [str(one.message) for one in shown if "langchain" in one.filename or "allowed" in str(one.message)]


def test_a_cache_that_fails_in_mid_run_is_one_line(tmp_path):
    cache = ReplyCache(tmp_path / "r.db")
    cache.put("p", "m", good("owl"))
    with sqlite3.connect(tmp_path / "r.db") as database:
        database.execute("drop table full_llm_cache")
    for use in (lambda: cache.get("p", "m"), lambda: cache.put("p", "m", good("owl"))):
        with pytest.raises(StoreError, match="no such table") as caught:
            use()
        assert "\n" not in str(caught.value)


def test_a_cache_may_lie_in_a_folder_of_any_name(tmp_path):
    ReplyCache(tmp_path / "a?b=c" / "r.db").put("p", "m", good("owl"))
    assert (tmp_path / "a?b=c" / "r.db").is_file()


def at_once(call, arguments):
    """What ``call`` gives or raises for each argument, each in a thread of its own that starts with the others."""
    start = threading.Barrier(len(arguments))

    def ask(argument):
        start.wait(20)
        try:
            return call(argument)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(arguments)) as threads:
        return list(threads.map(ask, arguments))


class Held:
    """An engine that answers when it is let, and counts."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []
        self.begun = threading.Event()
        self.may_answer = threading.Event()

    def complete(self, prompt, *, seed, temperature):
        self.asked.append(seed)
        self.begun.set()
        assert self.may_answer.wait(20)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("answer", [good("owl"), BackendError("no model")])
def test_threads_that_ask_the_same_question_at_once_share_one_answer(tmp_path, answer):
    engine = Held(answer)
    proposer = Proposer(lambda: engine, "m", ReplyCache(tmp_path / "r.db"))

    def ask(number):
        if number:
            return proposer.propose(PROMPT, seed=1, temperature=0.5).concept
        assert engine.begun.wait(20)
        # Meanwhile the others find the question asked.
        time.sleep(0.2)
        return engine.may_answer.set()

    found = at_once(ask, range(9))[1:]
    if isinstance(answer, Exception):
        # One that came late would ask anew.
        assert len(engine.asked) < 8
        assert found == [answer] * 8
    else:
        assert engine.asked == [1]
        assert found == ["owl"] * 8


def test_a_question_that_failed_is_asked_again_the_next_time(tmp_path):
    answers = [BackendError("no model"), good("owl")]
    cache = ReplyCache(tmp_path / "r.db")

    def ask():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(BackendError):
        cache.get_or_complete("p", "m", ask)
    assert [cache.get_or_complete("p", "m", ask) for _ in range(2)] == [good("owl")] * 2


def test_without_a_cache_the_same_question_at_once_is_asked_each_time():
    both = threading.Barrier(2)

    class Engine:
        def complete(self, prompt, *, seed, temperature):
            both.wait(20)
            return good("owl")

    proposer = Proposer(Engine, "m", None)
    replies = at_once(lambda seed: proposer.propose(PROMPT, seed=seed, temperature=0.5).concept, [1, 1])
    assert replies == ["owl", "owl"]


def test_the_reply_that_was_kept_first_stays(tmp_path):
    first, second = (ReplyCache(tmp_path / "r.db") for _ in range(2))
    assert first.put("p", "m", good("owl")) == good("owl")
    assert second.put("p", "m", good("kite")) == good("owl")
    assert [cache.get("p", "m") for cache in (first, second)] == [good("owl")] * 2


def test_a_reader_does_not_wait_for_a_writer_and_another_writer_does(tmp_path):
    cache = ReplyCache(tmp_path / "r.db")
    cache.put("p", "m", good("owl"))
    with sqlite3.connect(tmp_path / "r.db", check_same_thread=False) as other:
        other.execute("begin exclusive")
        assert cache.get("p", "m") == good("owl")
        threading.Timer(0.3, other.rollback).start()
        cache.put("q", "m", good("kite"))
    assert cache.get("q", "m") == good("kite")


PROGRAM = """
import json, os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.reply_cache import ReplyCache

import langchain_community.cache  # so that both programs begin together
print("ready", flush=True)
sys.stdin.readline()
cache = ReplyCache(Path(sys.argv[1]))
with ThreadPoolExecutor(8) as threads:
    reply = lambda: Completion(str(os.getpid()), False)
    ask = lambda number: cache.get_or_complete(str(number % 40), "m", reply).text
    print(json.dumps(list(threads.map(ask, range(80)))))
"""


def test_two_processes_with_many_threads_share_a_new_cache_and_its_answers(tmp_path):
    programs = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path / "r.db")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        for _ in range(2)
    ]
    for program in programs:
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        program.stdin.write("\n")
        program.stdin.flush()
    told = [program.communicate(timeout=60) for program in programs]
    assert [program.returncode for program in programs] == [0, 0], [said for _, said in told]
    first, second = (json.loads(answers) for answers, _ in told)
    assert first == second
    assert first[:40] == first[40:]
