"""What was found wrong with images and vectors while work went on, and who is told of it."""

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

_TOLD = 5
"""Of each kind so many are told one by one; when a whole folder has gone there are thousands."""


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
    """Tells the user, and whoever listens, of incidents; from any thread."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[CacheEvent], None]] = []
        self._count: Counter[str] = Counter()

    @contextmanager
    def heard(self, listener: Callable[[CacheEvent], None]) -> Iterator[None]:
        """Have ``listener`` called for every incident within ``with``, in the thread that met it."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def recorded(self, runs: RunStore, run: str) -> AbstractContextManager[None]:
        """Have every incident within ``with`` written to the events of a run."""
        return self.heard(lambda incident: runs.add_event(run, incident.kind, **incident.detail))

    def tell(self, incident: CacheEvent) -> None:
        """Tell of an incident; call it without locks, as listeners may wait."""
        for listener in tuple(self._listeners):
            listener(incident)
        self._count[incident.kind] += 1
        if self._count[incident.kind] <= _TOLD:
            logger.warning("%s", incident.text)
        elif self._count[incident.kind] == _TOLD + 1:
            logger.warning("more like this are only counted and recorded (%s)", incident.kind)
