"""How the best scores of units rose over their steps; read for the units in sight alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby
from operator import itemgetter

from line_neurons.tools.store.runs import RunStore

_STATEMENT = (
    "SELECT unit, max(score) FROM steps WHERE run = ? AND unit IN ({}) AND outcome = 'scored'"
    " AND kind != 'revisit' AND typeof(score) IN ('real', 'integer') GROUP BY unit, step ORDER BY unit, step"
)


def trends(runs: RunStore, run: str, units: Sequence[int]) -> dict[int, tuple[float, ...]]:
    """The best score of each unit's search after each step that was scored."""
    rows = runs.rows(_STATEMENT.format(", ".join("?" * len(units))), run, *units)
    found: dict[int, tuple[float, ...]] = dict.fromkeys(units, ())
    for unit, steps in groupby(rows, itemgetter(0)):
        found[unit] = tuple(accumulate((score for _, score in steps), max))
    return found
