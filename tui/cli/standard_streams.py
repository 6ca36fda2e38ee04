"""Standard streams that are closed, full or broken: what is told of the work never decides over the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import IO, Any, cast


class UnfailingStream:
    """A text stream that drops what cannot be written; everything else is the stream's own.

    Args:
        stream: where the text goes.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, or drop it; its length either way."""
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
    """Lead closed standard streams to nowhere, and let no failure of standard error reach the work.

    A file that is opened where standard output is closed would get its number, and be written to by whoever
    writes there.
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
