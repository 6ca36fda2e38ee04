import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from line_neurons.agent.errors import BackendError, DrainedError, NotDrawableError, UnmeasurableError
from line_neurons.agent.ports import ImageRequest, Prompt
from line_neurons.tools import micro_batcher
from line_neurons.tools.batching import BoundedLanguageModel, batched_components
from line_neurons.tools.micro_batcher import MicroBatcher
from support.fakes import ScriptedGenerator, ScriptedModel, ScriptedTarget

LONG = 30
"""Seconds that nothing in these tests waits for, unless something is broken."""


def nothing():
    """A check that lets every request pass."""


class Gate:
    """Work that doubles numbers, each batch only when it is let through; a negative number fails its batch."""

    def __init__(self, open_at_once=False):
        self.batches = []
        self.begun = threading.Semaphore(0)
        self._passes = threading.Semaphore(0)
        self._open = open_at_once

    def __call__(self, items):
        self.batches.append(items)
        self.begun.release()
        assert self._open or self._passes.acquire(timeout=LONG)
        for item in items:
            if item < 0:
                raise NotDrawableError(str(item), [])
        return [2 * item for item in items]

    def let_through(self, batches=1):
        self._passes.release(batches)

    def wait_for_batch(self):
        assert self.begun.acquire(timeout=LONG)


@dataclass
class Asked:
    """A caller with its own thread; its request is in the queue when this is made."""

    gatherer: MicroBatcher
    items: list
    told: list = field(default_factory=list)

    def __post_init__(self):
        self._pool = ThreadPoolExecutor(1)
        waiting = self.gatherer._waiting
        self.answer = self._pool.submit(self.gatherer.ask, self.items, lambda *so_far: self.told.append(so_far))
        until(lambda: self.gatherer._waiting != waiting or self.gatherer._blocked or self.answer.done())

    def result(self):
        return self.answer.result(LONG)


def until(happened):
    for _ in range(LONG * 1000):
        if happened():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it never happened")


@contextmanager
def busy(gate, *, size=8, callers=100, wait=LONG, limit=256, check=nothing):
    """A gatherer whose worker is held in a first batch, so that what is asked now waits in the queue."""
    with closing(
        MicroBatcher("worker", gate, lambda: size, callers=lambda: callers, wait=wait, limit=limit, check=check)
    ) as gatherer:
        first = ThreadPoolExecutor(1).submit(gatherer.ask, [0] * size)
        gate.wait_for_batch()
        yield gatherer
        gate.let_through(1000)
        assert first.result(LONG) == [0] * size


@given(
    requests=st.lists(st.lists(st.integers(-3, 100), max_size=9), min_size=1, max_size=6),
    size=st.integers(1, 7),
    limit=st.integers(1, 12),
)
@settings(max_examples=60)
def test_every_caller_gets_its_own_results_and_only_offenders_get_an_error(requests, size, limit):
    gate = Gate(open_at_once=True)
    with (
        closing(
            MicroBatcher(
                "worker", gate, lambda: size, callers=lambda: len(requests), wait=0.001, limit=limit, check=nothing
            )
        ) as gatherer,
        ThreadPoolExecutor(len(requests)) as threads,
    ):
        answers = [threads.submit(gatherer.ask, items) for items in requests]
        for items, answer in zip(requests, answers, strict=True):
            if min(items, default=0) < 0:
                error = answer.exception(LONG)
                assert isinstance(error, NotDrawableError)
                assert int(error.concept) in items
            else:
                assert answer.result(LONG) == [2 * item for item in items]
    assert all(len(batch) <= size for batch in gate.batches)


def test_a_lone_caller_is_served_at_once():
    gate = Gate(open_at_once=True)
    with closing(MicroBatcher("worker", gate, lambda: 8, callers=lambda: 1, wait=LONG, check=nothing)) as gatherer:
        assert gatherer.ask([1, 2]) == [2, 4]
        assert gatherer.ask([]) == []
    assert gate.batches == [[1, 2]]


def test_a_batch_goes_when_its_oldest_request_has_waited_long_enough():
    gate = Gate(open_at_once=True)
    with closing(MicroBatcher("worker", gate, lambda: 8, callers=lambda: 5, wait=0.01, check=nothing)) as gatherer:
        assert gatherer.ask([1, 2]) == [2, 4]


def test_requests_wait_longer_for_each_other_where_a_batch_takes_long(monkeypatch):
    now = [0.0]
    # The worker's clock alone: a batch seems to take as long as it adds to it.
    monkeypatch.setattr(micro_batcher, "time", SimpleNamespace(monotonic=lambda: now[0]))
    batches = []

    def slow(items):
        batches.append(items)
        now[0] += 10 * LONG
        return items

    gatherer = MicroBatcher("worker", slow, lambda: 2, callers=lambda: 5, wait=0.01, check=nothing)
    with closing(gatherer), ThreadPoolExecutor(2) as callers:
        gatherer.ask([1, 2])
        first = callers.submit(gatherer.ask, [3])
        until(lambda: gatherer._waiting == 1)
        threading.Event().wait(0.1)
        assert len(batches) == 1
        assert callers.submit(gatherer.ask, [4]).result(LONG) == [4]
        assert first.result(LONG) == [3]
        assert batches == [[1, 2], [3, 4]]


def test_a_batch_goes_as_soon_as_every_caller_waits():
    gate = Gate(open_at_once=True)
    with closing(MicroBatcher("worker", gate, lambda: 8, callers=lambda: 3, wait=LONG, check=nothing)) as gatherer:
        callers = [Asked(gatherer, [number]) for number in (1, 2, 3)]
        assert [caller.result() for caller in callers] == [[2], [4], [6]]
    assert [sorted(batch) for batch in gate.batches] == [[1, 2, 3]]


def test_requests_fill_whole_batches_first_come_first_served_each_callers_items_together():
    gate = Gate()
    with busy(gate, size=4) as gatherer:
        callers = [Asked(gatherer, items) for items in ([1, 2, 3], [4, 5, 6], [7], [8])]
        gate.let_through(3)
        assert [caller.result() for caller in callers] == [[2, 4, 6], [8, 10, 12], [14], [16]]
    assert gate.batches[1:] == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_request_larger_than_a_batch_is_split_and_told_of_its_parts():
    gate = Gate()
    with busy(gate, size=4, callers=1) as gatherer:
        caller = Asked(gatherer, list(range(10)))
        gate.let_through()
        for _ in range(3):
            gate.wait_for_batch()
            gate.let_through()
        assert caller.result() == [2 * number for number in range(10)]
    assert [len(batch) for batch in gate.batches[1:]] == [4, 4, 2]
    assert caller.told[-1] == (10, 10)
    assert caller.told == sorted(set(caller.told))


def test_a_size_that_shrinks_counts_from_the_next_batch_on():
    sizes = iter([4, 2, 2, 2])
    gate = Gate(open_at_once=True)
    with closing(
        MicroBatcher("worker", gate, lambda: next(sizes), callers=lambda: 1, wait=LONG, check=nothing)
    ) as gatherer:
        gatherer.ask([1, 2, 3, 4, 5, 6, 7])
    assert [len(batch) for batch in gate.batches] == [4, 2, 1]


def test_an_error_hits_the_caller_whose_item_it_was_and_the_rest_of_its_request_is_left_out():
    gate = Gate()
    with busy(gate, size=4, wait=0) as gatherer:
        good, bad, late = [Asked(gatherer, items) for items in ([1, 2], [-1, -2, -3, -4], [5, 6])]
        gate.let_through(1000)
        assert (good.result(), late.result()) == ([2, 4], [10, 12])
        with pytest.raises(NotDrawableError, match="-1"):
            bad.result()
    assert gate.batches[1:4] == [[1, 2, -1, -2], [1, 2], [-1, -2]]
    assert not any(item in batch for batch in gate.batches for item in (-3, -4))


def test_two_callers_with_the_same_fault_get_an_error_each():
    gate = Gate()
    with busy(gate, size=2) as gatherer:
        one, two = Asked(gatherer, [-1]), Asked(gatherer, [-1])
        gate.let_through(1000)
        errors = [one.answer.exception(LONG), two.answer.exception(LONG)]
    assert errors[0] is not errors[1]
    assert all(isinstance(error, NotDrawableError) for error in errors)


def test_work_that_loses_a_result_is_an_error():
    with (
        closing(
            MicroBatcher(
                "painter", lambda items: items[1:], lambda: 4, callers=lambda: 1, wait=LONG, check=nothing
            )
        ) as gatherer,
        pytest.raises(BackendError, match="painter gave 1 results for 2 requests"),
    ):
        gatherer.ask([1, 2])


def test_asking_waits_while_too_much_waits_already():
    gate = Gate()
    with busy(gate, size=4, limit=6, wait=0) as gatherer:
        callers = [Asked(gatherer, [1, 2, 3]), Asked(gatherer, [4, 5]), Asked(gatherer, [6, 7])]
        assert gatherer._waiting == 5
        assert gatherer._blocked
        gate.let_through(1000)
        assert [caller.result() for caller in callers] == [[2, 4, 6], [8, 10], [12, 14]]


def test_a_queue_with_no_room_for_the_next_request_is_served_without_waiting():
    gate = Gate()
    with busy(gate, size=8, limit=4) as gatherer:
        callers = [Asked(gatherer, [1, 2, 3]), Asked(gatherer, [4, 5, 6])]
        gate.let_through(2)
        assert callers[0].result() == [2, 4, 6]
        assert gate.batches[1] == [1, 2, 3]


def test_progress_that_raises_withdraws_the_rest_of_the_request():
    gate = Gate(open_at_once=True)

    def stop(done, total):
        raise KeyboardInterrupt

    with closing(MicroBatcher("worker", gate, lambda: 2, callers=lambda: 1, wait=LONG, check=nothing)) as gatherer:
        with pytest.raises(KeyboardInterrupt):
            gatherer.ask(list(range(1000)), stop)
        assert gatherer._waiting == 0
        assert gatherer.ask([1]) == [2]


def test_closing_finishes_the_batch_in_hand_and_refuses_the_rest():
    gate = Gate()
    gatherer = MicroBatcher("worker", gate, lambda: 2, callers=lambda: 100, wait=LONG, limit=2, check=nothing)
    in_hand = ThreadPoolExecutor(1).submit(gatherer.ask, [1, 2])
    gate.wait_for_batch()
    waiting, outside = Asked(gatherer, [3, 4]), Asked(gatherer, [5])
    closer = threading.Thread(target=gatherer.close)
    closer.start()
    for caller in (waiting, outside):
        with pytest.raises(BackendError, match="worker takes no more requests"):
            caller.result()
    gate.let_through()
    closer.join(LONG)
    assert in_hand.result(LONG) == [2, 4]
    assert not [thread for thread in threading.enumerate() if thread.name == "line worker" and thread.is_alive()]
    with pytest.raises(BackendError):
        gatherer.ask([6])


def test_nothing_is_begun_once_the_check_says_stop():
    gate, stop = Gate(), threading.Event()

    def check():
        if stop.is_set():
            raise DrainedError

    with busy(gate, size=2, check=check) as gatherer:
        callers = [Asked(gatherer, [number]) for number in (1, 2, 3)]
        stop.set()
        gate.let_through()
        for caller in callers:
            with pytest.raises(DrainedError):
                caller.result()
    assert len(gate.batches) == 1


def request(concept, seed=0):
    return ImageRequest(concept, "low angle", "daylight", seed, "{concept}")


@contextmanager
def parts(generator=None, target=None, *, callers=1, parallel=1, model=None, wait=LONG):
    with batched_components(
        generator or ScriptedGenerator(),
        target or ScriptedTarget(),
        model or ScriptedModel([]),
        callers=lambda: callers,
        parallel=parallel,
        wait=wait,
        check=nothing,
    ) as made:
        yield made


def test_the_shared_parts_answer_as_the_parts_themselves():
    generator = ScriptedGenerator(hints=("owl",), batch_size=3)
    target = ScriptedTarget(names=("a", "b", "c"))
    requests = [request("cat", seed) for seed in range(7)]
    with parts(generator, target, model=ScriptedModel(["dog"])) as made:
        drawn = made.generator.synthesize(requests)
        assert drawn == ScriptedGenerator().synthesize(requests)
        assert made.generator.suggest(["cat"], 5) == ["owl"]
        assert (made.generator.fingerprint, made.generator.batch_size) == (generator.fingerprint, 3)
        images = [image.png for image in drawn]
        rows = made.target.activate(images, ["head", "other"])
        expected = target.activate(images, ["head", "other"])
        for layer in ("head", "other"):
            assert rows[layer].dtype == np.float32
            np.testing.assert_array_equal(rows[layer], expected[layer])
        assert made.target.layers() == target.layers()
        assert made.target.unit_names("head") == ("a", "b", "c")
        assert (made.target.fingerprint, made.target.batch_size) == (target.fingerprint, 5)
        assert made.target.activate([], ["head"])["head"].size == 0
        assert made.language_model.fingerprint == "scripted model"
        assert made.language_model.propose(Prompt(()), seed=1, temperature=0).concept == "dog"


def test_images_of_several_callers_are_measured_in_one_forward_pass_for_each_choice_of_layers():
    calls = []

    class Recording(ScriptedTarget):
        def activate(self, images, layers, progress=None):
            calls.append((len(images), tuple(layers)))
            return super().activate(images, layers)

    images = [image.png for image in ScriptedGenerator().synthesize([request(c) for c in ("cat", "dog", "owl")])]
    wanted = [("head",), ("head", "tail"), ("head",)]
    with parts(target=Recording(), callers=3) as made, ThreadPoolExecutor(3) as threads:
        answers = list(
            threads.map(lambda image, layers: made.target.activate([image], layers), images, wanted, timeout=LONG)
        )
    assert sorted(calls) == [(1, ("head", "tail")), (2, ("head",))]
    for image, layers, answer in zip(images, wanted, answers, strict=True):
        assert set(answer) == set(layers)
        np.testing.assert_array_equal(answer["head"], ScriptedTarget().activate([image], ["head"])["head"])


def test_an_image_at_fault_is_named_by_its_index_among_those_of_its_caller():
    class Refusing(ScriptedTarget):
        def activate(self, images, layers, progress=None):
            if b"bad" in images:
                raise UnmeasurableError("it cannot be decoded", index=images.index(b"bad"))
            return super().activate(images, layers)

    good = [image.png for image in ScriptedGenerator().synthesize([request("cat", seed) for seed in range(6)])]
    with parts(target=Refusing(), callers=2, wait=0.1) as made, ThreadPoolExecutor(2) as threads:
        other = threads.submit(made.target.activate, good[:1], ["head"])
        # In the second batch of five.
        with pytest.raises(UnmeasurableError) as caught:
            made.target.activate([*good, b"bad"], ["head"])
        assert len(other.result(LONG)["head"]) == 1
    assert caught.value.index == 6


def test_a_concept_that_cannot_be_drawn_is_no_concern_of_other_units():
    generator = ScriptedGenerator(unknown=frozenset({"smell"}), batch_size=2)
    with parts(generator, callers=2) as made, ThreadPoolExecutor(2) as threads:
        good = threads.submit(made.generator.synthesize, [request("cat")])
        bad = threads.submit(made.generator.synthesize, [request("smell")])
        assert len(good.result(LONG)) == 1
        with pytest.raises(NotDrawableError, match="smell"):
            bad.result(LONG)


def test_no_more_questions_are_asked_at_the_same_time_than_allowed():
    meet, now, most = threading.Barrier(2), threading.Semaphore(2), []

    def answer(prompt, seed, temperature):
        most.append(now.acquire(blocking=False))
        meet.wait(LONG)
        now.release()
        return "cat"

    model = BoundedLanguageModel(ScriptedModel(answer), 2, check=nothing)
    with ThreadPoolExecutor(6) as threads:
        answers = threads.map(lambda seed: model.propose(Prompt(()), seed=seed, temperature=0), range(6))
        assert [proposal.concept for proposal in answers] == ["cat"] * 6
    assert most == [True] * 6


def test_a_question_whose_turn_comes_after_the_check_says_stop_is_not_asked():
    def stop():
        raise DrainedError

    model = ScriptedModel(["cat"])
    with pytest.raises(DrainedError):
        BoundedLanguageModel(model, 1, check=stop).propose(Prompt(()), seed=0, temperature=0)
    assert not model.asked


def test_a_component_with_workers_is_given_several_batches_at_the_same_time():
    meet = threading.Barrier(3)

    def work(items):
        meet.wait(LONG)
        return [2 * item for item in items]

    gatherer = MicroBatcher(
        "generator", work, lambda: 2, callers=lambda: 1, wait=0, check=nothing, parallel=lambda: 3
    )
    with closing(gatherer):
        assert gatherer.ask([1, 2, 3, 4, 5, 6]) == [2, 4, 6, 8, 10, 12]
