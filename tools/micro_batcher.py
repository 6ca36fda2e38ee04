"""Gather requests of many threads into full batches for one worker thread, or several."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from line_neurons.agent.errors import BackendError, UnfitOutputError
from line_neurons.agent.ports import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

_WAITING = 256
# Where a batch takes seconds, half a batch saved is worth waiting for longer.
_SHARE_WAITED = 0.1


class _Request(Generic[Item, Result]):
    """Items of one caller; the first ``taken`` of them are in a batch or done."""

    def __init__(self, items: Sequence[Item], lock: threading.Lock) -> None:
        self.items = list(items)
        self.taken = 0
        self.results: dict[int, Result] = {}
        self.error: BaseException | None = None
        self.since = time.monotonic()
        self.changed = threading.Condition(lock)


_Part = tuple[_Request[Item, Result], int, list[Item]]
"""A request, the place of the first of its items in a batch, and these."""


class MicroBatcher(Generic[Item, Result]):
    """Runs requests of many threads in full batches on worker threads.

    A batch starts as soon as it is full, when every possible caller is waiting, or when the oldest request has
    waited long enough. If a batch of several callers fails, each caller's items are tried on their own.

    Args:
        work: returns results of a list of items, in order; called by one thread, or by ``parallel``.
        size: items in a full batch; read again after each batch.
        callers: how many threads may call at present.
        wait: longest time in seconds that a request waits for others, or a tenth of what the last batch took if
            that is longer; with 0 nothing waits.
        check: called before a request starts; what it raises is raised for that request instead.
        limit: most items that wait for the worker; beyond it, callers wait too.
        parallel: how many batches may run at the same time; read again after each batch.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[list[Item]], Sequence[Result]],
        size: Callable[[], int],
        *,
        callers: Callable[[], int],
        wait: float,
        check: Callable[[], None],
        limit: int = _WAITING,
        parallel: Callable[[], int] = lambda: 1,
    ) -> None:
        self._name = name
        self._work = work
        self._look_up_size = size
        self.size = size()
        self._callers = callers
        self._wait = wait
        self._patience = wait
        self._check = check
        self._limit = limit
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        # Held by the one caller that waits for room, so that smaller requests do not overtake a large one.
        self._door = threading.Lock()
        self._blocked = False
        self._queue: deque[_Request[Item, Result]] = deque()
        self._waiting = 0
        # Requests with all items in batches, some of which are not done: their callers wait too.
        self._running: set[_Request[Item, Result]] = set()
        self._closed = False
        self._parallel = parallel
        self._workers: list[threading.Thread] = []
        with self._lock:
            self._grow()

    def ask(self, items: Sequence[Item], progress: Progress | None = None) -> list[Result]:
        """Return the results of the items, in order.

        ``progress`` is called in this thread when some of the items are done; raising from it withdraws the rest.

        Raises:
            BackendError: the batcher was closed before the results were there.
            Exception: what the work raised for these items, or what the check raised.
        """
        if not items:
            return []
        request = _Request[Item, Result](items, self._lock)
        done = 0
        try:
            self._enter(request)
            while done < len(request.items):
                with self._lock:
                    while request.error is None and len(request.results) == done:
                        request.changed.wait()
                    if request.error is not None:
                        raise request.error
                    done = len(request.results)
                if progress:
                    progress(done, len(request.items))
        except BaseException:
            with self._lock:
                self._withdraw(request)
            raise
        return [request.results[place] for place in range(len(request.items))]

    def close(self) -> None:
        """Finish the current batches, refuse waiting requests and end the worker threads."""
        with self._lock:
            self._closed = True
            for request in list(self._queue):
                self._refuse(request, self._closing())
            self._arrived.notify_all()
            self._room.notify()
        for worker in self._workers:
            worker.join()

    def _closing(self) -> BackendError:
        return BackendError(f"the {self._name} takes no more requests", "the run was stopped; resume it")

    def _enter(self, request: _Request[Item, Result]) -> None:
        with self._door, self._lock:
            try:
                while self._queue and self._waiting + len(request.items) > self._limit:
                    self._blocked = True
                    self._arrived.notify()
                    self._room.wait()
            finally:
                self._blocked = False
            if self._closed:
                raise self._closing()
            self._queue.append(request)
            self._waiting += len(request.items)
            self._arrived.notify()

    def _withdraw(self, request: _Request[Item, Result]) -> None:
        self._running.discard(request)
        if request in self._queue:
            self._queue.remove(request)
            self._waiting -= len(request.items) - request.taken
            self._room.notify()

    def _grow(self) -> None:
        """Start as many threads as there may be batches; to be called with the lock."""
        while len(self._workers) < self._parallel() and not self._closed:
            worker = threading.Thread(target=self._serve, name=f"line {self._name}", daemon=True)
            self._workers.append(worker)
            worker.start()

    def _serve(self) -> None:
        while batch := self._next():
            with self._lock:
                self._grow()
            self._do(batch)

    def _next(self) -> list[_Part[Item, Result]]:
        """Return the next batch when it is due; empty when the batcher is closed."""
        with self._lock:
            while not self._closed:
                if not self._queue:
                    self._arrived.wait()
                    continue
                callers = len(self._queue) + len(self._running)
                complete = self._waiting >= self.size or self._blocked or callers >= self._callers()
                left = self._queue[0].since + self._patience - time.monotonic()
                if not complete and left > 0:
                    self._arrived.wait(left)
                elif batch := self._take():
                    return batch
        return []

    def _take(self) -> list[_Part[Item, Result]]:
        batch: list[_Part[Item, Result]] = []
        room = self.size
        while room and self._queue:
            request = self._queue[0]
            try:
                self._check()
            except Exception as error:
                self._refuse(request, error)
                continue
            first = request.taken
            items = request.items[first : first + room]
            request.taken += len(items)
            room -= len(items)
            self._waiting -= len(items)
            batch.append((request, first, items))
            if request.taken == len(request.items):
                self._queue.popleft()
                self._running.add(request)
        self._room.notify()
        if self._queue:
            # Another thread may find the next batch full already.
            self._arrived.notify()
        return batch

    def _do(self, batch: list[_Part[Item, Result]]) -> None:
        results: list[Result] | None = None
        try:
            results = self._results([item for _, _, items in batch for item in items])
        except BaseException as error:
            if len(batch) == 1:
                with self._lock:
                    self._refuse(batch[0][0], error)
                return
        if results is None:
            # Here, where the failed batch's exception, and what it holds on to, is gone.
            for part in batch:
                self._do([part])
            return
        with self._lock:
            start = 0
            for request, first, items in batch:
                for place in range(len(items)):
                    request.results[first + place] = results[start + place]
                start += len(items)
                if len(request.results) == len(request.items):
                    self._running.discard(request)
                request.changed.notify()

    def _results(self, items: list[Item]) -> list[Result]:
        began = time.monotonic()
        results = list(self._work(items))
        if self._wait:
            self._patience = max(self._wait, _SHARE_WAITED * (time.monotonic() - began))
        if len(results) != len(items):
            raise UnfitOutputError(f"the {self._name} gave {len(results)} results for {len(items)} requests")
        self.size = self._look_up_size()
        return results

    def _refuse(self, request: _Request[Item, Result], error: BaseException) -> None:
        self._withdraw(request)
        request.error = error
        request.changed.notify()
