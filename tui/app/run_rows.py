"""Rows of the table of runs: progress, process and speed of each run."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Literal

from line_neurons.graphs.runs.loading import LoadingRun, loading_runs
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.run_problems import RunProblems, run_problems
from line_neurons.tools.store import queries
from line_neurons.tools.store.activity import Phase, WorkCounts, phases, work_counts
from line_neurons.tools.store.leases import LeaseStatus, lease_status
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.time_left import time_left

State = Literal[
    "running", "stopping", "starting", "process gone", "interrupted", "failed", "finished", "not started"
]

SIGNS: dict[str, str] = {
    "running": "●",
    "stopping": "◐",
    "starting": "◌",
    "process gone": "✗",
    "interrupted": "‖",
    "failed": "!",
    "finished": "✓",
    "not started": "○",
}
"""A sign for each state, readable without colours."""

BEST_LABELS = 3
_MINUTE = 60.0
_SETTLED = 10.0


@dataclass(frozen=True)
class RunRow:
    """A run in the table of runs.

    Args:
        state: its state, a key of ``SIGNS``.
        finished: number of units that ended and did not fail.
        holder: name of the process that works on it, loads it or died working on it; empty if there is none.
        stop_requested_by: who requested that process to stop; empty if nobody did.
        labels: the best labels with their margins over the initial ones, best first.
        first_error: index and error of the first failed unit.
        work_counts: images that the process generated, reused and measured; None if the run is not active.
        images_per_second: over the last minute; None if the run is not active.
        seconds_left: estimated remaining time; None where it cannot be estimated.
        beat: last heartbeat of the process, in seconds since the epoch by its clock.
        phase: work of the process that belongs to no unit, such as the control set; None if there is none.
        lasting_failure: why resuming the run as it is would fail again; empty if it may succeed.
        remarks: problems of the run, a sentence each.
        short_remarks: the same in a few words.
    """

    run: Run
    state: State
    units: int
    finished: int
    failed: int
    holder: str = ""
    stop_requested_by: str = ""
    labels: tuple[tuple[str, float], ...] = ()
    first_error: tuple[int, str] | None = None
    work_counts: WorkCounts | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None
    phase: Phase | None = None
    beat: float = 0.0
    lasting_failure: str = ""
    remarks: tuple[str, ...] = ()
    short_remarks: str = ""

    @property
    def progress(self) -> float:
        """Share of the units that ended, in [0, 1]."""
        return (self.finished + self.failed) / self.units if self.units else 0.0

    @property
    def is_active(self) -> bool:
        """Whether a live process works on the run."""
        return self.state in {"running", "stopping"}

    @property
    def resumable(self) -> bool:
        """Whether `line resume` has units to continue."""
        return self.state != "starting" and (
            self.finished + self.failed < self.units or self.run.status not in {"finished", "failed"}
        )


class RunRowReader:
    """Reads the rows of a store; what does not change is read once."""

    def __init__(self) -> None:
        self._runs: dict[str, tuple[Any, Run]] = {}
        self._cached: dict[str, tuple[Any, Any, Any, RunProblems | None, str | None]] = {}
        self._image_counts: dict[str, deque[tuple[float, int]]] = {}

    def __call__(self, runs: RunStore) -> list[RunRow]:
        """Read all runs, newest first.

        Raises:
            StoreError: the store cannot be read.
        """
        leases, counts, current = lease_status(runs, check_liveness=False), work_counts(runs), phases(runs)
        states = queries.unit_states(runs)
        loading = {run.planned.run: run for run in loading_runs(runs.path.parent)}
        rows = [
            self._row(runs, self._run(runs, name, revision), states.get(name, {}), leases.get(name),
                      counts.get(name), current.get(name))
            for name, revision in queries.run_revisions(runs).items()
        ]  # fmt: skip
        rows = [_starting(row, loading.get(row.run.id)) for row in rows]
        known = {row.run.id for row in rows}
        return [*(new_row(run) for name, run in loading.items() if name not in known), *rows]

    def _run(self, runs: RunStore, name: str, revision: tuple[Any, ...]) -> Run:
        before, run = self._runs.get(name, (None, None))
        if run is None or before != revision:
            run = replace(runs.run_by_id(name), vocabulary=None)
            self._runs[name] = revision, run
        return run

    def _row(
        self, runs: RunStore, run: Run, states: dict[str, int], lease: LeaseStatus | None,
        counts: WorkCounts | None, phase: Phase | None,
    ) -> RunRow:  # fmt: skip
        labels, error, problems, lasting = self._labels_and_problems(runs, run, states)
        row = RunRow(
            run=run,
            state=_state(run, lease),
            units=sum(states.values()),
            finished=sum(states.get(state, 0) for state in DONE),
            failed=states.get("failed", 0),
            holder=lease.holder.name if lease else "",
            stop_requested_by=(lease.holder.stop or "") if lease else "",
            labels=labels,
            first_error=error,
            lasting_failure="" if lease and not lease.stale else lasting or "",
            remarks=tuple(problems.remarks()),
            short_remarks=problems.short(),
        )
        if not row.is_active or lease is None:
            self._image_counts.pop(run.id, None)
            return row
        found = time_left(runs, run, lease.holder.beat)
        left = round(found.seconds) if found else None
        row = replace(row, phase=phase, beat=lease.holder.beat, seconds_left=left)
        if counts is None:
            return row
        return replace(
            row,
            work_counts=counts,
            images_per_second=self._images_per_second(run.id, counts, lease.holder.beat),
        )

    def _labels_and_problems(
        self, runs: RunStore, run: Run, states: dict[str, int]
    ) -> tuple[Any, Any, RunProblems, str | None]:
        before, labels, error, problems, lasting = self._cached.get(run.id, (None, (), None, None, None))
        # A revisit changes labels after the last unit is finished.
        revision = (sorted(states.items()), queries.last_event_id(runs, run.id))
        if before != revision or problems is None:
            labels = queries.largest_margins(runs, run.id, BEST_LABELS)
            error = queries.first_failure(runs, run.id)
            problems = run_problems(runs.path.parent, runs, run)
            lasting = queries.lasting_failure(runs, run.id)
            self._cached[run.id] = revision, labels, error, problems, lasting
        return labels, error, problems, lasting

    def _images_per_second(self, run: str, counts: WorkCounts, beat: float) -> float | None:
        count, now = counts.generated + counts.reused, time.monotonic()
        seen = self._image_counts.setdefault(run, deque())
        if seen and seen[-1][1] > count:
            seen.clear()
        if not seen or now - seen[-1][0] >= 1:
            seen.append((now, count))
        while len(seen) > 2 and now - seen[0][0] > _MINUTE:
            seen.popleft()
        if now - seen[0][0] >= _SETTLED:
            return round((count - seen[0][1]) / (now - seen[0][0]), 1)
        passed = beat - counts.since
        return round(count / passed, 1) if passed >= 1 else None


def new_row(loading: LoadingRun) -> RunRow:
    """Return the row of a run that has none in the store yet, since its components load."""
    planned = loading.planned
    run = Run(
        planned.run, planned.model, planned.layer, planned.seed, "pending", loading.since, {"llm": planned.llm},
        {}, {}, "",
    )  # fmt: skip
    return _starting(RunRow(run, "not started", 0, 0, 0), loading)


def _starting(row: RunRow, loading: LoadingRun | None) -> RunRow:
    """Return the row of a run with the process that loads its components, if one does."""
    if loading is None or row.is_active:
        return row
    return replace(
        row, state="starting", holder=loading.holder, phase=loading.phase, beat=time.time(), lasting_failure=""
    )


def _state(run: Run, held: LeaseStatus | None) -> State:
    if held is not None and not held.stale:
        return "stopping" if held.holder.stop else "running"
    if held is not None and run.status in {"running", "pending"}:
        return "process gone"
    if run.status in {"finished", "failed"}:
        return "failed" if run.status == "failed" else "finished"
    return "not started" if run.status == "pending" else "interrupted"
