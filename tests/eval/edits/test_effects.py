"""Effects of edits: exact test, interval, rank; calibrated where there is none."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from line_neurons.eval.edits.effects import effect_of, relative_drop, sign_flip_p, specificity


@given(st.lists(st.floats(-50, 50).map(lambda value: round(value, 3)), min_size=2, max_size=9))
@settings(max_examples=60)
def test_the_p_value_is_the_share_of_all_signs(values):
    total = abs(sum(values))
    signs = list(itertools.product([1, -1], repeat=len(values)))
    share = sum(abs(np.dot(sign, values)) >= total - 1e-9 for sign in signs) / len(signs)
    assert sign_flip_p(values) == pytest.approx(share)


def test_twelve_falls_give_the_smallest_p_value():
    assert effect_of([1.0 + at / 10 for at in range(12)]).p == 2 / 2**12


@pytest.mark.parametrize("count", [6, 8, 12])
def test_on_noise_the_share_of_small_p_values_is_within_the_binomial_interval(count):
    rng = np.random.default_rng(count)
    small = sum(sign_flip_p(rng.standard_normal(count) * rng.gamma(1, 1, count)) < 0.05 for _ in range(300))
    # An exact test rejects at most 5 %; of few pairs, less.
    attainable = math.floor(0.05 * 2 ** (count - 1)) / 2 ** (count - 1)
    low, high = stats.binom.interval(0.999, 300, attainable)
    assert low <= small <= high


def test_few_pairs_have_an_effect_without_p_and_none_has_nothing():
    few = effect_of([1.0, 2.0, 3.0, 2.5, 1.5])
    assert (few.test, few.summary.mean) == ("none", 2.0)
    assert math.isnan(few.p)
    none = effect_of([])
    assert math.isnan(none.summary.mean) and none.summary.n == 0
    assert effect_of([float("nan"), 1.0]).summary.n == 1


def test_many_pairs_are_compared_as_in_the_paper():
    rng = np.random.default_rng(0)
    found = effect_of((rng.standard_normal(30) + 1).tolist())
    assert found.test in {"t", "wilcoxon"}
    assert found.p < 0.01
    assert found.summary.low < found.summary.mean < found.summary.high


def test_a_unit_is_ranked_by_its_effect_in_deviations_of_the_control_set():
    effects = np.array([[4.0, 3.0, 9.0, 1.0], [4.0, 1.0, 9.0, 1.0]])
    found = specificity(effects, np.array([1.0, 1.0, 3.0, 0.0]), 0)
    assert (found.rank, found.units, found.other, found.other_max) == (1, 3, 2, 3.0)
    assert specificity(effects, np.array([1.0, 1.0, 3.0, 0.0]), 1).rank == 3
    assert specificity(effects, np.array([1.0, 1.0, 3.0, 0.0]), 3) is None
    assert specificity(effects[:0], np.ones(4), 0) is None


def test_one_means_down_to_an_average_image_also_for_negative_activations():
    assert relative_drop([-1.0, -3.0], [-5.0, -7.0], -6.0) == 1.0
    assert math.isnan(relative_drop([], [], 0.0))
    assert math.isnan(relative_drop([1.0], [0.0], 2.0))
