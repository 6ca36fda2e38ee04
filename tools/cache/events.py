"""Collect and report corrupt cache entries found during a run."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from line_neurons.tools.store.runs import RunStore

logger = logging.getLogger(__name__)

_LOGGED = 5
"""Log at most this many events of a kind; where a whole folder has gone there are thousands."""


@dataclass(frozen=True)
class CacheEvent:
    """Something that was wrong with an image or a vector, and what was done about it.

    Args:
        kind: ``image redrawn``, ``image drawn again``, ``concept refused`` or ``vector measured anew``.
        text: one line for the user.
        detail: the same for the record, JSON-serialisable.
    """

    kind: str
    text: str
    detail: dict[str, Any] = field(default_factory=dict)


class CacheEvents:
    """Log cache events and pass them to listeners; from any thread."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[CacheEvent], None]] = []
        self._count: Counter[str] = Counter()

    @contextmanager
    def listening(self, listener: Callable[[CacheEvent], None]) -> Iterator[None]:
        """Call ``listener`` for every event of the body, in the thread that met it."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def record_to(self, runs: RunStore, run: str) -> AbstractContextManager[None]:
        """Write every event of the body to the events of a run."""
        return self.listening(lambda event: runs.add_event(run, event.kind, **event.detail))

    def report(self, event: CacheEvent) -> None:
        """Report an event; call it without locks, as listeners may wait."""
        for listener in tuple(self._listeners):
            listener(event)
        self._count[event.kind] += 1
        if self._count[event.kind] <= _LOGGED:
            logger.warning("%s", event.text)
        elif self._count[event.kind] == _LOGGED + 1:
            logger.warning("more events like this are only counted and recorded (%s)", event.kind)
