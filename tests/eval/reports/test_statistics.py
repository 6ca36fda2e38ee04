import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from line_neurons.eval.benchmarks.coverage import DRAWS, coverage
from line_neurons.eval.reports.statistics import (
    MIN_INTERVAL_VALUES,
    compare,
    holm_correction,
    sign_test,
    summarise,
    wilson_interval,
)

VALUES = st.lists(st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda x: round(x, 3)), min_size=3, max_size=30)
MANY = st.lists(st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda x: round(x, 3)), min_size=10, max_size=30)
PS = st.lists(st.floats(0, 1), max_size=12)
NORMAL = list(np.random.default_rng(5).normal(0.4, 1, 30))
SKEWED = list(np.random.default_rng(2).lognormal(0, 1.5, 30) - 0.5)


def test_a_summary_is_numpys_mean_and_deviation_and_scipys_bootstrap():
    found = summarise(SKEWED, seed=3)
    expected = stats.bootstrap(
        (np.array(SKEWED),), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    assert found.n == 30
    assert (found.mean, found.sd) == pytest.approx((np.mean(SKEWED), np.std(SKEWED, ddof=1)))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found == summarise(SKEWED, seed=3) != summarise(SKEWED, seed=4)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (0, math.nan, math.nan, math.nan, math.nan)),
        ([2.0], (1, 2.0, math.nan, math.nan, math.nan)),
        ([2.0, math.nan], (1, 2.0, math.nan, math.nan, math.nan)),
        ([1.0, 2.0, 3.0], (3, 2.0, 1.0, math.nan, math.nan)),
        ([1.0, 3.0] * 4 + [2.0], (9, 2.0, 1.0, math.nan, math.nan)),
        ([2.0] * 10, (10, 2.0, 0.0, 2.0, 2.0)),
    ],
)
def test_what_cannot_be_had_from_few_or_equal_values_is_no_number(values, expected):
    found = summarise(values)
    assert (found.n, found.mean, found.sd, found.low, found.high) == pytest.approx(expected, nan_ok=True)


def test_below_ten_values_an_interval_holds_the_mean_too_seldom_to_be_called_one():
    assert coverage(DRAWS["normal"], 5, samples=200, resamples=199) < 0.9
    assert math.isnan(summarise(NORMAL[: MIN_INTERVAL_VALUES - 1]).low)
    assert not math.isnan(summarise(NORMAL[:MIN_INTERVAL_VALUES]).low)


@settings(max_examples=25)
@given(MANY)
def test_the_interval_of_ten_values_or_more_is_finite_and_within_them(values):
    found = summarise(values)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_normal_differences_are_compared_by_scipys_paired_t_test():
    one, other = np.array(NORMAL) + SKEWED, SKEWED
    found = compare(one, other)
    expected = stats.ttest_rel(one, other)
    assert found.test == "t"
    assert found.normality == pytest.approx(stats.shapiro(np.array(one) - other).pvalue)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.effect == pytest.approx(expected.statistic / math.sqrt(30))


def test_other_differences_are_compared_by_scipys_wilcoxon_test():
    found = compare(SKEWED, [0.0] * 30)
    expected = stats.wilcoxon(SKEWED)
    assert (found.test, found.normality < 0.05) == ("wilcoxon", True)
    assert (found.statistic, found.p) == (expected.statistic, expected.pvalue)


def test_the_rank_biserial_correlation_is_that_of_a_sum_by_hand():
    # Differences 1, -2, 3 and 100 have ranks 1, 2, 3, 4; (1 - 2 + 3 + 4) / 10, and 0 counts for nothing.
    found = compare([1, -2, 3, 100, 0], [0, 0, 0, 0, 0])
    assert (found.test, found.effect) == ("wilcoxon", pytest.approx(0.6))


@settings(max_examples=50)
@given(VALUES)
def test_turned_round_a_comparison_has_the_same_p_and_the_opposite_effect(values):
    forth, back = compare(values, [0.0] * len(values)), compare([0.0] * len(values), values)
    assert forth.p == pytest.approx(back.p, nan_ok=True)
    assert forth.effect == pytest.approx(-back.effect, abs=1e-9)
    assert forth.test == back.test
    assert 0 <= forth.p <= 1


@pytest.mark.parametrize("values", [[5.0] * 8, [0.1 + 0.2, 0.3, 0.3, 0.3]])
def test_differences_that_are_all_equal_are_no_division_by_zero(values):
    found = compare(values, [0.0] * len(values))
    assert (found.test, found.effect) == ("wilcoxon", 1.0)
    assert 0 < found.p < 1


def test_no_difference_has_p_1_and_too_few_pairs_have_no_test():
    assert (compare([1, 2, 3], [1, 2, 3]).p, compare([1, 2, 3], [1, 2, 3]).effect) == (1.0, 0.0)
    few = compare([1.0, 2.0, math.nan], [0.0, 0.0, 0.0])
    assert (few.test, few.difference.n, math.isnan(few.p)) == ("none", 2, True)


def test_holms_correction_is_his_by_hand():
    assert holm_correction([0.01, 0.04, 0.03, math.nan]) == pytest.approx(
        [0.03, 0.06, 0.06, math.nan], nan_ok=True
    )


@given(PS)
def test_holm_never_lowers_a_p_keeps_their_order_and_is_at_most_bonferroni(ps):
    corrected = holm_correction(ps)
    for p, better in zip(ps, corrected, strict=True):
        assert p <= better <= min(1.0, p * len(ps))
    ordered = [better for _, better in sorted(zip(ps, corrected, strict=True))]
    assert ordered == sorted(ordered)


@pytest.mark.parametrize(("one", "other"), [(15, 1), (0, 0), (3, 3), (0, 7), (600, 600), (700, 500)])
def test_the_sign_test_is_scipys(one, other):
    expected = stats.binomtest(min(one, other), one + other).pvalue if one + other else 1.0
    assert sign_test(one, other) == pytest.approx(expected)


def test_ten_thousand_pairs_are_no_overflow_and_half_of_them_no_difference():
    assert sign_test(600, 600) == 1.0
    assert 0 < sign_test(5300, 4700) < 1e-8


@pytest.mark.parametrize(("right", "total"), [(18, 40), (0, 40), (40, 40)])
def test_the_interval_of_a_share_is_scipys(right, total):
    expected = stats.binomtest(right, total).proportion_ci(method="wilson")
    low, high = wilson_interval(right, total)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert low <= right / total <= high


def test_nothing_is_known_of_a_share_of_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)
