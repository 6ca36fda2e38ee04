"""Chat engines: their interface, and a pool of several engines of one model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from line_neurons.agent.ports import Prompt


@dataclass(frozen=True)
class Completion:
    """A reply of an engine.

    Args:
        truncated: it was cut off for its length.
        thoughts: the reasoning of a thinking model before its reply.
    """

    text: str
    truncated: bool
    thoughts: str = ""


class ChatEngine(Protocol):
    """An engine that completes chats."""

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        """Complete ``prompt``; the same call gives the same text as far as possible.

        Raises:
            BackendError: the engine failed.
        """


class EnginePool:
    """Send each request to an idle engine; where all are busy, the request waits.

    Which engine replies must not matter: every engine that ``make`` opens has to give the same reply to the same
    request.

    Args:
        make: opens an engine; called only when one more is needed at the same time, never twice at once.
        limit: the most engines, at least 1.
    """

    def __init__(self, make: Callable[[], ChatEngine], limit: int) -> None:
        self._make = make
        self._free = threading.BoundedSemaphore(limit)
        self._taking = threading.Lock()
        self._opening = threading.Lock()
        self._idle: list[ChatEngine] = []

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        """See ``ChatEngine.complete``."""
        with self._free:
            with self._taking:
                engine = self._idle.pop() if self._idle else None
            if engine is None:
                with self._opening:
                    engine = self._make()
            try:
                return engine.complete(prompt, seed=seed, temperature=temperature)
            finally:
                self._idle.append(engine)
