"""Progress of long work: a bar on a terminal, otherwise a line from time to time."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import redirect_stdout
from types import TracebackType

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from line_neurons.agent.loop import BEGINNING, node_of
from line_neurons.agent.text import clean_text, format_score
from line_neurons.graphs.runs.runner import Progress as RunProgress
from line_neurons.tui.cli.output import err, note, verbosity
from line_neurons.tui.formatting import counted, duration

_DONE = {"finished", "failed"}

_QUIET_SECONDS = 60
"""Interval of reports on image generation and preparations, without a terminal."""
_LINE_SECONDS = 15
"""Interval of reports on concurrent units, without a terminal."""
_REDRAW_SECONDS = 0.2
_SAMPLE_SECONDS = 5
_SAMPLES = 60
"""Number of samples for rates, which cover five minutes."""


class ProgressReporter:
    """Context manager that shows preparations and steps, with the best score and the time left.

    For one unit at a time each step is reported, for concurrent units the run as a whole. Preparations may be
    reported from any thread, steps from one thread at a time.

    Attributes:
        many: whether several units are processed concurrently.
        steps_before: steps of the runs before the current one.
        steps_in_all: steps of all runs.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.many = False
        self.steps_before = 0
        self.steps_in_all = 0
        self._bars = Progress(
            _Description(table_column=Column(ratio=1, no_wrap=True)),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Left(table_column=Column(no_wrap=True)),
            console=err,
            transient=True,
            disable=verbosity.quiet,
        )
        self._clock = clock
        self._live = err.is_terminal and not verbosity.quiet
        self._aside = redirect_stdout(sys.stderr)
        self._lock = threading.Lock()
        self._task: TaskID | None = None
        self._preparing: dict[str, TaskID] = {}
        self._steps_timed: deque[float] = deque(maxlen=20)
        self._last: float | None = None
        self._noted = clock()
        self._run = ""
        self._steps = 0
        self._in_flight: dict[int, int] = {}
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=_SAMPLES)

    def __enter__(self) -> ProgressReporter:
        # A user's own model may print.
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

    def report_preparation(self, what: str, done: int, total: int) -> None:
        """Show a preparation or the current images; a total of 0 is unknown."""
        if self.many and what == "generating images":
            return
        with self._lock:
            if not self._live:
                now = self._clock()
                late = now - self._noted > _QUIET_SECONDS
                if late or (what != "generating images" and done in (1, total)):
                    note(f"{what}: {done} of {total or 'unknown'}")
                    self._noted = now
                return
            if what not in self._preparing:
                self._preparing[what] = self._bars.add_task(what, total=total or None)
            self._bars.update(self._preparing[what], completed=done, total=total or None)
            if 0 < total <= done:
                self._bars.remove_task(self._preparing.pop(what))

    def report(self, progress: RunProgress) -> None:
        """Show the state of a run."""
        if progress.node == "failed":
            note(f"{_name(progress)} failed: {progress.error}")
        elif verbosity.verbose and progress.node in {"init", "update"}:
            best = f", best {progress.best[0]} {format_score(progress.best[1])}" if progress.best else ""
            note(f"{_name(progress)}: step {progress.step}/{progress.steps} {progress.concept or 'board'}{best}")
        (self._report_run if self.many else self._report_step)(progress)

    def _report_step(self, progress: RunProgress) -> None:
        now = self._clock()
        if progress.node == "update" and self._last is not None:
            self._steps_timed.append(now - self._last)
        if progress.node in {"init", "update"} or self._last is None:
            self._last = now
        step = 0 if progress.node in _DONE else min(progress.step, progress.steps + 1)
        done = self.steps_before + progress.position * (progress.steps + 1) + step
        best = f"best {progress.best[0]} {format_score(progress.best[1])}" if progress.best else "starting"
        timed = self._steps_timed
        left = duration((self.steps_in_all - done) * sum(timed) / len(timed)) if timed else ""
        if self._live:
            where = "summary" if progress.kind == "summary" else f"step {progress.step}/{progress.steps}"
            doing = _doing(progress.node)
            self._show(f"{_name(progress)} · {where} · {doing} · {best}", done, left)
        elif progress.node in {"init", "update"}:
            self._note(f"{_name(progress)}: {done}/{self.steps_in_all} steps, {best}", left)

    def _report_run(self, progress: RunProgress) -> None:
        if progress.run != self._run:
            self._run = progress.run
            self._in_flight.clear()
            self._samples.clear()
        if progress.node in _DONE:
            self._in_flight.pop(progress.unit, None)
        else:
            self._in_flight[progress.unit] = min(progress.step, progress.steps + 1)
        self._steps += progress.node in {"init", "update"}
        now = self._clock()
        pause = _REDRAW_SECONDS if self._live else _LINE_SECONDS
        if self._samples and progress.position < progress.units and now - self._noted < pause:
            return
        self._noted = now
        done = self.steps_before + progress.position * (progress.steps + 1) + sum(self._in_flight.values())
        drawn, reused = progress.stats.generated, progress.stats.reused
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples.append((now, done, drawn))
        since, done_then, drawn_then = self._samples[0]
        seconds = max(now - since, 1e-9)
        failed = f" ({progress.failed} failed)" if progress.failed else ""
        text = (
            f"{progress.position}/{progress.units} units{failed}, {counted(self._steps, 'step')}, "
            f"{(drawn - drawn_then) / seconds:.1f} images/s, {reused / max(reused + drawn, 1):.0%} reused"
        )
        if redrawn := progress.stats.regenerated:
            text += f", {redrawn} redrawn"
        gained, ahead = done - done_then, self.steps_in_all - done
        left = duration(ahead * seconds / gained) if gained and ahead else ""
        if self._live:
            self._show(text, done, left)
        else:
            self._note(text, left)

    def _show(self, text: str, done: int, left: str) -> None:
        if self._task is None:
            self._task = self._bars.add_task(text, total=self.steps_in_all)
        self._bars.update(self._task, description=text, completed=done, total=self.steps_in_all, left=left)

    def _note(self, text: str, left: str) -> None:
        note(text + (f", about {left} left" if left else ""))


def _doing(ended: str) -> str:
    """Return what a unit does after a node; the name is empty before the first one."""
    if ended in _DONE:
        return ended
    return node_of(ended).then if ended else node_of(BEGINNING).sentence


def _name(progress: RunProgress) -> str:
    return f"unit {progress.unit}" + (f" ({progress.name})" if progress.name else "")


class _Description(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(clean_text(task.description, 100))


class _Left(ProgressColumn):
    def render(self, task: object) -> Text:
        left = getattr(task, "fields", {}).get("left", "")
        return Text(f"about {left} left" if left else "", style="progress.remaining")


def download_bars() -> Progress:
    """Return progress bars in bytes, for downloads."""
    return Progress(
        _Description(),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=verbosity.quiet,
    )
