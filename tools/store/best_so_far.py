"""The best label so far of units whose search has not ended: read from their histories, never stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from line_neurons.agent.concepts import find_duplicate
from line_neurons.agent.text import counted
from line_neurons.tools.json_text import loads
from line_neurons.tools.label_marks import DONE, Mark, format_note
from line_neurons.tools.store.records import Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import banned

UNFINISHED = "unfinished"
"""Mark of a label that is only the best so far."""

_BEST = (
    "SELECT unit, concept, score, step, origin, images FROM steps WHERE run = ? AND kind != 'revisit'"
    " AND unit IN (SELECT value FROM json_each(?)) AND typeof(score) IN ('real', 'integer')"
    " AND typeof(concept) = 'text' ORDER BY unit, score DESC, step, attempt"
)
_STEPS = (
    "SELECT unit, count(DISTINCT step) FROM steps WHERE run = ? AND kind IN ('iteration', 'summary')"
    " AND unit IN (SELECT value FROM json_each(?)) GROUP BY unit"
)


class BestSoFar(NamedTuple):
    """The best concept of a search that has not ended, and how many iterations and summaries it has had."""

    concept: str
    score: float
    origin: str | None
    step: int
    steps: int
    images: tuple[str, ...]

    @property
    def mark(self) -> Mark:
        """The warning that the search has not ended."""
        return Mark(UNFINISHED, f"best after {counted(self.steps, 'step')}")


def best_so_far(runs: RunStore, run: str, units: Sequence[int]) -> dict[int, BestSoFar]:
    """Return the best concept that each of some units has scored and that is not banned, by unit.

    Raises:
        StoreError: the store cannot be read.
    """
    if not units:
        return {}
    chosen, bans = json.dumps(list(units)), banned(runs, run)
    steps: Mapping[int, int] = dict(runs.rows(_STEPS, run, chosen))
    found: dict[int, BestSoFar] = {}
    for unit, concept, score, step, origin, images in runs.rows(_BEST, run, chosen):
        if unit not in found and find_duplicate(concept, bans.get(unit, ())) is None:
            found[unit] = BestSoFar(concept, score, origin, step, steps.get(unit, 0), _ids(images))
    return found


def _ids(images: object) -> tuple[str, ...]:
    """Return the ids of a row's images; none where a damaged store has no list there."""
    try:
        found = loads(images) if isinstance(images, str) else ()
    except ValueError:
        found = ()
    return tuple(map(str, found)) if isinstance(found, list) else ()


def with_best_so_far(runs: RunStore, run: str, units: Sequence[Unit]) -> list[Unit]:
    """Return units for display: those whose search has not ended have the best label so far, marked as such.

    Raises:
        StoreError: the store cannot be read.
    """
    open_units = [unit.unit for unit in units if unit.status not in DONE and unit.label is None]
    found = best_so_far(runs, run, open_units)
    return [_labelled(unit, found[unit.unit]) if unit.unit in found else unit for unit in units]


def _labelled(unit: Unit, best: BestSoFar) -> Unit:
    return replace(
        unit,
        label=best.concept,
        score=best.score,
        origin=best.origin,
        label_step=best.step,
        steps=best.steps,
        images=best.images,
        note=format_note([best.mark]),
    )
