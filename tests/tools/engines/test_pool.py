import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from line_neurons.agent.errors import BackendError, DrainedError, MissingPartError, NoWorkerError, UsageError
from line_neurons.tools.engines.pool import Description, Patience, Pool
from support.thread_cluster import LONG, Threads, wait_until


@contextmanager
def pool_of(cluster, **options):
    told = []
    pool = Pool(cluster, report=lambda kind, text, detail: told.append((kind, text, detail)), **options)
    pool.told = told
    try:
        yield pool
    finally:
        pool.close()


def test_a_call_is_answered_by_a_free_worker():
    cluster = Threads(3)
    with pool_of(cluster) as pool:
        wait_until(lambda: pool.size == 3)
        assert pool.call("double", [1, 2]) == [2, 4]
        assert pool.wait_for_first().identity == {"generator": "same"}
        assert [status.place for status in pool.status()] == ["machine 0", "machine 1", "machine 2"]
    assert all(worker.stopped for worker in cluster.started)
    with pytest.raises(BackendError, match="stopped"):
        pool.call("double", [1])


@settings(max_examples=15)
@given(st.integers(1, 4), st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=12), st.randoms())
def test_every_item_is_answered_once_whoever_is_lost(workers, batches, chance):
    # Each of some items is lost with its worker the first time.
    doomed = {index for index in range(len(batches)) if chance.random() < 0.3}
    cluster = Threads(workers)
    lock = threading.Lock()

    def fatal(item, worker):
        with lock:
            place = item // 10
            return place in doomed and not doomed.discard(place)

    cluster.fatal = fatal
    numbered = [[10 * index + item for item in batch] for index, batch in enumerate(batches)]
    with pool_of(cluster) as pool, ThreadPoolExecutor(8) as callers:
        assert list(callers.map(lambda batch: pool.call("double", batch), numbered)) == [
            [2 * item for item in batch] for batch in numbered
        ]
        assert not doomed


def test_work_of_a_lost_worker_is_repeated_and_the_worker_replaced():
    cluster = Threads(2)
    cluster.fatal = lambda item, worker: worker.number == 0
    with pool_of(cluster) as pool:
        wait_until(lambda: pool.size == 2)
        for _ in range(3):
            assert pool.call("double", [1]) == [2]
        wait_until(lambda: pool.size == 2)
        assert pool.lost == 1 and len(cluster.started) == 3
        kind, text, detail = pool.told[0]
        assert (kind, detail["place"]) == ("worker lost", "machine 0")
        assert "machine 0 was lost: signal SIGKILL ended it" in text


def test_a_call_that_kills_every_worker_fails_alone():
    cluster = Threads(2)
    cluster.fatal = lambda item, worker: item == 13

    def answer(item):
        try:
            return pool.call("double", [item])
        except BackendError:
            return None

    with pool_of(cluster) as pool, ThreadPoolExecutor(8) as callers:
        items = [1, 13, 2, 3, 4, 5, 6, 7] * 3
        assert list(callers.map(answer, items)) == [None if item == 13 else [2 * item] for item in items]


def test_a_call_that_kills_every_worker_fails_after_three():
    cluster = Threads(2)
    cluster.fatal = lambda item, worker: item == 13
    with pool_of(cluster) as pool:
        with pytest.raises(BackendError, match=r"3 workers in a row were lost over the same work.*SIGKILL"):
            pool.call("double", [13])
        assert pool.call("double", [1]) == [2]
        assert pool.lost == 3


def test_an_error_of_the_method_is_no_loss():
    cluster = Threads(1)

    def fail(worker, what):
        raise UsageError(f"no {what}")

    cluster.fail = fail
    with pool_of(cluster) as pool:
        with pytest.raises(UsageError, match="no layer"):
            pool.call("fail", "layer")
        assert (pool.lost, pool.size) == (0, 1)


def test_a_call_that_takes_far_longer_than_usual_is_repeated_elsewhere():
    cluster = Threads(1)
    hanging = threading.Event()

    def slow(worker, item):
        if not hanging.is_set():
            hanging.set()
            time.sleep(LONG)
        return item

    cluster.slow = slow
    with pool_of(cluster, patience=Patience(first=0.3, least=0.3)) as pool:
        began = time.monotonic()
        assert pool.call("slow", 1) == 1
        assert time.monotonic() - began < LONG / 2
        assert "did not answer within" in pool.told[0][1]


def test_a_worker_with_another_fingerprint_is_refused_by_the_name_of_its_machine():
    cluster = Threads(2, lambda number: Description(f"node {number}", {"generator": f"weights {number}"}))
    with pool_of(cluster) as pool:
        with pytest.raises(UsageError) as told:
            for _ in range(1000):
                pool.call("double", [1])
                time.sleep(0.005)
        assert "has another generator than that on node" in told.value.message
        assert "node 0" in told.value.message and "node 1" in told.value.message


def test_a_worker_that_differs_and_comes_later_is_refused_alone():
    cluster = Threads(1, lambda number: Description(f"node {number}", {"generator": str(min(number, 1))}))
    with pool_of(cluster) as pool:
        wait_until(lambda: pool.size == 1)
        cluster.size = 2
        wait_until(lambda: pool.told)
        assert pool.call("double", [1]) == [2]
        assert pool.told[0][0] == "worker refused" and "node 1" in pool.told[0][1]
        assert len(cluster.started) == 2


@pytest.mark.parametrize(
    ("error", "tries"), [(MissingPartError("no weights here"), 1), (BackendError("no weights here"), 3)]
)
def test_a_worker_that_cannot_start_ends_the_work_with_its_own_error(error, tries):
    def begin(number):
        raise error

    cluster = Threads(1, begin)
    with pool_of(cluster) as pool:
        with pytest.raises(type(error), match="no weights here"):
            pool.wait_for_first()
        assert len(cluster.started) == tries
        with pytest.raises(type(error), match="no weights here"):
            pool.call("double", [1])


def test_waiting_for_the_first_worker_ends_with_what_it_waits_for():
    cluster = Threads(0)
    waiting = pytest.raises(NoWorkerError, match=r"no worker was ready within .*: no GPU is free")
    with pool_of(cluster, patience=Patience(begin=0.1)) as pool, waiting:
        pool.call("double", [1])


def test_waiting_for_a_worker_ends_when_the_run_is_stopped():
    def stop():
        raise DrainedError

    with pool_of(Threads(0), check=stop) as pool, pytest.raises(DrainedError):
        pool.call("double", [1])


def test_workers_come_and_go():
    cluster = Threads(1)
    with pool_of(cluster) as pool, ThreadPoolExecutor(8) as callers:
        chance = random.Random(0)
        answers = [callers.submit(pool.call, "double", [number]) for number in range(40)]
        for size in (4, 2, 3, 1):
            cluster.size = size
            wait_until(lambda size=size: pool.size == size)
            answers += [callers.submit(pool.call, "double", [chance.randrange(9)]) for _ in range(5)]
        assert [answer.result()[0] for answer in answers[:40]] == [2 * number for number in range(40)]
        assert (pool.lost, pool.told) == (0, [])
