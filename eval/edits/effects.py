"""Effect of edits on a unit: against the control edit, with interval, exact test, and rank in the layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan

import numpy as np
from numpy.typing import NDArray

from line_neurons.eval.reports.statistics import Summary, compare, summarise

LEAST_PAIRS = 6
"""With fewer pairs there is no p-value: the smallest two-sided one of five is .06."""
MOST_EXACT = 16
"""Up to this many pairs all signs are tried; beyond, ``statistics.compare`` tests."""


@dataclass(frozen=True)
class Effect:
    """The mean of paired differences.

    Args:
        summary: mean with BCa interval; nan without pairs.
        test: ``sign flip``, ``t``, ``wilcoxon`` or ``none``.
        p: two-sided; nan without a test.
    """

    summary: Summary
    test: str
    p: float


@dataclass(frozen=True)
class Specificity:
    """A unit among all units of its layer, by the effect in standard deviations of the control set.

    Args:
        z: the unit's.
        rank: 1 if no unit has a larger one.
        units: number of units that vary on the control set.
        other: the strongest other unit; None if there is none.
        other_max: its effect.
    """

    z: float
    rank: int
    units: int
    other: int | None
    other_max: float


def effect_of(differences: Sequence[float], seed: int = 0) -> Effect:
    """Compute the mean of paired differences, its interval, and whether it is 0.

    Up to 16 pairs the test is exact: the share of all choices of signs for which the mean is at least as far
    from 0. Differences that are not finite are left out.
    """
    known = [float(value) for value in differences if isfinite(value)]
    summary = summarise(known, seed)
    if len(known) < LEAST_PAIRS:
        return Effect(summary, "none", nan)
    if len(known) <= MOST_EXACT:
        return Effect(summary, "sign flip", sign_flip_p(known))
    test = compare(known, [0.0] * len(known), seed)
    return Effect(summary, test.test, test.p)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Compute the exact two-sided p-value of the hypothesis that the signs of differences are random."""
    values = np.asarray(differences, np.float64)
    signs = 1 - 2 * ((np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1)
    sums = np.abs(signs @ values)
    # The observed sum is one of them, up to rounding.
    return float(np.mean(sums >= abs(values.sum()) - 1e-9 * max(1.0, float(np.abs(values).sum()))))


def relative_drop(original: Sequence[float], edited: Sequence[float], control_mean: float) -> float:
    """Compute the mean drop as a share of what the originals exceed the control set by; nan if they do not."""
    if not original:
        return nan
    excess = float(np.mean(original)) - control_mean
    return float(np.mean(np.subtract(original, edited))) / excess if excess > 0 else nan


def specificity(effects: NDArray[np.float64], deviations: NDArray[np.float64], unit: int) -> Specificity | None:
    """Rank a unit among all units of its layer.

    Args:
        effects: float [n_images, n_units], activation of the control edit minus that of the edit.
        deviations: standard deviation of each unit on the control set.

    Returns:
        None without images, or if the unit is constant on the control set.
    """
    varying = deviations > 0
    if not len(effects) or not varying[unit]:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(varying, effects.mean(0) / deviations, -np.inf)
    others = z.copy()
    others[unit] = -np.inf
    other = int(others.argmax())
    return Specificity(
        z=float(z[unit]),
        rank=1 + int((others > z[unit]).sum()),
        units=int(varying.sum()),
        other=other if isfinite(others[other]) else None,
        other_max=float(others[other]) if isfinite(others[other]) else nan,
    )
