"""One installer per pack at a time, across processes."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from line_neurons.agent.errors import LineError

_POLL_SECONDS = 0.2


@contextmanager
def hold(path: Path, *, wait: bool, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file for the body; the kernel frees it when the process ends, however it ends.

    Args:
        path: the lock file; made if it is not there, and left there.
        wait: wait for another holder, or fail at once.
        waiting: called with a word on the holder each time the lock is found taken.

    Raises:
        LineError: another process holds it and ``wait`` is false.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read().strip() or "another process"
                if not wait:
                    raise LineError(
                        f"the asset pack {path.stem!r} is being installed by {holder}",
                        "wait until it is done",
                    ) from None
                waiting(holder)
                time.sleep(_POLL_SECONDS)
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%H:%M:%S')}")
        stream.flush()
        try:
            yield
        finally:
            # The file itself stays: removing it would let a waiter lock a name that is gone.
            stream.truncate(0)
