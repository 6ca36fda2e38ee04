"""The runs of a store as the app lists them: how far each is, who works on it, and how fast."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Literal

from line_neurons.tools.label_marks import DONE
from line_neurons.tools.run_problems import RunProblems, run_problems
from line_neurons.tools.store import queries
from line_neurons.tools.store.activity import WorkCounts, activities, work_counts
from line_neurons.tools.store.leases import LeaseStatus, lease_status
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore

State = Literal[
    "running", "stopping", "starting", "process gone", "interrupted", "failed", "finished", "not begun"
]

SIGNS: dict[str, str] = {
    "running": "●",
    "stopping": "◐",
    "starting": "◌",
    "process gone": "✗",
    "interrupted": "‖",
    "failed": "!",
    "finished": "✓",
    "not begun": "○",
}
"""A sign for each state, for who sees no colours."""

BEST_LABELS = 3
_MINUTE = 60.0
_SETTLED = 10.0


@dataclass(frozen=True)
class RunRow:
    """A run as it is listed.

    Args:
        run: the run.
        state: what it does, in a word.
        units: number of its units.
        finished: those that are done with and did not fail.
        failed: those that failed.
        in_hand: those that are worked on.
        holder: the process that works on it or did when it died, as people name it; empty if there is none.
        stop: who asked that process to stop.
        labels: the best labels with how far they exceed the initial ones, best first.
        first_error: of a failed unit: its index and why.
        made: images that the process drew, reused and measured; None if nobody works on it.
        rate: images a second over the last minute; None if nobody works on it.
        left: seconds that it takes yet; None where that cannot be told.
        remarks: what is wrong with it, a sentence each.
        noted: the same in a few words.
    """

    run: Run
    state: State
    units: int
    finished: int
    failed: int
    in_hand: tuple[int, ...] = ()
    holder: str = ""
    stop: str = ""
    labels: tuple[tuple[str, float], ...] = ()
    first_error: tuple[int, str] | None = None
    made: WorkCounts | None = None
    rate: float | None = None
    left: float | None = None
    remarks: tuple[str, ...] = ()
    noted: str = ""

    @property
    def share(self) -> float:
        """The share of the units that are done with, 0 to 1."""
        return (self.finished + self.failed) / self.units if self.units else 0.0

    @property
    def is_held(self) -> bool:
        """Whether a living process works on it."""
        return self.state in {"running", "stopping"}

    @property
    def goes_on(self) -> bool:
        """Whether resuming has work on it."""
        return self.finished + self.failed < self.units or self.run.status not in {"finished", "failed"}


class RunRows:
    """Reads the rows; what does not change is read once."""

    def __init__(self) -> None:
        self._runs: dict[str, tuple[Any, Run]] = {}
        self._labels: dict[str, tuple[Any, Any, Any, RunProblems | None]] = {}
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def __call__(self, runs: RunStore) -> list[RunRow]:
        """All runs, newest first.

        Raises:
            StoreError: the store cannot be read.
        """
        held, at_work, images = lease_status(runs, check_liveness=False), activities(runs), work_counts(runs)
        states = queries.unit_states(runs)
        return [
            self._row(runs, self._run(runs, name, revision), states.get(name, {}), held.get(name),
                      tuple(activity.unit for activity in at_work.get(name, ())), images.get(name))
            for name, revision in queries.run_revisions(runs).items()
        ]  # fmt: skip

    def _run(self, runs: RunStore, name: str, revision: tuple[Any, ...]) -> Run:
        before, run = self._runs.get(name, (None, None))
        if run is None or before != revision:
            run = replace(runs.run(name), vocabulary=None)
            self._runs[name] = revision, run
        return run

    def _row(
        self, runs: RunStore, run: Run, states: dict[str, int], held: LeaseStatus | None, in_hand: tuple[int, ...],
        images: WorkCounts | None,
    ) -> RunRow:  # fmt: skip
        labels, error, now = self._best(runs, run, states)
        row = RunRow(
            run=run,
            state=_state(run, held),
            units=sum(states.values()),
            finished=sum(states.get(state, 0) for state in DONE),
            failed=states.get("failed", 0),
            holder=held.holder.name if held else "",
            stop=(held.holder.stop or "") if held else "",
            labels=labels,
            first_error=error,
            remarks=tuple(now.remarks()),
            noted=now.short(),
        )
        if not row.is_held or images is None or held is None:
            self._seen.pop(run.id, None)
            return row
        return replace(
            row,
            in_hand=in_hand,
            made=images,
            rate=self._rate(run.id, images, held.holder.beat),
            left=_left(row, len(in_hand), images, held.holder.beat),
        )

    def _best(self, runs: RunStore, of: Run, states: dict[str, int]) -> tuple[Any, Any, RunProblems]:
        run = of.id
        known, labels, error, came = self._labels.get(run, (None, (), None, None))
        # A revisit changes labels after the last unit is finished.
        now = (sorted(states.items()), queries.last_event_id(runs, run))
        if known != now or came is None:
            labels = queries.largest_margins(runs, run, BEST_LABELS)
            error = queries.first_failure(runs, run)
            came = run_problems(runs.path.parent, runs, of)
            self._labels[run] = now, labels, error, came
        return labels, error, came

    def _rate(self, run: str, images: WorkCounts, beat: float) -> float | None:
        count, now = images.generated + images.reused, time.monotonic()
        seen = self._seen.setdefault(run, deque())
        if seen and seen[-1][1] > count:
            seen.clear()
        if not seen or now - seen[-1][0] >= 1:
            seen.append((now, count))
        while len(seen) > 2 and now - seen[0][0] > _MINUTE:
            seen.popleft()
        if now - seen[0][0] >= _SETTLED:
            return round((count - seen[0][1]) / (now - seen[0][0]), 1)
        passed = beat - images.since
        return round(count / passed, 1) if passed >= 1 else None


def _state(run: Run, held: LeaseStatus | None) -> State:
    if held is not None and not held.stale:
        return "stopping" if held.holder.stop else "running"
    if held is not None and run.status in {"running", "pending"}:
        return "process gone"
    if run.status in {"finished", "failed"}:
        return "failed" if run.status == "failed" else "finished"
    return "not begun" if run.status == "pending" else "interrupted"


def _left(row: RunRow, in_hand: int, images: WorkCounts, beat: float) -> float | None:
    """From the images that the rest needs, at the pace since the process took the run."""
    passed, count = beat - images.since, images.generated + images.reused
    settings = row.run.settings
    try:
        steps = settings["top"] + settings["random"] + settings["iterations"] + bool(settings["summary"])
        each = int(settings["images"]) * steps * (1 + int(settings.get("restarts", 0)))
    except (KeyError, TypeError, ValueError):
        return None
    if passed < _SETTLED or count <= 0 or each <= 0:
        return None
    # Those in hand are half done, one with another.
    rest = (row.units - row.finished - row.failed - in_hand / 2) * each
    return float(round(max(rest, 0) * passed / count))
