"""Score how strongly a unit responds to a concept: mean, and CoSy's AUC and MAD.

Each scorer takes the unit's activations on the concept's images, float32 [n], and on the control images, float32
[m], and returns one number, higher for a better label. ``ValueError`` means that there are too few images, or that
an activation is not finite.

>>> concept = np.array([2.0, 3.0, 4.0], np.float32)
>>> control = np.array([0.0, 1.0, 2.0, 3.0], np.float32)
>>> mean(concept, control)
3.0
>>> round(auc(concept, control), 3)
0.833
>>> round(mad(concept, control), 3)
1.162
>>> round(standard_error("mean", concept, control), 3)
0.577
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations

    LayerScorer = Callable[[Activations], NDArray[np.float64]]


def mean(concept: Activations, control: Activations) -> float:
    """Return the mean activation on the concept's images; the control may be empty."""
    return float(_checked(concept, "concept").mean())


def auc(concept: Activations, control: Activations) -> float:
    """Return the area under the ROC curve; ties count one half."""
    ordered = np.sort(_checked(control, "control"))
    values = _checked(concept, "concept")
    below = np.searchsorted(ordered, values, "left").sum() + np.searchsorted(ordered, values, "right").sum()
    return float(below / (2 * values.size * ordered.size))


def auc_interval(concept: Activations, control: Activations) -> tuple[float, float]:
    """Return the AUC's 95 % interval (DeLong, DeLong and Clarke-Pearson, 1988).

    It does not know that the concept was chosen for its score. A single image gives no variance: the interval is
    (0, 1).
    """
    base, values = np.sort(_checked(control, "control")), np.sort(_checked(concept, "concept"))
    if values.size < 2 or base.size < 2:
        return 0.0, 1.0
    area, error = _area_and_error(values, base)
    return max(0.0, area - _Z95 * error), min(1.0, area + _Z95 * error)


def _area_and_error(values: NDArray[np.float64], base: NDArray[np.float64]) -> tuple[float, float]:
    """Return the AUC of sorted activations with DeLong's standard error, from two images on either side."""
    above = (np.searchsorted(base, values, "left") + np.searchsorted(base, values, "right")) / (2 * base.size)
    below = (np.searchsorted(values, base, "left") + np.searchsorted(values, base, "right")) / (2 * values.size)
    error = float(np.sqrt(above.var(ddof=1) / values.size + below.var(ddof=1) / base.size))
    return float(above.mean()), error


_Z95 = 1.959963984540054
"""The 0.975 quantile of the standard normal distribution."""


def mad(concept: Activations, control: Activations) -> float:
    """Return the mean activation difference in standard deviations of the control.

    The deviation has ddof 1; the score is 0 where it is 0.
    """
    base = _checked(control, "control")
    values = _checked(concept, "concept")
    if base.size < 2:
        raise ValueError("a deviation needs at least two control images")
    # Equal values have a deviation of exactly 0, which rounding in the mean would hide.
    if base.min() == base.max():
        return 0.0
    return float((values.mean() - base.mean()) / base.std(ddof=1))


def mean_error(concept: Activations, control: Activations) -> float | None:
    """Return the standard error of ``mean``: s / sqrt(n), with the deviation s of ddof 1.

    None for a single image, which has no deviation. The control may be empty.
    """
    values = _checked(concept, "concept")
    if values.size < 2:
        return None
    # Equal values have a deviation of exactly 0, which rounding in the mean would hide.
    return 0.0 if values.min() == values.max() else float(values.std(ddof=1) / np.sqrt(values.size))


def auc_error(concept: Activations, control: Activations) -> float | None:
    """Return the standard error of ``auc`` (DeLong, DeLong and Clarke-Pearson, 1988).

    It counts the sampling of the concept's images and of the control set. None for fewer than two images on either
    side, and where all pairs agree (an AUC of 0 or 1), on which the formula gives 0 however few the images are.
    """
    base, values = np.sort(_checked(control, "control")), np.sort(_checked(concept, "concept"))
    if values.size < 2 or base.size < 2 or base[-1] < values[0] or values[-1] < base[0]:
        return None
    return _area_and_error(values, base)[1]


def mad_error(concept: Activations, control: Activations) -> float | None:
    """Return the standard error of ``mad`` by the nonparametric delta method.

    With s, the deviation of the control, and z, the control standardized, it is the root of
    var(concept) / (n s^2) + var(z + mad (z^2 - 1) / 2) / len(control): the variances of the influence functions
    of both samples (Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982, chapter 6). None for
    fewer than two images on either side, and for a constant control.
    """
    base, values = _checked(control, "control"), _checked(concept, "concept")
    if values.size < 2 or base.size < 2 or base.min() == base.max():
        return None
    deviation = base.std(ddof=1)
    from_mean = base - base.mean()
    influence = from_mean / deviation + mad(concept, control) * (from_mean**2 / base.var() - 1) / 2
    own = values.var(ddof=1) / (values.size * deviation**2)
    return float(np.sqrt(own + influence.var(ddof=1) / base.size))


def standard_error(name: str, concept: Activations, control: Activations) -> float | None:
    """Return the spread of a score: its standard error over independent images of the concept.

    It does not know that a label was chosen for its score, which makes the score itself too high on average.

    Args:
        name: key of ``SCORERS``.
        concept: float32 [n], the unit's activations on the concept's images, each different image once.
        control: float32 [m], those on the control images; empty for a scorer that needs none.

    Returns:
        The spread, at least 0, in the unit of the score; None where the images are too few to tell.

    Raises:
        UsageError: there is no such scorer.
        ValueError: there are no images, or an activation is not finite.
    """
    return scorer_of(name).error(concept, control)


def _layer_means(control: Activations) -> LayerScorer:
    return _means


def _layer_areas(control: Activations) -> LayerScorer:
    ordered = np.sort(_finite(control, "control", 2).T)

    def areas(concepts: Activations) -> NDArray[np.float64]:
        values = _finite(concepts, "concept", 3)
        below = np.empty((len(values), len(ordered)), np.int64)
        for unit, column in enumerate(ordered):
            own = values[:, :, unit]
            left = np.searchsorted(column, own, "left")
            right = left.copy()
            # Most values equal no control value, and the search is what takes the time.
            tied = column[np.minimum(left, len(column) - 1)] == own
            right[tied] = np.searchsorted(column, own[tied], "right")
            below[:, unit] = (left + right).sum(1)
        return np.asarray(below / (2 * values.shape[1] * ordered.shape[1]), np.float64)

    return areas


def _layer_deviations(control: Activations) -> LayerScorer:
    base = _finite(control, "control", 2)
    if len(base) < 2:
        raise ValueError("a deviation needs at least two control images")
    columns = [column.astype(np.float64) for column in base.T]
    centre = np.array([column.mean() for column in columns])
    spread = np.array([column.std(ddof=1) for column in columns])
    flat = base.min(0) == base.max(0)

    def deviations(concepts: Activations) -> NDArray[np.float64]:
        return np.where(flat, 0.0, (_means(concepts) - centre) / np.where(flat, 1.0, spread))

    return deviations


@dataclass(frozen=True)
class Scorer:
    """A way to score a concept for a unit.

    Args:
        one: from float32 [n], the unit's activations on the concept's images, and float32 [m], those on the
            control images, to a number.
        error: from the same to the standard error of that number; None where the images are too few.
        layer: ``one`` for many concepts and units at once; see ``layer_scorer``.
    """

    one: Callable[[Activations, Activations], float]
    error: Callable[[Activations, Activations], float | None]
    layer: Callable[[Activations], LayerScorer]
    needs_control: bool = True


SCORERS: Mapping[str, Scorer] = {
    "mean": Scorer(mean, mean_error, _layer_means, needs_control=False),
    "auc": Scorer(auc, auc_error, _layer_areas),
    "mad": Scorer(mad, mad_error, _layer_deviations),
}


def scorer_of(name: str) -> Scorer:
    """Find a scorer by its name.

    Raises:
        UsageError: there is no such scorer.
    """
    if name not in SCORERS:
        raise UsageError(f"{name!r:.40} is no scorer", choices(name, SCORERS))
    return SCORERS[name]


def needs_control(name: str) -> bool:
    """Tell whether a scorer compares with control activations.

    Raises:
        UsageError: there is no such scorer.
    """
    return scorer_of(name).needs_control


def layer_scorer(name: str, control: Activations) -> LayerScorer:
    """Prepare a scorer for many concepts and units at once, bitwise as for each alone.

    Args:
        name: key of ``SCORERS``.
        control: float32 [m, units], activations on the control images; they are prepared once.

    Returns:
        A function from float32 [concepts, n, units], the units' activations on n images of each concept, to
        float64 [concepts, units].

    Raises:
        UsageError: there is no such scorer.
        ValueError: there are too few images, or an activation is not finite; the function raises it too.
    """
    return scorer_of(name).layer(control)


def _means(concepts: Activations) -> NDArray[np.float64]:
    values = _finite(concepts, "concept", 3)
    # Numpy rounds a sum by how its values lie in memory: the images have to be neighbours here too.
    return np.asarray(np.ascontiguousarray(values.swapaxes(1, 2), np.float64).mean(-1))


def _finite(activations: Activations, which: str, axes: int) -> Activations:
    """Check an array of ``axes`` axes: finite, with at least one image."""
    if activations.ndim != axes or not activations.shape[-2]:
        raise ValueError(f"the {which} activations are of no image: {activations.shape}")
    if not np.isfinite(activations).all():
        raise ValueError(f"a {which} activation is not finite")
    return activations


def _checked(activations: Activations, which: str) -> NDArray[np.float64]:
    values = np.asarray(activations, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"the {which} activations must be one row of at least one image, not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"a {which} activation is not finite")
    return values
