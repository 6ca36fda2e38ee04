"""The time that a run still takes, from how long its initial scoreboards and steps took so far.

The command and the app show this one estimate. It counts the work of the process that holds the run: how long
units took to fill their initial scoreboard, and for each later step. A step that takes longer than the others
raises the estimate while it lasts.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

from line_neurons.tools.label_marks import ENDED
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore

_RECENT = 5000
"""Rows of histories that are looked at; a unit has some twenty."""

_PIECES = (
    "SELECT unit, step, CAST(max(created) AS REAL) FROM steps WHERE run = ? AND created >= ? AND kind != 'revisit'"
    " AND rowid > (SELECT coalesce(max(rowid), 0) FROM steps) - ?"
    " GROUP BY unit, step ORDER BY unit, step"
)
_REACHED = (
    "SELECT unit, max(step) FROM steps WHERE run = ?1 AND kind != 'revisit' AND unit IN"
    " (SELECT unit FROM units WHERE run = ?1 AND status NOT IN (SELECT value FROM json_each(?2))) GROUP BY unit"
)
_UNITS = (
    "SELECT unit, seconds FROM units WHERE run = ? AND seconds > 0 AND unit IN (SELECT value FROM json_each(?))"
)
_LEASES = "SELECT unit, began FROM leases WHERE run = ?"


class Pace(NamedTuple):
    """How long a unit takes, in seconds: for its initial scoreboard, and for each step after it."""

    board: float
    step: float

    def of_unit(self, last_step: int) -> float:
        """Return how long a whole unit takes."""
        return self.board + last_step * self.step


@dataclass(frozen=True)
class TimeLeft:
    """The remaining time of a run in seconds, and the pace that it follows from."""

    seconds: float
    pace: Pace


def last_step_of(settings: Mapping[str, object]) -> int:
    """Return the index of a unit's last step by recorded settings; the initial scoreboard is step 0.

    Raises:
        KeyError: a setting is missing.
        ValueError, TypeError: one is no number.
    """
    iterations, restarts, facets = (
        int(str(settings.get(name, 0) or 0)) for name in ("iterations", "restarts", "facets")
    )
    return (1 + iterations + bool(settings["summary"])) * (1 + restarts + facets) - 1


def time_left(runs: RunStore, run: Run, now: float) -> TimeLeft | None:
    """Estimate the remaining time of a run that a process works on; None until one step was measured.

    Args:
        now: the time by the clock of that process, in seconds since the epoch.

    Raises:
        StoreError: the store cannot be read.
    """
    began: dict[int | None, float] = dict(runs.rows(_LEASES, run.id, needs="leases.began"))
    try:
        last, workers = last_step_of(run.settings), int(run.settings.get("max_concurrent_units", 1))
    except (KeyError, TypeError, ValueError):
        return None
    if None not in began:
        return None
    pieces: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for unit, step, at in runs.rows(_PIECES, run.id, began[None], _RECENT):
        pieces[unit].append((step, at))
    active = {unit: at for unit, at in began.items() if unit is not None}
    # Since when a unit is at its current step.
    since = {unit: pieces[unit][-1][1] if unit in pieces else at for unit, at in active.items()}
    seconds = dict(runs.rows(_UNITS, run.id, json.dumps([unit for unit in pieces if unit not in active])))
    boards, steps = _durations(pieces, active, seconds)
    reached: dict[int, int] = dict(runs.rows(_REACHED, run.id, json.dumps(sorted(ENDED))))
    steps += _overdue(steps, [now - at for unit, at in since.items() if unit in reached])
    if not steps:
        return None
    step = fmean(steps)
    boards += _overdue(boards, [now - at for unit, at in since.items() if unit not in reached])
    pace = Pace(fmean(boards) if boards else step, step)
    counts = runs.states(run.id)
    left = sum(counts.values()) - sum(counts.get(state, 0) for state in ENDED)
    rest = []
    for unit in {*reached, *active}:
        whole, current = (
            (max(last - reached[unit], 0) * step, step) if unit in reached else (pace.of_unit(last), pace.board)
        )
        elapsed = now - since[unit] if unit in since else 0.0
        rest.append(max(whole - min(max(elapsed, 0.0), current), 0.0))
    rest += [pace.of_unit(last)] * max(left - len(rest), 0)
    if not rest:
        return TimeLeft(0.0, pace)
    return TimeLeft(max(sum(rest) / max(min(workers, len(rest)), 1), *rest), pace)


def _durations(
    pieces: Mapping[int, Sequence[tuple[int, float]]], active: Mapping[int, float], seconds: Mapping[int, float]
) -> tuple[list[float], list[float]]:
    """Return how long initial scoreboards and steps took, in seconds, one number for each that was measured."""
    boards: list[float] = []
    steps: list[float] = []
    for unit, written in pieces.items():
        times = [at for _, at in written]
        steps += [max(later - earlier, 0.0) for earlier, later in pairwise(times)]
        if written[0][0] != 0:
            continue
        if unit in active:
            boards.append(max(times[0] - active[unit], 0.0))
        elif unit in seconds:
            boards.append(max(seconds[unit] - (times[-1] - times[0]), 0.0))
    return boards, steps


def _overdue(measured: Sequence[float], elapsed: Sequence[float]) -> list[float]:
    """Return the times of current steps that take longer than those measured."""
    usual = fmean(measured) if measured else 0.0
    return [time for time in elapsed if measured and time > usual]
