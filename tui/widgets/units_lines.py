"""What the screen of a run's units shows: one line for each unit, and how the run as a whole stands."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from line_neurons.agent.proposal import clean_text
from line_neurons.tools.leases import STALE_SECONDS, Standing, standings, this_machine
from line_neurons.tools.live import Doing, Made, doings, made
from line_neurons.tools.run_store import Run, RunStore
from line_neurons.tools.unit_rows import UnitRow, UnitRows
from line_neurons.tui.showing import is_worked_on, origin

STATES = {
    "running": "►",
    "failed": "✗",
    "damaged": "!",
    "interrupted": "‖",
    "pending": "·",
    "finished": "✓",
}
"""The sign of each state, in the order in which a table sorted by state shows them."""

_LABEL_CHARACTERS = 200
_ERROR_CHARACTERS = 1000


class UnitLine(NamedTuple):
    """A unit as a table shows it: numbers to sort by, and clean text.

    ``kind`` is the label's origin in one word: ``discovered``, ``proposed``, ``predefined`` or empty.
    ``text`` is what a filter looks for words in.
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
    unit_seconds: float


@dataclass(frozen=True)
class Seen:
    """A run as it stood when it was looked at.

    Args:
        run: its row.
        standing: who holds it; ``stale`` where that process is gone.
        doing: what its units in flight do, by unit; nothing where nobody works on it.
        made: pictures made by the process that holds it.
        lines: its units.
        tally: counts over them.
    """

    run: Run
    standing: Standing | None
    doing: Mapping[int, Doing]
    made: Made | None
    lines: list[UnitLine]
    tally: Tally

    @property
    def worked_on(self) -> bool:
        """Whether a living process works on it."""
        return is_worked_on(self.standing)


class UnitsReader:
    """Reads a run with its units, from one thread.

    Args:
        run: id of the run.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._rows = UnitRows(run, self._line)
        self._steps: int | None = None
        self._lines: list[UnitLine] = []
        self._tally = tally([])
        self._heard: tuple[str, int, float] = ("", -1, 0.0)

    def read(self, runs: RunStore) -> Seen:
        """How things stand now.

        Raises:
            UsageError: there is no such run.
            StoreError: the store cannot be read.
        """
        run = runs.run(self._run)
        standing = self._judged(standings(runs, look=False).get(run.id))
        worked_on = is_worked_on(standing)
        # Runs of earlier versions did not count their steps: they took as many as their settings say.
        iterations = run.settings.get("iterations")
        self._steps = iterations + bool(run.settings.get("summary")) if isinstance(iterations, int) else None
        doing = {one.unit: one for one in doings(runs).get(run.id, [])} if worked_on else {}
        lines = self._rows.read(runs, worked_on=worked_on)
        if lines != self._lines:
            self._tally = tally(lines)
        self._lines = lines
        return Seen(run, standing, doing, made(runs).get(run.id) if worked_on else None, lines, self._tally)

    def _judged(self, standing: Standing | None) -> Standing | None:
        """A holder on another machine that was silent for long, by this machine's clock, is taken for dead."""
        if standing is None or standing.stale or standing.holder.host == this_machine().host:
            return standing
        token, beats, now = standing.holder.token, standing.holder.beats, time.monotonic()
        if (token, beats) != self._heard[:2]:
            self._heard = (token, beats, now)
        silent = now - self._heard[2] > STALE_SECONDS
        return Standing(standing.holder, standing.units, stale=True) if silent else standing

    def _line(self, row: UnitRow) -> UnitLine:
        name, label = _clean(row.name), _clean(row.label)
        state = row.status if row.status in STATES else "damaged"
        came_from = clean_text(origin(row), _LABEL_CHARACTERS)
        margin = None if row.score is None or row.initial_score is None else row.score - row.initial_score
        steps = self._steps if row.steps is None and state == "finished" else row.steps
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
            f"{name}\n{label}\n{came_from}\n{state}".casefold(),
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
    seconds = [line.seconds for line in lines if line.state == "finished" and line.seconds]
    return Tally(
        Counter(line.state for line in lines),
        Counter(line.kind for line in lines if line.kind),
        lowest,
        highest,
        tuple(bins),
        sum(seconds) / len(seconds) if seconds else 0.0,
    )
