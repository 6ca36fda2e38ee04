import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from line_neurons.agent.errors import BackendError
from line_neurons.agent.ports import Message, Prompt
from line_neurons.tools.language_models.engine import Completion, EnginePool

PROMPT = Prompt((Message("user", "?"),), shared=0)


class Serial:
    """An engine that says which seed it was asked with, and fails if it is asked two things at once."""

    def __init__(self, before=lambda: None):
        self.before = before
        self.asking = threading.Lock()
        self.asked = 0

    def complete(self, prompt, *, seed, temperature):
        assert self.asking.acquire(blocking=False), "asked two things at once"
        try:
            self.before()
            self.asked += 1
            return Completion(str(seed), False)
        finally:
            self.asking.release()


def ask(pool, seed):
    return pool.complete(PROMPT, seed=seed, temperature=0.5).text


def opening(engines, before=lambda: None):
    def make():
        engines.append(Serial(before))
        return engines[-1]

    return make


def test_no_engine_is_opened_before_one_is_wanted_and_one_is_enough_for_questions_in_turn():
    engines = []
    pool = EnginePool(opening(engines), 4)
    assert engines == []
    assert [ask(pool, seed) for seed in range(5)] == ["0", "1", "2", "3", "4"]
    assert [engine.asked for engine in engines] == [5]


def test_questions_at_the_same_time_have_an_engine_each():
    engines, all_asked = [], threading.Barrier(3)
    pool = EnginePool(opening(engines, lambda: all_asked.wait(20)), 3)
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(lambda seed: ask(pool, seed), range(3))) == ["0", "1", "2"]
    assert [engine.asked for engine in engines] == [1, 1, 1]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_many_threads_get_their_own_answers_from_no_more_engines_than_the_limit(limit):
    engines = []
    pool = EnginePool(opening(engines), limit)
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(lambda seed: ask(pool, seed), range(200))) == [str(seed) for seed in range(200)]
    assert 1 <= len(engines) <= limit
    assert sum(engine.asked for engine in engines) == 200


def test_an_engine_that_is_free_answers_while_another_is_being_opened():
    engines, first_may_answer, opening_another, may_open = [], *(threading.Event() for _ in range(3))

    def make():
        if engines:
            opening_another.set()
            assert may_open.wait(20)
        return opening(engines, lambda: first_may_answer.wait(20))()

    pool = EnginePool(make, 2)
    with ThreadPoolExecutor(3) as threads:
        two = [threads.submit(ask, pool, seed) for seed in range(2)]
        assert opening_another.wait(20)
        first_may_answer.set()
        assert threads.submit(ask, pool, 2).result(20) == "2"
        assert len(engines) == 1
        may_open.set()
        assert {question.result(20) for question in two} == {"0", "1"}


def test_an_engine_whose_question_failed_is_asked_again():
    faults = [BackendError("failed"), None]

    def fail():
        if fault := faults.pop(0):
            raise fault

    engines = []
    pool = EnginePool(opening(engines, fail), 1)
    with pytest.raises(BackendError):
        ask(pool, 0)
    assert ask(pool, 1) == "1"
    assert len(engines) == 1


def test_an_engine_that_could_not_be_opened_is_opened_for_the_next_question():
    faults = [BackendError("no memory"), None]

    def make():
        if fault := faults.pop(0):
            raise fault
        return Serial()

    pool = EnginePool(make, 1)
    with pytest.raises(BackendError, match="no memory"):
        ask(pool, 0)
    assert ask(pool, 1) == "1"
