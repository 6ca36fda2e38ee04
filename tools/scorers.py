"""How strongly a unit responds to a concept: the mean, and CoSy's AUC and MAD against a control set.

Each scorer takes the unit's activations on the concept's pictures, float32 [n], and on the control pictures,
float32 [m], and returns one number, higher for a better label. ``ValueError`` means that there are too few
pictures, or that an activation is not finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations

    Scorer = Callable[[Activations, Activations], float]


def mean(concept: Activations, control: Activations) -> float:
    """Mean activation on the concept's pictures; the control pictures, which may be none, do not count."""
    return float(_checked(concept, "concept").mean())


def auc(concept: Activations, control: Activations) -> float:
    """Area under the ROC curve, in [0, 1]: how often a concept picture beats a control one, ties one half."""
    ordered = np.sort(_checked(control, "control"))
    values = _checked(concept, "concept")
    below = np.searchsorted(ordered, values, "left").sum() + np.searchsorted(ordered, values, "right").sum()
    return float(below / (2 * values.size * ordered.size))


def mad(concept: Activations, control: Activations) -> float:
    """Difference of the means in standard deviations (ddof 1) of the control; 0 where that deviation is 0."""
    base = _checked(control, "control")
    values = _checked(concept, "concept")
    if base.size < 2:
        raise ValueError("a deviation needs at least two control pictures")
    # Equal values have a deviation of exactly 0, which rounding in the mean would hide.
    if base.min() == base.max():
        return 0.0
    return float((values.mean() - base.mean()) / base.std(ddof=1))


SCORERS: dict[str, Scorer] = {"mean": mean, "auc": auc, "mad": mad}


def needs_control(name: str) -> bool:
    """Whether the scorer ``name`` compares with control activations."""
    return name != "mean"


def _checked(activations: Activations, which: str) -> NDArray[np.float64]:
    values = np.asarray(activations, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"the {which} activations must be one row of at least one picture, not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"a {which} activation is not finite")
    return values
