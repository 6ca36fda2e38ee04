"""A progress line: rewritten in a notebook's cell or on a terminal, repeated in a log now and then."""

from __future__ import annotations

import sys
import time
from typing import Any

from line_neurons.agent.text import clean_text, short_score
from line_neurons.graphs.runs.runner import Progress

_CHARACTERS = 120
_PAUSE = 0.2
_LOG_PAUSE = 15.0
"""Seconds between two lines of a log."""


class ProgressLine:
    """Shows the progress of a run; nothing unless ``shown``."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._cell: Any = None
        self._notebook = shown and _in_notebook()
        self._terminal = sys.stderr.isatty()
        self._next = 0.0
        self._before = ""

    def preparing(self, what: str, done: int, total: int) -> None:
        """Show the progress of long work."""
        self._write(f"{self._before}{what}: {done}{f' of {total}' if total else ''}")

    def watch(self, progress: Progress) -> None:
        """Show the progress of the run after a node."""
        failed = f" ({progress.failed} failed)" if progress.failed else ""
        head = f"{progress.position} of {progress.units} units{failed} · "
        named = f"unit {progress.unit}{f' {progress.name}' if progress.name else ''}"
        best = f", best {progress.best[0]} {short_score(progress.best[1])}" if progress.best else ""
        step = f"step {min(progress.step, progress.steps)} of {progress.steps}"
        what = progress.error or f"{'done' if progress.node == 'finished' else step}{best}"
        self._before = f"{head}{named}: {what} · "
        self._write(f"{head}{named}: {what}", now=progress.node in {"finished", "failed"})

    def say(self, text: str, *, last: bool = False) -> None:
        """Show a text instead."""
        self._write(text, now=True)
        if last and self._shown and self._terminal and not self._notebook:
            sys.stderr.write("\n")
            sys.stderr.flush()

    def _write(self, text: str, *, now: bool = False) -> None:
        if not self._shown or (not now and time.monotonic() < self._next):
            return
        live = self._notebook or self._terminal
        self._next = time.monotonic() + (_PAUSE if live else _LOG_PAUSE)
        line = clean_text(text, _CHARACTERS if live else 4 * _CHARACTERS)
        if self._notebook:
            self._show({"text/plain": line})
        else:
            # Clears the terminal's line.
            sys.stderr.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
            sys.stderr.flush()

    def _show(self, data: dict[str, str]) -> None:
        if self._cell is None:
            from IPython import display

            show: Any = display.display
            self._cell = show(data, raw=True, display_id=True)
        else:
            self._cell.update(data, raw=True)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")
