"""Progress of long work: a bar where there is a terminal, a line for each step where there is none."""

from __future__ import annotations

import sys
import time
from contextlib import redirect_stdout
from types import TracebackType

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from line_neurons.agent.prompts import format_score
from line_neurons.agent.proposal import clean_text
from line_neurons.graphs.runs import Progress as RunProgress
from line_neurons.tui.terminal import err, note

_NEXT = {
    "": "filling the first board",
    "init": "asking for a concept",
    "propose": "drawing",
    "summarize": "drawing",
    "synthesize": "measuring",
    "activate": "scoring",
    "score": "updating the board",
    "update": "asking for a concept",
}


_QUIET_SECONDS = 60
"""Without a terminal, drawing that takes longer is told once in this time."""


class Watching:
    """Shows preparations and steps with the score so far and the time left; a context manager.

    Attributes:
        steps_before: steps of the runs that were worked on before the one in hand.
        steps_in_all: steps of all runs that are to be worked on.
    """

    def __init__(self) -> None:
        self.steps_before = 0
        self.steps_in_all = 0
        self._bars = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Left(table_column=Column(no_wrap=True)),
            console=err,
            transient=True,
        )
        self._live = err.is_terminal
        self._aside = redirect_stdout(sys.stderr)
        self._task: TaskID | None = None
        self._preparing: dict[str, TaskID] = {}
        self._steps_timed: list[float] = []
        self._last: float | None = None
        self._noted = time.monotonic()

    def __enter__(self) -> Watching:
        # What a user's own model prints must not come between the results.
        self._aside.__enter__()
        if self._live:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bars.stop()
        self._aside.__exit__(kind, error, trace)

    def preparing(self, what: str, done: int, total: int) -> None:
        """Show a preparation, or how far the pictures in hand are; a total of 0 is unknown."""
        if not self._live:
            now = time.monotonic()
            late = now - self._noted > _QUIET_SECONDS
            if late if what == "drawing" else done in (1, total):
                note(f"{what}: {done} of {total or 'unknown'}")
                self._noted = now
            return
        if what not in self._preparing:
            self._preparing[what] = self._bars.add_task(what, total=total or None)
        self._bars.update(self._preparing[what], completed=done, total=total or None)
        if 0 < total <= done:
            self._bars.remove_task(self._preparing.pop(what))

    def watch(self, progress: RunProgress) -> None:
        """Show where a run stands."""
        now = time.monotonic()
        if progress.node == "update" and self._last is not None:
            self._steps_timed.append(now - self._last)
        if progress.node in {"init", "update"} or self._last is None:
            self._last = now
        total = self.steps_in_all
        done = (
            self.steps_before + progress.position * (progress.steps + 1) + min(progress.step, progress.steps + 1)
        )
        best = f"best {progress.best[0]} {format_score(progress.best[1])}" if progress.best else "starting"
        name = f"unit {progress.unit}" + (f" ({progress.name})" if progress.name else "")
        step = "summary" if progress.step == progress.steps else f"step {progress.step}/{progress.steps}"
        left = self._left(total - done)
        if self._live:
            text = clean_text(f"{name} · {step} · {_NEXT[progress.node]} · {best}", 100)
            if self._task is None:
                self._task = self._bars.add_task(text, total=total)
            self._bars.update(self._task, description=text, completed=done, total=total, left=left)
        elif progress.node in {"init", "update"}:
            note(f"{name}: {done}/{total} steps, {best}" + (f", about {left} left" if left else ""))

    def _left(self, steps: int) -> str:
        recent = self._steps_timed[-20:]
        if not recent:
            return ""
        seconds = steps * sum(recent) / len(recent)
        return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


class _Left(ProgressColumn):
    def render(self, task: object) -> Text:
        left = getattr(task, "fields", {}).get("left", "")
        return Text(f"about {left} left" if left else "", style="progress.remaining")


def download_bars() -> Progress:
    """Bars in bytes, for asset packs."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
    )
