"""Charts of a report as coordinates; the templates draw them as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT = 320.0, 110.0
"""Size of a histogram, without its axis labels."""
CURVE_WIDTH, CURVE_HEIGHT = 400.0, 150.0
"""Size of a score curve."""
SCATTER_SIDE = 180.0
"""Side of a scatter of predicted and measured scores."""
BINS = 24
# Beyond these the arithmetic of a chart would overflow or underflow.
_TOO_LARGE, _TOO_SMALL = 1e300, 1e-280


_SCORE_AXES = {
    "mean": "score: mean activation",
    "auc": "score: AUC against the control set",
    "mad": "score: MAD (standard deviations)",
}


def score_axis(scorer: object) -> str:
    """Return the name of an axis of scores; of a scorer that this version does not know only ``score``."""
    return _SCORE_AXES[scorer] if isinstance(scorer, str) and scorer in _SCORE_AXES else "score"


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram, with its bin and count."""

    x: float
    y: float
    width: float
    height: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Tick:
    """A number at an axis, and its position."""

    at: float
    value: float


@dataclass(frozen=True)
class Histogram:
    """Distribution of values.

    Args:
        bars: one for each bin that is not empty, from zero.
        ticks: numbers of the axis of values.
        counts: numbers of the axis of counts.
        marks: positions of marked values.
    """

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    counts: tuple[Tick, ...]
    marks: tuple[float, ...]
    total: int
    low: float
    median: float
    high: float


def histogram(
    values: Sequence[float], marks: Sequence[float] = (), low: float | None = None, high: float | None = None
) -> Histogram | None:
    """Compute a histogram; None without values.

    Args:
        values: those that are not finite, or beyond 1e300, are left out.
        marks: values to mark; the axis includes them.
        low: start of the axis; None: the smallest value.
        high: end of the axis; None: the largest value.
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
    across = HISTOGRAM_WIDTH / BINS

    def position(value: float) -> float:
        return round((value - left) / (right - left) * HISTOGRAM_WIDTH, 1)

    bars = [
        Bar(
            round(at * across + 0.5, 1),
            round(HISTOGRAM_HEIGHT * (1 - count / most), 1),
            round(across - 1, 1),
            round(HISTOGRAM_HEIGHT * count / most, 1),
            left + at * step,
            left + (at + 1) * step,
            count,
        )
        for at, count in enumerate(counts)
        if count
    ]
    ticks = [Tick(position(value), value) for value in _round_numbers(left, right, 4)]
    whole = [number for number in _round_numbers(0, most, min(most, 3)) if number == int(number)]
    heights = [Tick(round(HISTOGRAM_HEIGHT * (1 - number / most), 1), number) for number in whole]
    positions = tuple(position(value) for value in marked)
    return Histogram(
        tuple(bars),
        tuple(ticks),
        tuple(heights),
        positions,
        len(counted),
        min(counted),
        median(counted),
        max(counted),
    )


@dataclass(frozen=True)
class Dot:
    """A score of a search and its position.

    Args:
        spread: the standard error of the score; None where it is not known.
        ends: positions of the score with the spread added and subtracted; None without a spread.
        new_best: it is higher than all before.
    """

    x: float
    y: float
    step: str
    concept: str
    score: float
    spread: float | None
    ends: tuple[float, float] | None
    new_best: bool


@dataclass(frozen=True)
class ScoreCurve:
    """Scores of a search by step.

    Args:
        best: polyline of the best score so far, in SVG's notation.
        gaps: positions of steps without a score.
        first: best score of the initial board.
    """

    dots: tuple[Dot, ...]
    best: str
    steps: tuple[Tick, ...]
    scores: tuple[Tick, ...]
    gaps: tuple[float, ...]
    restarts: tuple[float, ...]
    first: float
    last: float


Scored = tuple[int, str, str, float | None, float | None]
"""Number, name, concept, score and spread of a step; None: no score, or no known spread."""


def score_curve(history: Sequence[Scored], restarts: Sequence[int] = ()) -> ScoreCurve | None:
    """Compute the score curve of a search; None without scores.

    Args:
        history: every step, in order.
        restarts: steps at which the search restarted.
    """
    scored = [
        (step, name, concept, score, spread if spread is not None and spread < _TOO_LARGE else None)
        for step, name, concept, score, spread in history
        if score is not None and abs(score) < _TOO_LARGE
    ]
    if not scored:
        return None
    last = max(1, *(step for step, *_ in history))
    reaches = [(score, spread or 0.0) for *_, score, spread in scored]
    low, high = _axis(
        min(score - spread for score, spread in reaches), max(score + spread for score, spread in reaches)
    )

    def across(step: int) -> float:
        return round(step / last * CURVE_WIDTH, 1)

    def up(score: float) -> float:
        return round(CURVE_HEIGHT * (1 - (score - low) / (high - low)), 1)

    best: dict[int, float] = {}
    dots = []
    so_far = -math.inf
    for step, name, concept, score, spread in scored:
        ends = None if spread is None else (up(score + spread), up(score - spread))
        # The concepts of the initial board were scored together.
        new_best = score > so_far and step > 0
        dots.append(Dot(across(step), up(score), name, concept, score, spread, ends, new_best))
        so_far = max(so_far, score)
        best[step] = so_far
    corners = []
    level: float | None = None
    # Over the scores, not the steps: the number of a step may be huge.
    for step, now in sorted(best.items()):
        if level is not None:
            corners.append(f"{across(step)},{up(level)}")
        if now != level:
            corners.append(f"{across(step)},{up(now)}")
        level = now
    if level is not None and last not in best:
        corners.append(f"{across(last)},{up(level)}")
    reached = {step for step, *_ in scored}
    return ScoreCurve(
        tuple(dots),
        " ".join(corners),
        tuple(Tick(across(int(step)), step) for step in _round_numbers(0, last, 8) if step == int(step)),
        tuple(Tick(up(score), score) for score in _round_numbers(low, high, 4)),
        tuple(across(step) for step in dict.fromkeys(step for step, *_ in history) if step not in reached),
        tuple(across(step) for step in restarts),
        next(iter(best.values())),
        so_far,
    )


@dataclass(frozen=True)
class PredictionDot:
    """A concept by its predicted and its measured score.

    Args:
        ends: positions of the predicted score with the deviation subtracted and added, within the chart.
    """

    x: float
    y: float
    ends: tuple[float, float]
    step: str
    concept: str
    predicted: float
    score: float


@dataclass(frozen=True)
class PredictionScatter:
    """Predicted beside measured scores; both axes have the same numbers, at positions across."""

    dots: tuple[PredictionDot, ...]
    ticks: tuple[Tick, ...]


Predicted = tuple[str, str, float, float, float]
"""Name of a step, concept, predicted score, its deviation, and the measured score."""


def prediction_scatter(points: Sequence[Predicted]) -> PredictionScatter | None:
    """Compute a scatter of predicted and measured scores; None for fewer than two."""
    shown = [point for point in points if all(abs(value) < _TOO_LARGE for value in point[2:])]
    if len(shown) < 2:
        return None
    values = [value for _, _, predicted, _, score in shown for value in (predicted, score)]
    low, high = _axis(min(values), max(values))

    def across(value: float) -> float:
        return round(min(1.0, max(0.0, (value - low) / (high - low))) * SCATTER_SIDE, 1)

    dots = tuple(
        PredictionDot(
            across(predicted),
            round(SCATTER_SIDE - across(score), 1),
            (across(predicted - deviation), across(predicted + deviation)),
            step,
            concept,
            predicted,
            score,
        )
        for step, concept, predicted, deviation, score in shown
    )
    return PredictionScatter(dots, tuple(Tick(across(value), value) for value in _round_numbers(low, high, 4)))


def _axis(low: float, high: float) -> tuple[float, float]:
    """Return the ends of an axis, widened if its numbers would not be distinguishable."""
    if high - low > 1e-12 * max(abs(low), abs(high), _TOO_SMALL):
        return low, high
    margin = max(0.5, 1e-3 * abs(low))
    return low - margin, high + margin


def _round_numbers(low: float, high: float, most: int) -> list[float]:
    """Return at most ``most`` + 1 round numbers of a range."""
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]
