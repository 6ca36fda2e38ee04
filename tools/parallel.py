"""Work on independent items in parallel threads, with results in order.

For work that lets go of Python's lock: decoding, resizing, encoding, hashing and files.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST = 32


@cache
def workers() -> int:
    """Return how many threads work at the same time: the cores that this process may use, 32 at most."""
    return min(len(os.sched_getaffinity(0)), _MOST)


@cache
def _pool() -> ThreadPoolExecutor:
    """Return the threads of the process, however many units and components share them."""
    return ThreadPoolExecutor(workers(), thread_name_prefix="line parallel")


# A forked process has none of the threads, and would wait for them for ever.
os.register_at_fork(after_in_child=_pool.cache_clear)


def parallel_map(work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
    """Yield the results of ``work`` for items, in order; what it raises is raised in its place.

    Few items are taken ahead, so that memory stays flat. Nothing is in progress any more when the iteration ends,
    also where it ends early. ``work`` must not call this itself: it could wait for a thread that it holds.
    """
    waiting: deque[Future[Result]] = deque()
    iterator = iter(items)
    try:
        while True:
            while len(waiting) < 2 * workers():
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                waiting.append(_pool().submit(work, item))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        wait_for(waiting)
