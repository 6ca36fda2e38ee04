import os
import signal
import threading
import time

import pytest

from line_neurons.tools import parallel
from line_neurons.tools.parallel import parallel_map, workers


def test_results_come_in_the_order_of_the_items():
    assert list(parallel_map(lambda n: time.sleep((7 - n) / 1000) or n * n, range(8))) == [n * n for n in range(8)]


def test_items_are_worked_on_at_the_same_time(monkeypatch):
    monkeypatch.setattr(parallel, "workers", lambda: 2)
    both = threading.Barrier(min(2, workers()), timeout=30)
    assert list(parallel_map(lambda n: both.wait() >= 0, range(2 * both.parties)))


def test_an_error_is_raised_in_its_place_and_leaves_nothing_in_progress():
    running = set()

    def work(number):
        running.add(number)
        time.sleep(0.01)
        running.discard(number)
        if number == 2:
            raise KeyError(number)
        return number

    seen = []
    with pytest.raises(KeyError, match="2"):
        seen.extend(parallel_map(work, range(1000)))
    assert not running
    assert seen == [0, 1]
    found = parallel_map(work, iter(range(1000)))
    assert [next(found), next(found)] == [0, 1]
    found.close()
    assert not running


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    assert list(parallel_map(abs, [-1])) == [1]
    child = os.fork()
    if not child:
        os._exit(next(parallel_map(abs, [-7])))
    until = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < until:
        time.sleep(0.01)
    if ended[0] == 0:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended[1]) == 7


def test_few_items_are_taken_ahead():
    taken = []
    found = parallel_map(lambda n: n, (taken.append(n) or n for n in range(10_000)))
    assert next(found) == 0
    assert len(taken) <= 2 * workers()
    found.close()
