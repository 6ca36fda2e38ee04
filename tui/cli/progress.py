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
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from line_neurons.agent.loop import BEGINNING, node_of
from line_neurons.agent.text import clean_text, short_score
from line_neurons.graphs.runs.loading import LoadingRecord
from line_neurons.graphs.runs.runner import Progress as RunProgress
from line_neurons.tools.store.activity import Phase, next_phase
from line_neurons.tui.cli.output import err, note, verbosity
from line_neurons.tui.formatting import duration, phase_time

_DONE = {"finished", "failed"}

_QUIET_SECONDS = 60
"""Interval of reports on image generation and preparations, without a terminal."""
_LINE_SECONDS = 15
"""Interval of reports on concurrent units, without a terminal."""
_REDRAW_SECONDS = 0.2
_SAMPLE_SECONDS = 5
_ESTIMATE_SECONDS = 2.0
"""Interval of two estimates of the remaining time, which read the store."""
_WIDE, _WIDE_BAR, _BAR = 100, 24, 12
"""Terminal width from which the bar is the wide one; widths of both."""
_LEFT_WIDTH = 15
_SAMPLES = 60
"""Number of samples for rates, which cover five minutes."""


class ProgressReporter:
    """Context manager that shows preparations and steps, with the best score and the time left.

    For one unit at a time each step is reported, for concurrent units the run as a whole. Preparations may be
    reported from any thread, steps from one thread at a time.

    Attributes:
        many: whether several units are processed concurrently.
        steps_before: steps of the runs before the current one.
        steps_in_all: iterations and summaries of all units of all runs.
        seconds_left: estimates the remaining time in seconds; None where nothing was measured yet.

    Args:
        clock: a monotonic clock, in seconds.
        record: where preparations are recorded until a run has its lease.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, record: LoadingRecord | None = None) -> None:
        self._record = record
        self.many = False
        self.steps_before = 0
        self.steps_in_all = 0
        self.seconds_left: Callable[[], float | None] = lambda: None
        self._bars = Progress(
            *_columns(self, err.width), console=err, transient=True, expand=True, disable=verbosity.quiet
        )
        self._clock = clock
        self._live = err.is_terminal and not verbosity.quiet
        self._aside = redirect_stdout(sys.stderr)
        self._lock = threading.Lock()
        self._task: TaskID | None = None
        self._preparing: dict[str, TaskID] = {}
        self._phases: dict[str, Phase] = {}
        self._noted = clock()
        self._run = ""
        self._pulse = ""
        self._in_flight: dict[int, int] = {}
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)

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
        if self._record:
            self._record.report(what, done, total)
        if self.many and what == "generating images":
            return
        if done == total == 0:
            self._report_start(what)
            return
        self._end_pulse(but=what)
        with self._lock:
            new = what not in self._phases
            phase = self._phases[what] = next_phase(self._phases.get(what), what, done, total, self._clock())
            if ended := 0 < total <= done:
                del self._phases[what]
            if not self._live:
                now = self._clock()
                late = now - self._noted > _QUIET_SECONDS
                if late or (what != "generating images" and (new or ended)):
                    seconds = None if ended else phase.seconds_left(now)
                    left = "" if seconds is None else f", about {duration(seconds)} left"
                    note(f"{what}: {done} of {total or 'unknown'}{left}")
                    self._noted = now
                return
            if what not in self._preparing:
                self._preparing[what] = self._bars.add_task(what, total=total or None)
            if not total:
                self._pulse = what
            self._bars.update(self._preparing[what], completed=done, total=total or None, phase=phase)
            if ended:
                self._bars.remove_task(self._preparing.pop(what))

    def leave_loading(self, run: str) -> None:
        """Leave a run to its lease, which the process takes now."""
        if self._record:
            self._record.leave(run)

    def _report_start(self, what: str) -> None:
        """Show a preparation of unknown length until the next work starts."""
        self._end_pulse()
        if self._live:
            with self._lock:
                self._pulse = what
                phase = next_phase(None, what, 0, 0, self._clock())
                self._preparing[what] = self._bars.add_task(what, total=None, phase=phase)
        else:
            note(what)

    def report(self, progress: RunProgress) -> None:
        """Show the state of a run."""
        if progress.node == "failed":
            note(f"{_name(progress)} failed: {progress.error}")
        elif verbosity.verbose and progress.node in {"init", "update"}:
            best = f", best {progress.best[0]} {short_score(progress.best[1])}" if progress.best else ""
            note(f"{_name(progress)}: step {progress.step}/{progress.steps} {progress.concept or 'board'}{best}")
        (self._report_run if self.many else self._report_step)(progress)

    def _report_step(self, progress: RunProgress) -> None:
        step = 0 if progress.node in _DONE else progress.steps_done
        done = self.steps_before + progress.position * progress.steps_of_unit + step
        best = f"best {progress.best[0]} {short_score(progress.best[1])}" if progress.best else "starting"
        if self._live:
            where = "summary" if progress.kind == "summary" else f"step {progress.step}/{progress.steps}"
            doing = _doing(progress.node)
            self._show(f"{_name(progress)} · {where} · {best} · {doing}", done)
        elif progress.node in {"init", "update"}:
            self._note(f"{_name(progress)}: {done}/{self.steps_in_all} steps, {best}")

    def _report_run(self, progress: RunProgress) -> None:
        if progress.run != self._run:
            self._run = progress.run
            self._in_flight.clear()
            self._samples.clear()
        if progress.node in _DONE:
            self._in_flight.pop(progress.unit, None)
        else:
            self._in_flight[progress.unit] = progress.steps_done
        now = self._clock()
        pause = _REDRAW_SECONDS if self._live else _LINE_SECONDS
        if self._samples and progress.position < progress.units and now - self._noted < pause:
            return
        self._noted = now
        done = self.steps_before + progress.position * progress.steps_of_unit + sum(self._in_flight.values())
        drawn, reused = progress.stats.generated, progress.stats.reused
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples.append((now, drawn))
        since, drawn_then = self._samples[0]
        seconds = max(now - since, 1e-9)
        failed = f" ({progress.failed} failed)" if progress.failed else ""
        units = f"{progress.position}/{progress.units} units{failed}"
        text = f"{(drawn - drawn_then) / seconds:.1f} images/s, {reused / max(reused + drawn, 1):.0%} reused"
        if redrawn := progress.stats.regenerated:
            text += f", {redrawn} redrawn"
        if self._live:
            self._show(f"{units}, {text}", done)
        else:
            self._note(f"{units}, {done}/{self.steps_in_all} steps, {text}")

    def _show(self, text: str, done: int) -> None:
        self._end_pulse()
        if self._task is None:
            self._task = self._bars.add_task(text, total=self.steps_in_all, steps=True)
        self._bars.update(self._task, description=text, completed=done, total=self.steps_in_all)

    def _note(self, text: str) -> None:
        note(text + self.left_text(", "))

    def left_text(self, lead: str = "") -> str:
        """Return the remaining time in words after a lead; empty where it is not known."""
        seconds = self.seconds_left()
        return "" if seconds is None else f"{lead}about {duration(seconds)} left"

    def phase_time(self, phase: Phase) -> str:
        """Return for how long a preparation lasts, and how long it still takes where that is known."""
        return phase_time(phase, self._clock())

    def _end_pulse(self, but: str = "") -> None:
        """Remove the bar of a preparation of unknown length, which ends where the next work starts."""
        with self._lock:
            if self._pulse == but:
                return
            task = self._preparing.pop(self._pulse, None)
            self._pulse = ""
        if task is not None:
            self._bars.remove_task(task)


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


class _Count(ProgressColumn):
    """How much is done of how much; of the runs, in steps."""

    def render(self, task: Task) -> Text:
        total = "?" if task.total is None else f"{task.total:.0f}"
        unit = " steps" if task.fields.get("steps") else ""
        return Text(f"{task.completed:.0f}/{total}{unit}", style="progress.download")


class _Left(ProgressColumn):
    """The remaining time of the runs, or else the time that a preparation has taken and still takes."""

    def __init__(self, reporter: ProgressReporter) -> None:
        self._reporter = reporter
        super().__init__(table_column=Column(no_wrap=True, min_width=_LEFT_WIDTH))

    def render(self, task: Task) -> Text:
        """Return the time in words."""
        if task.fields.get("steps"):
            return Text(self._reporter.left_text(), style="progress.remaining")
        phase = task.fields.get("phase")
        return Text(self._reporter.phase_time(phase) if phase else "", style="progress.elapsed")


def _columns(reporter: ProgressReporter, width: int) -> list[ProgressColumn]:
    """Return the columns of the bars: whatever the width, the bar stays and only the description is cut."""
    return [
        _Description(table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=_WIDE_BAR if width >= _WIDE else _BAR, table_column=Column(no_wrap=True)),
        _Count(table_column=Column(no_wrap=True)),
        _Left(reporter),
    ]


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


class AgeingEstimate:
    """Remaining seconds of some work: estimated again from time to time, and less in between.

    Args:
        estimate: estimates the remaining seconds; None where nothing was measured yet.
    """

    def __init__(self, estimate: Callable[[], float | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._estimate = estimate
        self._clock = clock
        self._seconds: float | None = None
        self._at = float("-inf")

    def __call__(self) -> float | None:
        """Return the remaining seconds now; None where nothing was measured yet."""
        now = self._clock()
        if now - self._at >= _ESTIMATE_SECONDS:
            self._seconds, self._at = self._estimate(), now
        return None if self._seconds is None else max(self._seconds - (now - self._at), 0.0)
