"""Parallel threads: map items in order, and change the state of the process while several threads need it.

The map is for work that releases Python's lock: decoding, resizing, encoding, hashing and files.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from functools import cache
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
State = TypeVar("State")

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
    """Yield the results of ``work`` for items, in order, with the threads of the process.

    ``work`` must not call this itself: it could wait for a thread that it holds.
    """
    return ordered_map(_pool(), work, items, 2 * workers())


def ordered_map(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Generator[Result]:
    """Yield the results of ``work`` for items, in order; what it raises is raised in its place.

    At most ``ahead`` items are taken ahead, so that memory stays flat. Nothing is in progress any more when the
    iteration ends, also where it ends early.
    """
    waiting: deque[Future[Result]] = deque()
    iterator = iter(items)
    try:
        while True:
            while len(waiting) < ahead:
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                waiting.append(pool.submit(work, item))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        wait_for(waiting)


class SharedChange(Generic[State]):
    """A change that several threads may ask for at once: the first saves the state, the last restores it.

    Each applies the change: what other code has set meanwhile is overwritten.

    Args:
        restore: takes what ``save`` returned.
    """

    def __init__(
        self, save: Callable[[], State], apply: Callable[[], object], restore: Callable[[State], object]
    ) -> None:
        self._save = save
        self._apply = apply
        self._restore = restore
        self._lock = threading.Lock()
        # The state before, once for each thread that needs the change.
        self._holds: list[State] = []

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply the change until the body ends, in this thread and in every other that asks for it."""
        with self._lock:
            self._holds.append(self._holds[0] if self._holds else self._save())
            self._apply()
        try:
            yield
        finally:
            with self._lock:
                before = self._holds.pop()
                if not self._holds:
                    self._restore(before)
