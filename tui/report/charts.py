"""The figures of a report as coordinates, which the templates draw as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

WIDE, HIGH = 320.0, 110.0
"""Size of a histogram, without its labels."""
LONG, TALL = 400.0, 150.0
"""Size of the curve of a search."""
BINS = 24
# Beyond these the arithmetic of a chart would leave the numbers that there are.
_TOO_LARGE, _TOO_SMALL = 1e300, 1e-280


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram, with its counts."""

    x: float
    y: float
    width: float
    height: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Tick:
    """A number at an axis, and where it stands."""

    at: float
    value: float


@dataclass(frozen=True)
class Histogram:
    """How values are distributed.

    Args:
        bars: one for each bin that is not empty.
        ticks: numbers of the axis.
        marks: where values of interest lie.
        total: how many values there are.
        low: the smallest value.
        middle: the median.
        high: the largest value.
    """

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    marks: tuple[float, ...]
    total: int
    low: float
    middle: float
    high: float


def histogram(
    values: Sequence[float], marks: Sequence[float] = (), low: float | None = None, high: float | None = None
) -> Histogram | None:
    """The distribution of values; None of none.

    Args:
        values: any; those that are not finite or larger than any chart has do not count.
        marks: values to be marked; the axis reaches them.
        low: the axis begins here; None: at the smallest value.
        high: the axis ends here; None: at the largest value.
    """
    counted = [value for value in values if abs(value) < _TOO_LARGE]
    marked = [value for value in marks if abs(value) < _TOO_LARGE]
    if not counted:
        return None
    left, right = _axis(
        min(counted + marked) if low is None else low, max(counted + marked) if high is None else high
    )
    counts = [0] * BINS
    for value in counted:
        counts[max(0, min(BINS - 1, int((value - left) / (right - left) * BINS)))] += 1
    step, most = (right - left) / BINS, max(counts)
    across = WIDE / BINS

    def place(value: float) -> float:
        return round((value - left) / (right - left) * WIDE, 1)

    bars = [
        Bar(
            round(at * across + 0.5, 1),
            round(HIGH * (1 - count / most), 1),
            round(across - 1, 1),
            round(HIGH * count / most, 1),
            left + at * step,
            left + (at + 1) * step,
            count,
        )
        for at, count in enumerate(counts)
        if count
    ]
    ticks = [Tick(place(value), value) for value in _round_numbers(left, right, 4)]
    places = tuple(place(value) for value in marked)
    return Histogram(tuple(bars), tuple(ticks), places, len(counted), min(counted), median(counted), max(counted))


@dataclass(frozen=True)
class Dot:
    """A score of a search and where it stands; ``better`` says that it was a new best."""

    x: float
    y: float
    step: str
    concept: str
    score: float
    better: bool


@dataclass(frozen=True)
class Curve:
    """How a search went.

    Args:
        dots: every score.
        best: the corners of the best score so far, as SVG wants them.
        steps: numbers at the lower axis.
        scores: numbers at the left axis.
        gaps: where steps ended without a score.
        restarts: where the search began again.
        first: the best score of the first board.
        last: the best score of all.
    """

    dots: tuple[Dot, ...]
    best: str
    steps: tuple[Tick, ...]
    scores: tuple[Tick, ...]
    gaps: tuple[float, ...]
    restarts: tuple[float, ...]
    first: float
    last: float


Scored = tuple[int, str, str, float | None]
"""A step's number, how it is called, its concept, and its score; None where it ended without one."""


def curve(history: Sequence[Scored], restarts: Sequence[int] = ()) -> Curve | None:
    """The course of a search; None of one without a score.

    Args:
        history: every entry that had an outcome, in order.
        restarts: steps at which the search began again.
    """
    scored = [(step, name, concept, score) for step, name, concept, score in history if score is not None]
    scored = [one for one in scored if abs(one[3]) < _TOO_LARGE]
    if not scored:
        return None
    last = max(1, *(step for step, *_ in history))
    values = [score for *_, score in scored]
    low, high = _axis(min(values), max(values))

    def across(step: int) -> float:
        return round(step / last * LONG, 1)

    def up(score: float) -> float:
        return round(TALL * (1 - (score - low) / (high - low)), 1)

    best: dict[int, float] = {}
    dots = []
    so_far = -math.inf
    for step, name, concept, score in scored:
        # The concepts of the first board were scored together.
        dots.append(Dot(across(step), up(score), name, concept, score, score > so_far and step > 0))
        so_far = max(so_far, score)
        best[step] = so_far
    corners = []
    level: float | None = None
    # As many as there are scores: the number of a step may be any.
    for step, now in sorted(best.items()):
        if level is not None:
            corners.append(f"{across(step)},{up(level)}")
        if now != level:
            corners.append(f"{across(step)},{up(now)}")
        level = now
    if level is not None and last not in best:
        corners.append(f"{across(last)},{up(level)}")
    reached = {step for step, *_ in scored}
    return Curve(
        tuple(dots),
        " ".join(corners),
        tuple(Tick(across(int(step)), step) for step in _round_numbers(0, last, 8) if step == int(step)),
        tuple(Tick(up(score), score) for score in _round_numbers(low, high, 4)),
        tuple(across(step) for step in dict.fromkeys(step for step, *_ in history) if step not in reached),
        tuple(across(step) for step in restarts),
        next(iter(best.values())),
        so_far,
    )


def _axis(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis, apart from each other so far that numbers between them can be told apart."""
    if high - low > 1e-12 * max(abs(low), abs(high), _TOO_SMALL):
        return low, high
    margin = max(0.5, 1e-3 * abs(low))
    return low - margin, high + margin


def _round_numbers(low: float, high: float, most: int) -> list[float]:
    """Numbers that people like between two others, at most ``most`` + 1 of them."""
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]
