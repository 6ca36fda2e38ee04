"""Follow a store that other processes write: read it again when it has changed, beside the app's own thread.

What is handed on is how things stand, never what happened: a reader that is slow skips what lies between, and so
never falls behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from textual.screen import Screen
from textual.worker import Worker, get_current_worker

from line_neurons.agent.errors import LineError, StoreError
from line_neurons.tools.run_store import RunStore

T = TypeVar("T")

LOOK_SECONDS = 0.2
"""As often it is looked whether the store has changed."""

AGAIN_SECONDS = 2.0
"""Without a change the store is read again after this time: that a process has died is written nowhere."""


def follow(
    screen: Screen[Any],
    store: Path,
    read: Callable[[RunStore], T],
    show: Callable[[T], None],
    failed: Callable[[LineError], None],
) -> Worker[None]:
    """Call ``show`` in the app's thread with what ``read`` gives, now and whenever that is another than before.

    Args:
        screen: the screen that is shown on; following ends with it.
        store: the store's folder; it may not hold a run yet.
        read: reads the store in a thread of its own; what it gives is compared with ``==``.
        show: told what was read.
        failed: told why the store cannot be read; reading is tried again.
    """

    def run() -> None:
        worker = get_current_worker()
        last: object = _NOTHING
        while not worker.is_cancelled:
            try:
                if not (store / "runs.db").is_file():
                    raise StoreError(f"there are no runs in {store} yet", "start one")
                with closing(RunStore(store, read_only=True)) as runs:
                    _read_on(runs, worker, read, lambda now: screen.app.call_from_thread(show, now), last)
            except LineError as error:
                last = _NOTHING
                if not worker.is_cancelled:
                    screen.app.call_from_thread(failed, error)
                _pause(worker, AGAIN_SECONDS)

    return screen.run_worker(run, thread=True, group="follow", exit_on_error=False)


_NOTHING = object()


def _read_on(
    runs: RunStore, worker: Worker[None], read: Callable[[RunStore], T], show: Callable[[T], None], last: object
) -> None:
    version, read_at = -1, 0.0
    while not worker.is_cancelled:
        changed, version = version, runs.version()
        if changed != version or time.monotonic() - read_at > AGAIN_SECONDS:
            read_at = time.monotonic()
            now = read(runs)
            if now != last and not worker.is_cancelled:
                last = now
                show(now)
        _pause(worker, LOOK_SECONDS)


def _pause(worker: Worker[None], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not worker.is_cancelled and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_SECONDS))
