"""What units in progress are doing: kept in the rows of their leases, and gone with them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace

from line_neurons.tools.store.runs import RunStore


@dataclass(frozen=True)
class Activity:
    """What a unit in progress is doing.

    Args:
        kind: kind of the current step: ``initial``, ``iteration``, ``summary`` or ``end``.
        step: the current step, 0 while the initial board is filled.
        steps: the unit's last step, unless patience shortens or extends the search.
        attempt: earlier requests to the language model in this step.
        concept: the current concept; empty before one is proposed.
        best: the best concept so far; empty before the initial board.
        since: when the node started, in seconds since the epoch by the worker's clock.
    """

    unit: int
    node: str
    kind: str
    step: int
    steps: int
    attempt: int
    concept: str
    best: str
    best_score: float | None
    since: float


@dataclass(frozen=True)
class WorkerStatus:
    """What a worker that generates and measures images has done.

    Args:
        place: its device or machine.
        busy: share of its time that it worked, in [0, 1].
        rate: images per second since it was ready.
    """

    place: str
    busy: float
    images: int
    rate: float


@dataclass(frozen=True)
class WorkCounts:
    """Images and forward passes since the process took the run.

    Args:
        since: when that was, in seconds since the epoch by the worker's clock.
        generated: images that the generator made.
        reused: images that the cache had.
        measured: images that went through the target.
        workers: the workers, if there are any, by place.
    """

    since: float
    generated: int
    reused: int
    measured: int
    workers: tuple[WorkerStatus, ...] = ()


@dataclass(frozen=True)
class Phase:
    """Work of a process for a run that belongs to no unit.

    Args:
        what: the work, such as ``control set``.
        done: how much of it is done.
        total: of how much; 0 if that is not known.
        since: when it started, in seconds since the epoch by the worker's clock.
        first: how much was done then.
        reached: when ``done`` was reached; None: not recorded.
    """

    what: str
    done: int
    total: int
    since: float
    first: int = 0
    reached: float | None = None

    def seconds_left(self, now: float) -> float | None:
        """Estimate the remaining seconds from the pace so far; None until something was measured."""
        reached = now if self.reached is None else self.reached
        if not self.total or self.done <= self.first:
            return None
        pace = (reached - self.since) / (self.done - self.first)
        # The current piece takes its usual time at least.
        return max(pace * (self.total - self.done) - min(max(now - reached, 0.0), pace), 0.0)


def next_phase(before: Phase | None, what: str, done: int, total: int, now: float) -> Phase:
    """Return the phase that a report of progress continues or starts."""
    if before is None or before.what != what:
        return Phase(what, done, total, now, done, now)
    return replace(before, done=done, total=total, reached=before.reached if done == before.done else now)


_FIELDS = [field.name for field in fields(Activity)]
_PUT_ACTIVITY = f"UPDATE leases SET {', '.join(f'{name} = ?' for name in _FIELDS[1:])} WHERE thread = ?"  # noqa: S608
_PUT_COUNTS = "UPDATE leases SET drawn = ?, reused = ?, measured = ?, concept = ? WHERE thread = ?"
_ACTIVITIES = (
    f"SELECT run, {', '.join(_FIELDS)} FROM leases WHERE unit IS NOT NULL AND node IS NOT NULL"  # noqa: S608
    " ORDER BY run, unit"
)
_COUNTS = (
    "SELECT run, began, drawn, reused, measured, concept FROM leases WHERE unit IS NULL AND drawn IS NOT NULL"
)
# A run's own row has these columns for its phase (the last two for ``first`` and ``reached``), that of a concept
# for its workers; those of its units have them for their activities.
_PHASE = ("kind", "step", "steps", "since", "attempt", "best_score")
_PUT_PHASE = f"UPDATE leases SET {', '.join(f'{name} = ?' for name in _PHASE)} WHERE thread = ?"  # noqa: S608
_PHASES = f"SELECT run, {', '.join(_PHASE)} FROM leases WHERE unit IS NULL AND kind IS NOT NULL"  # noqa: S608
_NEEDS = "leases.measured"


def report_activity(
    runs: RunStore,
    run: str,
    activity: Activity,
    *,
    generated: int,
    reused: int,
    measured: int,
    workers: Sequence[WorkerStatus] = (),
) -> None:
    """Record what a unit does now, and what was made for the run so far.

    Raises:
        TakenOverError: another process has taken over the run.
        StoreError: the store cannot be written.
    """
    with runs.atomic(run) as db:
        db.execute(_PUT_ACTIVITY, [*astuple(activity)[1:], f"{run}/{activity.unit}"])
        db.execute(_PUT_COUNTS, [generated, reused, measured, json.dumps([*map(astuple, workers)]), run])


def report_phase(runs: RunStore, run: str, phase: Phase | None) -> None:
    """Record the phase that the process of a run is in; None: it works on units.

    Raises:
        TakenOverError: another process has taken over the run.
        StoreError: the store cannot be written.
    """
    with runs.atomic(run) as db:
        db.execute(_PUT_PHASE, [*(astuple(phase) if phase else [None] * len(_PHASE)), run])


def phases(runs: RunStore) -> dict[str, Phase]:
    """Return the phases of processes that hold runs, by run; of a dead process, its last one."""
    return {
        run: Phase(what, done, total, since, first or 0, reached)
        for run, what, done, total, since, first, reached in runs.rows(_PHASES, needs=_NEEDS)
    }


def activities(runs: RunStore) -> dict[str, list[Activity]]:
    """Return what the units in progress are doing, by run; of a dead process, what they did last."""
    found: dict[str, list[Activity]] = defaultdict(list)
    for run, *values in runs.rows(_ACTIVITIES, needs=_NEEDS):
        found[run].append(Activity(*values))
    return dict(found)


def work_counts(runs: RunStore) -> dict[str, WorkCounts]:
    """Return what the processes that hold runs generated and measured, by run."""
    found = runs.rows(_COUNTS, needs=_NEEDS)
    return {
        run: WorkCounts(since, generated, reused, measured, _workers(workers))
        for run, since, generated, reused, measured, workers in found
    }


def _workers(recorded: str | None) -> tuple[WorkerStatus, ...]:
    """Return the workers of a record; none of a damaged one."""
    try:
        return tuple(
            WorkerStatus(str(place), float(busy), int(images), float(rate))
            for place, busy, images, rate in json.loads(recorded or "[]")
        )
    except (ValueError, TypeError):
        return ()
