import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import mannwhitneyu

from line_neurons.tools.scorers import SCORERS, auc, mad, mean, needs_control

# Few distinct values, so that ties are common.
rows = hnp.arrays(
    np.float32, st.integers(1, 30), elements=st.integers(-5, 5).map(lambda value: np.float32(value / 4))
)


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


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("concept", [[], [np.nan], [np.inf, 1], [[1.0]]])
def test_no_pictures_and_values_that_are_not_finite_are_refused(name, concept):
    with pytest.raises(ValueError, match="concept"):
        SCORERS[name](np.array(concept, np.float32), np.ones(3, np.float32))


@pytest.mark.parametrize("name", [name for name in SCORERS if needs_control(name)])
def test_a_control_that_is_empty_is_refused(name):
    with pytest.raises(ValueError, match="control"):
        SCORERS[name](np.ones(3, np.float32), np.empty(0, np.float32))


def test_mad_against_a_single_control_picture_is_refused():
    with pytest.raises(ValueError, match="two control pictures"):
        mad(np.ones(3, np.float32), np.ones(1, np.float32))
