"""One thread computes what several need; the others wait for it."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable
from types import TracebackType
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class KeyClaims(Generic[Key]):
    """The keys that threads are working on.

    Args:
        lock: guards the claims; a thread that holds it while it looks something up and claims what is missing
            leaves no moment in between in which another thread could start the same.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._owners: dict[Key, threading.Event] = {}

    def take(self, keys: Iterable[Key]) -> Claim[Key]:
        """Claim the keys that no thread has; never waits."""
        done = threading.Event()
        with self._lock:
            owners = {key: self._owners.setdefault(key, done) for key in keys}
        mine = tuple(key for key, owner in owners.items() if owner is done)
        return Claim(self, mine, done, {owner for owner in owners.values() if owner is not done})

    def give_back(self, keys: Iterable[Key]) -> None:
        """Let others claim the keys."""
        with self._lock:
            for key in keys:
                del self._owners[key]


class Claim(Generic[Key]):
    """Keys owned by this thread inside the ``with`` block, and the events of keys owned by others.

    Waiting comes after the ``with``: a thread that waited while others wait for it could wait for ever.
    """

    def __init__(
        self, claims: KeyClaims[Key], mine: tuple[Key, ...], done: threading.Event, others: set[threading.Event]
    ) -> None:
        self.mine = mine
        self._claims = claims
        self._done = done
        self._others = others

    def __enter__(self) -> Claim[Key]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._claims.give_back(self.mine)
        self._done.set()

    def wait_for_others(self) -> None:
        """Wait until the other owners finish; read their results from the cache."""
        for done in self._others:
            done.wait()
