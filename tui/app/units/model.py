"""Data of the screen of a run's units: a line for each unit, and statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text, short_score
from line_neurons.tools.label_marks import UNLABELLED, codes, describe_marks
from line_neurons.tools.store.activity import Activity, activities
from line_neurons.tools.store.best_so_far import BestSoFar, best_so_far
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.unit_table import UnitRow, UnitRows
from line_neurons.tui.app.run_rows import SIGNS, RunRow, RunRowReader
from line_neurons.tui.formatting import origin

STATES = {
    "running": SIGNS["running"],
    "failed": SIGNS["failed"],
    "damaged": "?",
    "interrupted": SIGNS["interrupted"],
    "pending": SIGNS["not started"],
    **dict.fromkeys(UNLABELLED, "∅"),
    "finished": SIGNS["finished"],
}
"""The sign of each state, in sort order."""

_STOPPED = ("interrupted", "failed")
_LABEL_CHARACTERS = 200
_ERROR_CHARACTERS = 1000


class UnitLine(NamedTuple):
    """A unit in the table: numbers to sort by, and clean text.

    ``kind`` is the label's origin in one word: ``discovered``, ``proposed``, ``predefined`` or empty.
    ``text`` is searched by the filter; ``marks`` are the problems of the unit or its label in few words,
    ``condition`` in full. ``best`` is the best concept so far of a stopped search, ``best_so_far`` a phrase on it.
    """

    unit: int
    name: str
    label: str
    score: float | None
    margin: float | None
    auc: float | None
    mad: float | None
    origin: str
    kind: str
    steps: int | None
    seconds: float | None
    state: str
    error: str
    initial: str
    text: str
    marks: str = ""
    condition: str = ""
    best: str = ""
    best_so_far: str = ""
    facets: int | None = None
    polysemanticity: float | None = None


class UnitStatistics(NamedTuple):
    """Counts over the units of a run.

    ``states`` counts units and ``kinds`` labels; ``scores`` is a histogram of the labels' scores in bins of equal
    width between ``lowest`` and ``highest``.
    """

    states: Mapping[str, int]
    kinds: Mapping[str, int]
    lowest: float
    highest: float
    scores: tuple[int, ...]


@dataclass(frozen=True)
class RunSnapshot:
    """A run at one moment.

    Args:
        activities: of its units in progress, by unit; empty if the run is not active.
    """

    row: RunRow
    activities: Mapping[int, Activity]
    lines: list[UnitLine]
    statistics: UnitStatistics


class RunSnapshotReader:
    """Reads a run with its units; used by one thread."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._runs = RunRowReader()
        self._rows = UnitRows(run, self._line)
        self._steps: int | None = None
        self._read: list[UnitLine] = []
        self._lines: list[UnitLine] = []
        self._statistics = unit_statistics([])

    def __call__(self, runs: RunStore) -> RunSnapshot:
        """Read the run.

        Raises:
            StoreError: the store cannot be read.
            UsageError: the run was removed.
        """
        row = next((row for row in self._runs(runs) if row.run.id == self._run), None)
        if row is None:
            raise UsageError(f"run {self._run} is not in this store any more", "go back to the runs: escape")
        # Older stores do not record the number of steps: it is that of the settings.
        iterations = row.run.settings.get("iterations")
        self._steps = iterations + bool(row.run.settings.get("summary")) if isinstance(iterations, int) else None
        current = {unit.unit: unit for unit in activities(runs).get(self._run, [])} if row.is_active else {}
        lines = self._rows.read(runs, worked_on=row.is_active)
        if lines is not self._read:
            self._read, self._lines = lines, self._with_best_so_far(runs, lines)
            # A label that is only the best so far counts nowhere.
            self._statistics = unit_statistics(lines)
        return RunSnapshot(row, current, self._lines, self._statistics)

    def _with_best_so_far(self, runs: RunStore, lines: list[UnitLine]) -> list[UnitLine]:
        """Return the lines, those of stopped searches with the best label so far, marked as such."""
        stopped = [line.unit for line in lines if line.state in _STOPPED and not line.label]
        found = best_so_far(runs, self._run, stopped)
        return [_unfinished(line, found[line.unit]) if line.unit in found else line for line in lines]

    def _line(self, row: UnitRow) -> UnitLine:
        name, label = _clean(row.name), _clean(row.label)
        state = row.status if row.status in STATES else "damaged"
        origin_text = clean_text(origin(row), _LABEL_CHARACTERS)
        margin = None if row.score is None or row.initial_score is None else row.score - row.initial_score
        steps = self._steps if row.steps is None and state == "finished" else row.steps
        marks = clean_text(codes(row.marks), _LABEL_CHARACTERS)
        kind = ""
        if row.origin:
            kind = "predefined" if row.origin == "predefined" else "discovered" if row.discovered else "proposed"
        return UnitLine(
            row.unit,
            name,
            label,
            row.score,
            margin,
            row.auc,
            row.mad,
            origin_text,
            kind,
            steps,
            row.seconds or None,
            state,
            clean_text(row.error or "", _ERROR_CHARACTERS),
            _clean(row.initial_label),
            f"{name}\n{label}\n{origin_text}\n{state}\n{marks}".casefold(),
            marks,
            clean_text(describe_marks(row.marks), _ERROR_CHARACTERS),
            facets=row.facets,
            polysemanticity=row.polysemanticity,
        )


def _clean(text: str | None) -> str:
    return clean_text(text, _LABEL_CHARACTERS) if text else ""


def _unfinished(line: UnitLine, best: BestSoFar) -> UnitLine:
    """Return a line with the best concept so far; it has no label to sort by or to copy."""
    concept, detail = _clean(best.concept), best.mark.detail
    return line._replace(
        best=concept,
        best_so_far=f"best so far {concept} {short_score(best.score)} ({detail})",
        text=f"{line.text}{concept}\n{best.mark.code}".casefold(),
    )


_BINS = 32


def unit_statistics(lines: list[UnitLine]) -> UnitStatistics:
    """Count states, kinds of labels and scores."""
    scores = [line.score for line in lines if line.score is not None]
    lowest, highest = min(scores, default=0.0), max(scores, default=0.0)
    bins = [0] * _BINS
    width = (highest - lowest) / _BINS
    if width > 0:
        for score in scores:
            bins[min(int((score - lowest) / width), _BINS - 1)] += 1
    return UnitStatistics(
        Counter(line.state for line in lines),
        Counter(line.kind for line in lines if line.kind),
        lowest,
        highest,
        tuple(bins),
    )
