from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import mannwhitneyu, norm, sem

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import SCORERS_WITHOUT_CONTROL, ScorerName
from line_neurons.tools.scorers import (
    SCORERS,
    Scorer,
    auc,
    auc_interval,
    layer_scorer,
    mad,
    mean,
    needs_control,
    standard_error,
)

# Few distinct values, so that ties are common.
rows = hnp.arrays(
    np.float32, st.integers(1, 30), elements=st.integers(-5, 5).map(lambda value: np.float32(value / 4))
)


@given(rows, rows)
def test_the_interval_of_the_auc_is_delongs_over_all_pairs_and_holds_the_auc(concept, control):
    low, high = auc_interval(concept, control)
    wins = (concept[:, None] > control) + (concept[:, None] == control) / 2
    assert 0 <= low <= auc(concept, control) + 1e-12 and auc(concept, control) - 1e-12 <= high <= 1
    if len(concept) < 2 or len(control) < 2:
        assert (low, high) == (0.0, 1.0)
        return
    variance = wins.mean(1).var(ddof=1) / len(concept) + wins.mean(0).var(ddof=1) / len(control)
    area, half = wins.mean(), norm.ppf(0.975) * np.sqrt(variance)
    assert (low, high) == pytest.approx((max(0, area - half), min(1, area + half)))


@given(rows, rows)
def test_auc_is_the_mann_whitney_u_over_all_pairs(concept, control):
    expected = mannwhitneyu(concept, control).statistic / (len(concept) * len(control))
    assert auc(concept, control) == pytest.approx(expected)


@given(rows, rows)
def test_auc_lies_in_the_unit_interval_and_swaps_to_its_complement(concept, control):
    value = auc(concept, control)
    assert 0 <= value <= 1
    assert value + auc(control, concept) == pytest.approx(1)


@given(rows)
def test_auc_of_a_set_against_itself_is_one_half(values):
    assert auc(values, values) == 0.5


@given(rows, hnp.arrays(np.float32, st.integers(2, 30), elements=st.floats(-9, 9, width=32)))
def test_mad_is_the_mean_difference_in_sample_deviations(concept, control):
    deviation = np.std(control.astype(float), ddof=1)
    if len(set(control.tolist())) == 1:
        assert mad(concept, control) == 0
    else:
        expected = (concept.astype(float).mean() - control.astype(float).mean()) / deviation
        assert mad(concept, control) == pytest.approx(expected)


def test_mad_is_zero_against_constant_control_even_where_the_mean_rounds():
    assert mad(np.array([7], np.float32), np.full(7, 0.1, np.float32)) == 0


def test_the_mean_needs_no_control():
    assert mean(np.array([1, 2, 6], np.float32), np.empty(0, np.float32)) == 3
    assert [name for name in SCORERS if needs_control(name)] == ["auc", "mad"]


def test_the_settings_know_every_scorer_and_which_need_no_control():
    assert set(get_args(ScorerName)) == set(SCORERS)
    assert {name for name in SCORERS if not needs_control(name)} == SCORERS_WITHOUT_CONTROL


@pytest.mark.parametrize("use", [needs_control, lambda name: layer_scorer(name, np.ones((3, 2), np.float32))])
def test_a_scorer_that_does_not_exist_is_refused_with_those_that_do(use):
    with pytest.raises(UsageError, match="'median' is no scorer") as caught:
        use("median")
    assert caught.value.remedy.endswith("choose from mean, auc, mad")


def test_a_scorer_that_is_added_is_used_for_a_whole_layer(monkeypatch):
    def medians(control):
        return lambda concepts: np.median(concepts, axis=1).astype(np.float64)

    median = Scorer(
        lambda concept, control: float(np.median(concept)),
        lambda concept, control: None,
        medians,
        needs_control=False,
    )
    monkeypatch.setattr("line_neurons.tools.scorers.SCORERS", {**SCORERS, "median": median})
    values = np.array([[[1.0], [2.0], [9.0]]], np.float32)
    assert layer_scorer("median", np.ones((3, 1), np.float32))(values).tolist() == [[2.0]]


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("concept", [[], [np.nan], [np.inf, 1], [[1.0]]])
def test_no_images_and_values_that_are_not_finite_are_refused(name, concept):
    with pytest.raises(ValueError, match="concept"):
        SCORERS[name].one(np.array(concept, np.float32), np.ones(3, np.float32))


@pytest.mark.parametrize("name", [name for name in SCORERS if needs_control(name)])
def test_a_control_that_is_empty_is_refused(name):
    with pytest.raises(ValueError, match="control"):
        SCORERS[name].one(np.ones(3, np.float32), np.empty(0, np.float32))


def test_mad_against_a_single_control_image_is_refused():
    with pytest.raises(ValueError, match="two control images"):
        mad(np.ones(3, np.float32), np.ones(1, np.float32))


@st.composite
def layers(draw):
    """Activations of some units on n images of some concepts, and on control images; ties are common."""
    concepts, units, n = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 200))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    grain = draw(st.sampled_from([0.25, 1e-3, 1e-7]))
    values = (rng.normal(scale=draw(st.sampled_from([1, 1e4])), size=(concepts, n, units)) // grain) * grain
    control = (rng.normal(size=(draw(st.integers(2, 50)), units)) // grain) * grain
    if draw(st.booleans()):
        control[:, 0] = control[0, 0]
    return values.astype(np.float32), control.astype(np.float32)


@pytest.mark.parametrize("name", SCORERS)
@given(layer=layers())
def test_a_layer_is_scored_to_the_bit_as_each_unit_and_concept_alone(name, layer):
    values, control = layer
    one_by_one = [
        [SCORERS[name].one(own, base) for own, base in zip(concept.T, control.T, strict=True)]
        for concept in values
    ]
    assert layer_scorer(name, control)(values).tolist() == one_by_one


@pytest.mark.parametrize("name", SCORERS)
def test_a_layer_with_a_value_that_is_not_finite_or_without_images_is_refused(name):
    score = layer_scorer(name, np.ones((3, 2), np.float32))
    for concepts in (np.full((1, 2, 2), np.nan, np.float32), np.empty((1, 0, 2), np.float32)):
        with pytest.raises(ValueError, match="concept"):
            score(concepts)


@pytest.mark.parametrize("name", [name for name in SCORERS if needs_control(name)])
@pytest.mark.parametrize("control", [np.empty((0, 2), np.float32), np.full((3, 2), np.inf, np.float32)])
def test_a_layer_against_a_control_that_is_empty_or_not_finite_is_refused(name, control):
    with pytest.raises(ValueError, match="control"):
        layer_scorer(name, control)


def test_the_mad_of_a_layer_against_a_single_control_image_is_refused():
    with pytest.raises(ValueError, match="two control images"):
        layer_scorer("mad", np.ones((1, 2), np.float32))


activations = hnp.arrays(
    np.float32, st.integers(2, 30), elements=st.integers(-9000, 9000).map(lambda value: np.float32(value / 1024))
)


@given(activations)
def test_the_spread_of_a_mean_is_the_standard_error_of_the_mean(concept):
    assert standard_error("mean", concept, np.empty(0, np.float32)) == pytest.approx(
        np.nan_to_num(sem(concept.astype(float))), abs=1e-12
    )


@given(rows, rows)
def test_the_spread_of_an_auc_is_that_of_its_interval_and_unknown_where_all_pairs_agree(concept, control):
    wins = (concept[:, None] > control) + (concept[:, None] == control) / 2
    error = standard_error("auc", concept, control)
    if min(len(concept), len(control)) < 2 or wins.min() == wins.max() != 0.5:
        assert error is None
        return
    expected = wins.mean(1).var(ddof=1) / len(concept) + wins.mean(0).var(ddof=1) / len(control)
    assert error == pytest.approx(np.sqrt(expected))


@given(rows, activations)
def test_the_spread_of_a_mad_is_its_infinitesimal_jackknife_over_both_samples(concept, control):
    error = standard_error("mad", concept, control)
    if len(concept) < 2 or control.min() == control.max():
        assert error is None
        return
    # The derivative by the weight of each image, with variances of ddof 0 made those of ddof 1.
    deviation = np.std(control.astype(float), ddof=1)
    own = np.var(concept.astype(float), ddof=1) / len(concept) / deviation**2

    def weighted(place):
        change = 1e-7
        weights = np.full(len(control), (1 - change) / len(control))
        weights[place] += change
        centre = weights @ control.astype(float)
        spread = np.sqrt(weights @ (control.astype(float) - centre) ** 2 * len(control) / (len(control) - 1))
        return ((concept.astype(float).mean() - centre) / spread - mad(concept, control)) / change

    slopes = np.array([weighted(place) for place in range(len(control))])
    assert error == pytest.approx(np.sqrt(own + slopes.var(ddof=1) / len(control)), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("name", SCORERS)
def test_the_spread_is_that_of_the_scores_of_repeated_samples(name):
    rng = np.random.default_rng(0)
    samples = [
        (rng.gamma(2, 2, 12).astype(np.float32), rng.gamma(1, 2, 300).astype(np.float32)) for _ in range(600)
    ]
    scores = [SCORERS[name].one(*sample) for sample in samples]
    spreads = [standard_error(name, *sample) for sample in samples]
    assert np.mean([spread for spread in spreads if spread is not None]) == pytest.approx(np.std(scores), rel=0.12)


@given(activations, activations, st.sampled_from([0.25, 2.0, 8.0]))
def test_the_spread_has_the_scale_of_its_score(concept, control, factor):
    factor32 = np.float32(factor)
    for name, scale in (("mean", factor), ("auc", 1), ("mad", 1)):
        error = standard_error(name, concept, control)
        scaled = standard_error(name, concept * factor32, control * factor32)
        if error is None:
            assert scaled is None
        else:
            assert error >= 0 and scaled == pytest.approx(scale * error, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("name", SCORERS)
def test_a_single_image_has_no_spread(name):
    assert standard_error(name, np.ones(1, np.float32), np.arange(5, dtype=np.float32)) is None
