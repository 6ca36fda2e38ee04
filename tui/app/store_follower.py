"""Follow a store that other processes write: read it again when it has changed, beside the app's own thread.

What is handed on is how things stand, never what happened: a reader that is slow skips what lies between, and so
never falls behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Generic, TypeVar

from textual._context import NoActiveAppError
from textual.app import ScreenStackError
from textual.screen import Screen
from textual.worker import Worker, get_current_worker

from line_neurons.agent.errors import LineError, StoreError, reason_of
from line_neurons.agent.text import shell_word
from line_neurons.tools.store.runs import RunStore, has_runs

T = TypeVar("T")

LOOK_SECONDS = 0.2
"""As often it is looked whether the store has changed."""

AGAIN_SECONDS = 2.0
"""Without a change the store is read again after this time: that a process has died is written nowhere."""

_NOTHING = object()


def follow(
    screen: Screen[Any],
    store: Path,
    read: Callable[[RunStore], T],
    show: Callable[[T], None],
    failed: Callable[[LineError], None],
) -> Worker[None]:
    """Call ``show`` in the app's thread with what ``read`` gives, now and whenever that is another than before.

    A screen that cannot be seen waits, and catches up when it comes back.

    Args:
        screen: the screen that is shown on; following ends with it.
        store: the store's folder; it may not hold a run yet.
        read: reads the store in a thread of its own; what it gives is compared with ``==``.
        show: told what was read.
        failed: told once why the store cannot be read; reading is tried again.
    """
    shown = _Latest(screen, show)
    told = _Latest(screen, failed)

    def run() -> None:
        worker = get_current_worker()
        last: object = _NOTHING
        said = ""
        while not worker.is_cancelled:
            try:
                for now in _readings(store, worker, screen, read):
                    if now != last:
                        last, said = now, ""
                        shown.put(now)
                continue
            except LineError as error:
                trouble = error
            except Exception as error:
                # A worker that ends in silence would leave the screen as it was for ever.
                trouble = StoreError(
                    f"the store cannot be shown: {type(error).__name__}: {reason_of(error)}",
                    f"line doctor --store {shell_word(str(store))}",
                )
            last = _NOTHING
            if str(trouble) != said:
                said = str(trouble)
                told.put(trouble)
            _pause(worker, AGAIN_SECONDS)

    return screen.run_worker(run, thread=True, group="follow", exit_on_error=False)


class _Latest(Generic[T]):
    """Hands values from a thread to a screen without waiting for it; of several in between only the last."""

    def __init__(self, screen: Screen[Any], take: Callable[[T], None]) -> None:
        self._screen = screen
        self._take = take
        self._lock = threading.Lock()
        self._values: list[T] = []

    def put(self, value: T) -> None:
        with self._lock:
            waits = bool(self._values)
            self._values = [value]
        # Waiting for the app, as ``call_from_thread`` does, would never end in one that closes meanwhile.
        if not waits and not self._posted():
            self._values = []

    def _posted(self) -> bool:
        try:
            return self._screen.call_later(self._give)
        except RuntimeError:
            return False

    def _give(self) -> None:
        with self._lock:
            values, self._values = self._values, []
        if values and self._screen.is_attached:
            self._take(values[0])


def _readings(
    store: Path, worker: Worker[None], screen: Screen[Any], read: Callable[[RunStore], T]
) -> Iterator[T]:
    """What ``read`` gives, each time that it may be another, until another file has taken the store's place."""
    path = store / "runs.db"
    if not has_runs(store):
        raise StoreError(f"there are no runs in {store} yet", "start one")
    with closing(RunStore(store, read_only=True)) as runs:
        inode, version, read_at = _inode(path), -1, float("-inf")
        while not worker.is_cancelled:
            if _is_seen(screen):
                before, version = version, runs.version()
                if before != version or time.monotonic() - read_at > AGAIN_SECONDS:
                    yield read(runs)
                    read_at = time.monotonic()
                    if _inode(path) != inode:
                        return
            _pause(worker, LOOK_SECONDS)


def _is_seen(screen: Screen[Any]) -> bool:
    """Whether no screen covers it; ``is_current`` also holds for the one below the top, whatever covers it."""
    try:
        stack = list(screen.app.screen_stack)
    except (ScreenStackError, NoActiveAppError):
        return False
    for one in reversed(stack):
        if one is screen:
            return True
        if one.styles.background.a == 1:
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
        time.sleep(min(left, LOOK_SECONDS))
