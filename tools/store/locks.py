"""Locks of runs, databases and whole stores; the kernel frees them when their holder ends."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from line_neurons.agent.errors import LineError, StoreError, UsageError
from line_neurons.tools.store.paths import open_no_link, own_files

_HOLDER = re.compile(r"(?:process \d+ on .* since [\d:]{8})?")
"""Content of a lock file: its holder, nothing when it is free."""

_STORE_LOCK = Path("locks", "store")
_POLL_SECONDS = 0.2
_RETRY_SECONDS = 0.02
_ATTEMPTS = 3
"""``is_held`` holds a lock for a moment too."""


@contextmanager
def file_lock(
    path: Path, *, refusal: Callable[[str], LineError], on_wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold a lock file for the body; it is made if it does not exist, and left there.

    Args:
        refusal: makes the error for a lock that another process holds, from a description of the holder.
        on_wait: if given, the lock is waited for, and this is called with a description of the holder meanwhile.

    Raises:
        LineError: another process holds it and it is not waited for.
        OSError: the file cannot be written, or is a symbolic link.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8", opener=open_no_link) as stream:
        for attempt in count(1):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read().strip() or "another process"
                if on_wait:
                    on_wait(holder)
                elif attempt == _ATTEMPTS:
                    raise refusal(holder) from None
                time.sleep(_POLL_SECONDS if on_wait else _RETRY_SECONDS)
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%H:%M:%S')}")
        stream.flush()
        try:
            yield
        finally:
            # The file itself stays: removing it would let a waiter lock a name that is gone.
            stream.truncate(0)


def lock_files(store: Path) -> Iterator[Path]:
    """Yield the lock files of a store's runs and databases; a file with any other content is none."""
    for path in own_files(store, "locks"):
        with suppress(OSError, UnicodeDecodeError):
            if _HOLDER.fullmatch(path.read_text(encoding="utf-8")):
                yield path


def is_held(path: Path) -> bool:
    """Return whether a living process holds a lock file."""
    try:
        with open(path, encoding="utf-8", opener=open_no_link) as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextmanager
def shared_lock(store: Path) -> Iterator[None]:
    """Keep a store from being repaired for the body; any number of processes may use it.

    Raises:
        UsageError: it is being repaired.
        StoreError: it cannot be written.
    """
    path = store / _STORE_LOCK
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
                f"the store {str(store)!r} is being repaired by another process", "wait for it, then line resume"
            ) from None
        yield


@contextmanager
def exclusive_lock(store: Path) -> Iterator[None]:
    """Keep other processes from using a store for the body.

    Raises:
        UsageError: another process uses it.
        OSError: the store cannot be written.
    """

    def refusal(holder: str) -> UsageError:
        return UsageError(f"the store {str(store)!r} is in use by {holder}", "wait for it, or stop it first")

    with file_lock(store / _STORE_LOCK, refusal=refusal):
        yield
