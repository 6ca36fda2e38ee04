"""Work for a run that belongs to no unit, recorded in the store while it lasts: loading, control set, revisit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from line_neurons.agent.errors import StoreError, TakenOverError
from line_neurons.tools.hub import downloaded_bytes
from line_neurons.tools.store.activity import Phase, next_phase, report_phase
from line_neurons.tools.store.runs import RunStore

_OF_UNITS = frozenset({"generating images"})
"""Work that the activities of the units show."""
_SECONDS = 0.5
"""Least interval of two records of the same phase."""
_POLL_SECONDS = 1.0
"""Interval of looking how much was downloaded."""


@contextmanager
def loading_component(report: Callable[[str, int, int], None], what: str, download: bool) -> Iterator[None]:
    """Report that a component is loaded in the body, and how much is downloaded for it.

    Args:
        report: called as ``(what, done, total)``, also from another thread.
    """
    report(f"loading {what}", 0, 0)
    if not download:
        yield
        return
    over, before = threading.Event(), downloaded_bytes()

    def watch() -> None:
        # Whatever library downloads: all of them write into these folders.
        while not over.wait(_POLL_SECONDS):
            if megabytes := (downloaded_bytes() - before) // 1_000_000:
                report(f"loading {what}, MB downloaded:", megabytes, 0)

    watcher = threading.Thread(target=watch, name="downloads", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@dataclass
class PhaseRecorder:
    """Records what a process does for the run that it holds as a whole; may be called from any thread."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _place: tuple[RunStore, str] | None = None
    _phase: Phase | None = None
    _written: float = 0.0

    @contextmanager
    def of(self, runs: RunStore, run: str) -> Iterator[None]:
        """Record phases for this run during the body, whose process holds it."""
        self._place = runs, run
        try:
            yield
        finally:
            self.end()
            self._place = None

    def report(self, what: str, done: int = 0, total: int = 0) -> None:
        """Record a phase; one that is complete has ended. A total of 0 is unknown."""
        if self._place is None or what in _OF_UNITS:
            return
        if 0 < total <= done:
            self.end()
            return
        with self._lock:
            new = self._phase is None or self._phase.what != what
            if not new and time.monotonic() - self._written < _SECONDS:
                return
            self._write(next_phase(self._phase, what, done, total, time.time()))

    def end(self) -> None:
        """Record that no phase is in progress."""
        with self._lock:
            if self._phase is not None:
                self._write(None)

    def _write(self, phase: Phase | None) -> None:
        if self._place is None:
            return
        self._phase, self._written = phase, time.monotonic()
        # Work goes on without its record; the next write of the work itself says what is wrong.
        with suppress(StoreError, TakenOverError):
            report_phase(*self._place, phase)
