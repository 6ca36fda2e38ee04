"""Change a state of the whole process while some threads need it, and restore it afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

State = TypeVar("State")


class SharedChange(Generic[State]):
    """A change that several threads may ask for at once: the first saves the state, the last restores it.

    Each applies the change: what other code has set meanwhile is overwritten.

    Args:
        save: returns the state.
        apply: changes it.
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
