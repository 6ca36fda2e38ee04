"""What a `line` command lists as JSON, from a process that can be cancelled."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from textual.screen import Screen

from line_neurons.agent.errors import BackendError, LineError
from line_neurons.agent.text import clean_text
from line_neurons.tui.app import external

T = TypeVar("T")

_TAIL_BYTES = 4096


class Listing:
    """A `line` command that prints a JSON list of objects.

    Args:
        arguments: of ``line``; ``--json`` is added.
        timeout: seconds to wait; None for as long as it takes.
    """

    def __init__(self, arguments: Sequence[str], timeout: float | None = None) -> None:
        self._command = arguments[0]
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(  # noqa: S603 - the program itself, and no shell
            [*external.COMMAND, *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def wait(self) -> list[dict[str, Any]]:
        """Wait for the rows.

        Raises:
            BackendError: the command failed, or printed no list.
        """
        try:
            out, _ = self._process.communicate(timeout=self._timeout)
        except subprocess.TimeoutExpired:
            self.cancel()
            raise BackendError(f"no answer within {self._timeout:.0f} s") from None
        if self._process.returncode:
            raise BackendError(self.message().removeprefix("error: ") or "the command gave no reason")
        try:
            rows = json.loads(out)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise ValueError("it is no list of objects")
        except ValueError as error:
            raise BackendError(f"`line {self._command}` printed no list: {error}") from error
        return rows

    def deliver(
        self, screen: Screen[Any], read: Callable[[list[dict[str, Any]]], T], show: Callable[[T | None, str], None]
    ) -> None:
        """Call ``show`` in the app with what ``read`` makes of the rows, or with None and what went wrong.

        The command is waited for, and its rows are read, in a thread.
        """

        def work() -> None:
            found, error = None, ""
            try:
                found = read(self.wait())
            except (LineError, OSError) as failure:
                error = str(failure)
            screen.call_later(show, found, error)

        screen.run_worker(work, thread=True, exit_on_error=False)

    def message(self) -> str:
        """Return the last line of the command's messages; empty if there is none."""
        end = self._errors.seek(0, 2)
        self._errors.seek(max(0, end - _TAIL_BYTES))
        text = self._errors.read().decode(errors="replace").replace("\r", "\n")
        lines = [clean_text(line, 500).strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def cancel(self) -> None:
        """End the process."""
        self._process.kill()
