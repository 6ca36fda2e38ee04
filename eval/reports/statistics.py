"""Means with intervals, paired comparisons as in the paper, and shares; intervals at 95 %, tests two-sided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, isnan, nan
from statistics import fmean, stdev
from types import ModuleType
from typing import Literal

from line_neurons.agent.errors import UsageError
from line_neurons.tools.packages import required_package

LEVEL = 0.95
ALPHA = 0.05
"""Level of the Shapiro-Wilk test, and of significance."""

MIN_INTERVAL_VALUES = 10
"""With fewer values the bootstrap interval contains the mean too rarely for a 95 % one: see
``benchmarks.coverage``."""

_RESAMPLES = 9999

Test = Literal["t", "wilcoxon", "none"]


@dataclass(frozen=True)
class Summary:
    """The mean of a sample with its bootstrap interval.

    Args:
        n: number of finite values.
        mean: nan if there are none.
        sd: standard deviation with n - 1; nan below two values.
        low: lower end of the interval; nan below ten values.
        high: its upper end.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """A paired comparison of two samples; positive differences favour the first.

    Args:
        normality: p-value of the Shapiro-Wilk test of the differences; nan where it cannot be computed.
        test: ``t`` where normality was not rejected, ``wilcoxon`` where it was, ``none`` below three pairs.
        statistic: Student's t, or Wilcoxon's smaller sum of ranks.
        p: two-sided p-value; nan without a test.
        effect: Cohen's d_z with ``t``, matched-pairs rank-biserial correlation in [-1, 1] with ``wilcoxon``.
    """

    difference: Summary
    normality: float
    test: Test
    statistic: float
    p: float
    effect: float


def summarise(values: Sequence[float], seed: int = 0) -> Summary:
    """Compute the mean, the standard deviation and the BCa bootstrap interval of the mean.

    Args:
        values: a sample; values that are not finite are left out.
        seed: seed of the bootstrap; the same values and seed give the same interval.

    Raises:
        MissingPartError: scipy is not installed.
    """
    known = [float(value) for value in values if isfinite(value)]
    if len(known) < 2:
        return Summary(len(known), known[0] if known else nan, nan, nan, nan)
    mean, deviation = fmean(known), stdev(known)
    if len(known) < MIN_INTERVAL_VALUES:
        return Summary(len(known), mean, deviation, nan, nan)
    if min(known) == max(known):
        return Summary(len(known), mean, 0.0, mean, mean)
    low, high = bootstrap_interval(known, seed)
    return Summary(len(known), mean, deviation, low, high)


def bootstrap_interval(values: Sequence[float], seed: int, resamples: int = _RESAMPLES) -> tuple[float, float]:
    """Compute the BCa bootstrap interval of the mean at 95 %, for any number of values.

    Where all values but one are equal there is no acceleration, and the interval is that of the percentiles.

    Raises:
        MissingPartError: scipy is not installed.
    """
    import warnings

    import numpy as np

    stats = _scipy()
    with warnings.catch_warnings():
        # For nearly equal values scipy warns that there is no acceleration; percentiles follow.
        warnings.simplefilter("ignore")
        for method in ("BCa", "percentile"):
            found = stats.bootstrap(
                (np.asarray(values),),
                np.mean,
                n_resamples=resamples,
                confidence_level=LEVEL,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
            if isfinite(found.low) and isfinite(found.high):
                break
    return float(found.low), float(found.high)


def compare(one: Sequence[float], other: Sequence[float], seed: int = 0) -> PairedTest:
    """Compare paired samples as in the paper (appendix G).

    The Shapiro-Wilk test of the differences at .05 decides between Student's paired t-test and, where it rejects
    normality or all differences are equal, Wilcoxon's signed-rank test.

    Args:
        other: the partners of ``one``, in its order; pairs with a value that is not finite are left out.
        seed: seed of the bootstrap interval of the mean difference.

    Raises:
        ValueError: the samples differ in length.
        MissingPartError: scipy is not installed.
    """
    differences = [a - b for a, b in zip(one, other, strict=True) if isfinite(a) and isfinite(b)]
    difference = summarise(differences, seed)
    if len(differences) < 3:
        return PairedTest(difference, nan, "none", nan, nan, nan)
    if not any(differences):
        return PairedTest(difference, nan, "wilcoxon", 0.0, 1.0, 0.0)
    stats = _scipy()
    constant = max(differences) - min(differences) <= 1e-12 * max(map(abs, differences))
    normality = nan if constant else float(stats.shapiro(differences).pvalue)
    if normality >= ALPHA:
        test = stats.ttest_1samp(differences, 0.0)
        effect = difference.mean / difference.sd
        return PairedTest(difference, normality, "t", float(test.statistic), float(test.pvalue), effect)
    test = stats.wilcoxon(differences)
    moved = [value for value in differences if value]
    ranks = stats.rankdata([abs(value) for value in moved])
    signed = sum(rank if value > 0 else -rank for rank, value in zip(ranks, moved, strict=True))
    return PairedTest(
        difference, normality, "wilcoxon", float(test.statistic), float(test.pvalue), float(signed / sum(ranks))
    )


def holm_correction(ps: Sequence[float]) -> list[float]:
    """Correct the p-values of one table by Holm (1979); nan stays and does not count."""
    order = sorted((p, place) for place, p in enumerate(ps) if not isnan(p))
    corrected = [nan] * len(ps)
    highest = 0.0
    for rank, (p, place) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        corrected[place] = highest
    return corrected


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """Compute Wilson's interval of a share; (0, 1) for no cases.

    Raises:
        MissingPartError: scipy is not installed.
    """
    if not total:
        return 0.0, 1.0
    found = _scipy().binomtest(right, total).proportion_ci(LEVEL, method="wilson")
    # At a share of 0 or 1 a bound equals the share except for rounding.
    return min(float(found.low), right / total), max(float(found.high), right / total)


def sign_test(one: int, other: int) -> float:
    """Compute the exact two-sided p-value of McNemar's test from the two counts of discordant pairs.

    Raises:
        MissingPartError: scipy is not installed.
    """
    return float(_scipy().binomtest(one, one + other).pvalue) if one + other else 1.0


def shared_units(samples: Sequence[Sequence[int]], what: str) -> list[int]:
    """Return the units that all samples have, in order.

    Raises:
        UsageError: there are none.
    """
    common = sorted(set.intersection(*map(set, samples))) if samples else []
    if not common:
        raise UsageError(f"the {what} have no unit in common", "name some over the same units of one layer")
    return common


def _scipy() -> ModuleType:
    with required_package("scipy", "eval", needed="statistics need"):
        from scipy import stats
    found: ModuleType = stats
    return found
