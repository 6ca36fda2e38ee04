"""What a run is doing at this moment, for who watches it: kept in the rows of its leases, and gone with them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from line_neurons.tools.store.runs import RunStore


@dataclass(frozen=True)
class Activity:
    """What a unit in flight is doing.

    Args:
        unit: index of the unit.
        node: the node of the loop that is at work.
        kind: what the step in hand is: ``initial``, ``iteration``, ``summary`` or ``end``.
        step: the step in hand, 0 while the first board is filled.
        steps: the unit's last step, unless patience shortens or extends the search.
        attempt: how often the language model was asked in this step before.
        concept: the concept in hand; empty before one is proposed.
        best: the best concept so far; empty before the first board.
        best_score: its score.
        since: when the node began, in seconds since the epoch by the worker's clock.
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
class WorkCounts:
    """Images and forward passes since the process took the run.

    Args:
        since: when that was, in seconds since the epoch by the worker's clock.
        drawn: images that the generator made.
        reused: images that the bank had.
        measured: images that the target looked at.
    """

    since: float
    drawn: int
    reused: int
    measured: int


_DOING = [field.name for field in fields(Activity)]
_TELL_UNIT = f"UPDATE leases SET {', '.join(f'{name} = ?' for name in _DOING[1:])} WHERE thread = ?"  # noqa: S608
_TELL_RUN = "UPDATE leases SET drawn = ?, reused = ?, measured = ? WHERE thread = ?"
_UNITS = (
    f"SELECT run, {', '.join(_DOING)} FROM leases WHERE unit IS NOT NULL AND node IS NOT NULL"  # noqa: S608
    " ORDER BY run, unit"
)
_RUNS = "SELECT run, began, drawn, reused, measured FROM leases WHERE unit IS NULL AND drawn IS NOT NULL"


def report_activity(runs: RunStore, run: str, doing: Activity, *, drawn: int, reused: int, measured: int) -> None:
    """Let who watches see what a unit does now, and what was made for the run so far.

    Raises:
        TakenOverError: another process has taken over the run.
        StoreError: the store cannot be written.
    """
    values = [getattr(doing, name) for name in _DOING[1:]]
    with runs.atomic(run) as db:
        db.execute(_TELL_UNIT, [*values, f"{run}/{doing.unit}"])
        db.execute(_TELL_RUN, [drawn, reused, measured, run])


def activities(runs: RunStore) -> dict[str, list[Activity]]:
    """What the units in flight are doing, by run; of a dead process, what they did last."""
    found: dict[str, list[Activity]] = {}
    for run, *values in _rows(runs, _UNITS):
        found.setdefault(run, []).append(Activity(*values))
    return found


def work_counts(runs: RunStore) -> dict[str, WorkCounts]:
    """What was drawn and measured by the processes that hold runs, by run."""
    return {run: WorkCounts(*values) for run, *values in _rows(runs, _RUNS)}


def _rows(runs: RunStore, statement: str) -> list[Any]:
    # A store that is only looked at may be of an earlier schema.
    known = "SELECT 1 FROM pragma_table_info('leases') WHERE name = 'measured'"
    return runs.rows(statement) if runs.rows(known) else []
