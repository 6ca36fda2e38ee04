"""Several chat engines of one model, each of which answers one question at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from line_neurons.agent.ports import Prompt
from line_neurons.tools.language_models.proposer import ChatEngine, Completion


class EnginePool:
    """Hands each question to an engine that has none; where all have one, the question waits.

    Which engine answers must not matter: every engine that ``make`` opens has to give the same answer to the
    same question.

    Args:
        make: opens an engine; called only when one more is wanted at the same time, never twice at once.
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
