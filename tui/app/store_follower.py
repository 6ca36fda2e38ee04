"""Follow a store that other processes write: read it in a thread, and show each new reading on a screen.

Readings are states, not events: a slow screen skips those in between and never falls behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Generic, TypeVar

from textual.app import ScreenStackError
from textual.screen import Screen
from textual.worker import Worker, get_current_worker

from line_neurons.agent.errors import LineError, StoreError, reason_of
from line_neurons.agent.text import shell_word
from line_neurons.tools.store.runs import RunStore, has_runs

T = TypeVar("T")

POLL_SECONDS = 0.2
"""Poll interval of the store, in seconds."""

REREAD_SECONDS = 2.0
"""Interval of reading without a change, in seconds: the death of a process changes nothing in the store."""

_NOTHING = object()


def follow(
    screen: Screen[Any],
    store: Path,
    read: Callable[[RunStore], T],
    show: Callable[[T], None],
    show_error: Callable[[LineError], None],
) -> Worker[None]:
    """Call ``show`` in the app's thread with the result of ``read``, now and whenever it changes.

    A hidden screen waits, and catches up when it is visible again.

    Args:
        screen: following ends with it.
        store: the store's folder; it may not hold a run yet.
        read: reads the store in a worker thread; results are compared with ``==``.
        show_error: called once for each error; reading is retried.
    """
    results = _Latest(screen, show)
    errors = _Latest(screen, show_error)

    def run() -> None:
        worker = get_current_worker()
        last: object = _NOTHING
        last_error = ""
        while not worker.is_cancelled:
            try:
                for reading in _readings(store, worker, screen, read):
                    if reading != last:
                        last, last_error = reading, ""
                        results.put(reading)
                continue
            except LineError as raised:
                error = raised
            except Exception as unexpected:
                # A worker that ends silently would leave the screen as it is for ever.
                error = StoreError(
                    f"the store cannot be shown: {type(unexpected).__name__}: {reason_of(unexpected)}",
                    f"line doctor --store {shell_word(str(store))}",
                )
            last = _NOTHING
            if str(error) != last_error:
                last_error = str(error)
                errors.put(error)
            _pause(worker, REREAD_SECONDS)

    return screen.run_worker(run, thread=True, group="follow", exit_on_error=False)


class _Latest(Generic[T]):
    """Passes values from a thread to a screen without blocking; of several pending ones only the last."""

    def __init__(self, screen: Screen[Any], consume: Callable[[T], None]) -> None:
        self._screen = screen
        self._consume = consume
        self._lock = threading.Lock()
        self._values: list[T] = []

    def put(self, value: T) -> None:
        with self._lock:
            pending = bool(self._values)
            self._values = [value]
        # Waiting for the app, as ``call_from_thread`` does, would never end in one that closes meanwhile.
        if not pending and not self._post():
            self._values = []

    def _post(self) -> bool:
        try:
            return self._screen.call_later(self._deliver)
        except RuntimeError:
            return False

    def _deliver(self) -> None:
        with self._lock:
            values, self._values = self._values, []
        # It has no display from the moment that its removal is requested; its widgets are gone before it is.
        if values and self._screen.is_attached and self._screen.display:
            self._consume(values[0])


def _readings(
    store: Path, worker: Worker[None], screen: Screen[Any], read: Callable[[RunStore], T]
) -> Iterator[T]:
    """Yield results of ``read``, after each change or ``REREAD_SECONDS``, until the store's file is replaced."""
    path = store / "runs.db"
    if not has_runs(store):
        raise StoreError(f"there are no runs in {store} yet", "start one")
    with closing(RunStore(store, read_only=True)) as runs:
        inode, version, read_at = _inode(path), -1, float("-inf")
        while not worker.is_cancelled:
            if _is_visible(screen):
                previous, version = version, runs.version()
                if previous != version or time.monotonic() - read_at > REREAD_SECONDS:
                    yield read(runs)
                    read_at = time.monotonic()
                    if _inode(path) != inode:
                        return
            _pause(worker, POLL_SECONDS)


def _is_visible(screen: Screen[Any]) -> bool:
    """Whether no opaque screen covers it; ``is_current`` also holds for the one below the top."""
    try:
        stack = list(screen.app.screen_stack)
    except (ScreenStackError, RuntimeError):  # the latter: no app is active
        return False
    for upper in reversed(stack):
        if upper is screen:
            return True
        if upper.styles.background.a == 1:
            return False
    return False


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _pause(worker: Worker[None], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not worker.is_cancelled and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, POLL_SECONDS))
