"""Run a registry's own client and measure its progress."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_POLL_SECONDS = 0.2
_STOP_SECONDS = 5
_OFFLINE = re.compile(
    r"NameResolutionError|Failed to establish a new connection|ConnectTimeout|ProxyError"
    r"|Temporary failure resolving|Could not resolve|Could not connect|Unable to connect"
    r"|ENOTFOUND|EAI_AGAIN|ECONNREFUSED"
)

BytesDone = Callable[[int], None]
"""Called with the bytes that have arrived so far; raising from it stops the client."""


class ClientError(Exception):
    """A client ended with an error; ``log`` is its output."""

    def __init__(self, log: str) -> None:
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("ERROR:", "E:", "npm error", "npm ERR!"))]
        offline = _OFFLINE.search(log)
        super().__init__(
            "the registry cannot be reached" if offline else (errors or lines or ["it said nothing"])[0][:300]
        )
        self.log = log


def run(
    command: Sequence[str], *, folder: Path, done: BytesDone, environment: Mapping[str, str] | None = None
) -> str:
    """Run a client in a folder and return its output; progress is the folder's size.

    The client gets a session of its own, so that Ctrl-C reaches only this process, which then ends it.

    Raises:
        ClientError: it ended with an error.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                try:
                    process.wait(_POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    done(folder_size(folder))
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        log.seek(0)
        said = log.read().decode("utf-8", "replace")
    if process.returncode != 0:
        raise ClientError(said)
    return said


def folder_size(folder: Path) -> int:
    """Return the bytes in the files below a folder, some of which may vanish meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(parent, name).lstat().st_size
            except FileNotFoundError:
                continue
    return total
