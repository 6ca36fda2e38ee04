"""What the screen of a run's units shows: one line for each unit, and how the run as a whole stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.label_marks import UNLABELLED, codes, describe_marks
from line_neurons.tools.store.activity import Activity, activities
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.unit_table import UnitRow, UnitRows
from line_neurons.tui.app.run_rows import SIGNS, RunRow, RunRows
from line_neurons.tui.formatting import origin

STATES = {
    "running": SIGNS["running"],
    "failed": SIGNS["failed"],
    "damaged": "?",
    "interrupted": SIGNS["interrupted"],
    "pending": SIGNS["not begun"],
    **dict.fromkeys(UNLABELLED, "∅"),
    "finished": SIGNS["finished"],
}
"""The sign of each state, in the order in which a table sorted by state shows them."""

_LABEL_CHARACTERS = 200
_ERROR_CHARACTERS = 1000


class UnitLine(NamedTuple):
    """A unit as a table shows it: numbers to sort by, and clean text.

    ``kind`` is the label's origin in one word: ``discovered``, ``proposed``, ``predefined`` or empty.
    ``text`` is what a filter looks for words in; ``marks`` what is wrong with the unit or its label, in few words,
    and ``condition`` the same in full.
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


class Tally(NamedTuple):
    """Counts over the units of a run.

    ``states`` counts units, ``kinds`` labels; ``lowest`` and ``highest`` are the extreme scores, ``scores`` the
    labels' scores in bins of the same width between them; ``unit_seconds`` is the mean time of a finished unit.
    """

    states: Mapping[str, int]
    kinds: Mapping[str, int]
    lowest: float
    highest: float
    scores: tuple[int, ...]


@dataclass(frozen=True)
class Seen:
    """A run as it stood when it was looked at.

    Args:
        row: the run as the list of runs has it.
        doing: what its units in flight do, by unit; nothing where nobody works on it.
        lines: its units.
        tally: counts over them.
    """

    row: RunRow
    doing: Mapping[int, Activity]
    lines: list[UnitLine]
    tally: Tally


class UnitsReader:
    """Reads a run with its units, from one thread.

    Args:
        run: id of the run.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._runs = RunRows()
        self._rows = UnitRows(run, self._line)
        self._steps: int | None = None
        self._lines: list[UnitLine] = []
        self._tally = tally([])

    def __call__(self, runs: RunStore) -> Seen:
        """How things stand now.

        Raises:
            StoreError: the store cannot be read.
            UsageError: the run is not in it any more.
        """
        row = next((row for row in self._runs(runs) if row.run.id == self._run), None)
        if row is None:
            raise UsageError(f"run {self._run} is not in this store any more", "go back to the runs: escape")
        # Runs of earlier versions did not count their steps: they took as many as their settings say.
        iterations = row.run.settings.get("iterations")
        self._steps = iterations + bool(row.run.settings.get("summary")) if isinstance(iterations, int) else None
        doing = {one.unit: one for one in activities(runs).get(self._run, [])} if row.is_held else {}
        lines = self._rows.read(runs, worked_on=row.is_held)
        if lines is not self._lines:
            self._lines, self._tally = lines, tally(lines)
        return Seen(row, doing, lines, self._tally)

    def _line(self, row: UnitRow) -> UnitLine:
        name, label = _clean(row.name), _clean(row.label)
        state = row.status if row.status in STATES else "damaged"
        came_from = clean_text(origin(row), _LABEL_CHARACTERS)
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
            came_from,
            kind,
            steps,
            row.seconds or None,
            state,
            clean_text(row.error or "", _ERROR_CHARACTERS),
            _clean(row.initial_label),
            f"{name}\n{label}\n{came_from}\n{state}\n{marks}".casefold(),
            marks,
            clean_text(describe_marks(row.marks), _ERROR_CHARACTERS),
        )


def _clean(text: str | None) -> str:
    return clean_text(text, _LABEL_CHARACTERS) if text else ""


_BINS = 32


def tally(lines: list[UnitLine]) -> Tally:
    """Counts over units."""
    scores = [line.score for line in lines if line.score is not None]
    lowest, highest = min(scores, default=0.0), max(scores, default=0.0)
    bins = [0] * _BINS
    width = (highest - lowest) / _BINS
    if width > 0:
        for score in scores:
            bins[min(int((score - lowest) / width), _BINS - 1)] += 1
    return Tally(
        Counter(line.state for line in lines),
        Counter(line.kind for line in lines if line.kind),
        lowest,
        highest,
        tuple(bins),
    )
