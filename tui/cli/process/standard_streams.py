"""Standard streams that are closed, full or broken: a failure of output never stops the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import IO, Any, cast


class UnfailingStream:
    """Text stream that drops text which cannot be written."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, or drop it, and return its length."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines, or drop them."""
        for text in lines:
            self.write(text)

    def flush(self) -> None:
        """Write what is buffered, or drop it."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_standard_streams() -> None:
    """Open closed standard streams on the null device, and make standard error unfailing.

    Otherwise the next file that is opened would get the number of the closed stream, and its output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or os.fdopen(0, "r", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    if not isinstance(sys.stderr, UnfailingStream):
        stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
        sys.stderr = cast("Any", UnfailingStream(stderr))
