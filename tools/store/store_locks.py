"""A store is worked on by many processes, or mended by one."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from line_neurons.agent.errors import StoreError, UsageError
from line_neurons.tools.store.file_locks import hold
from line_neurons.tools.store.paths import open_no_link

_LOCK = Path("locks", "store")


@contextmanager
def in_use(store: Path) -> Iterator[None]:
    """Keep a store from being mended for the body; others may use it too.

    Raises:
        UsageError: it is being mended.
        StoreError: it cannot be written.
    """
    path = store / _LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = open(path, "a+", encoding="utf-8", opener=open_no_link)  # noqa: SIM115 - closed below
    except OSError as error:
        raise StoreError(
            f"the store {str(store)!r} cannot be used: {error.strerror}",
            "make it writable, or name another with --store",
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"the store {str(store)!r} is being mended by another process", "wait for it, then line resume"
            ) from None
        yield


@contextmanager
def alone(store: Path) -> Iterator[None]:
    """Keep others from working on a store for the body.

    Raises:
        UsageError: another process works on it.
        OSError: the store cannot be written.
    """

    def taken(holder: str) -> UsageError:
        return UsageError(
            f"the store {str(store)!r} is being worked on by {holder}", "wait for it, or stop it first"
        )

    with hold(store / _LOCK, taken=taken):
        yield
