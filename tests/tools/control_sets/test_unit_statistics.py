import numpy as np
import pytest

from line_neurons.agent.activations import SparseActivations
from line_neurons.agent.ports import Control
from line_neurons.tools.control_sets.unit_statistics import of_units, unit_deviations, unit_statistics

LABELS = np.array([0, 0, 1, 1, 2, -1])
ROWS = np.zeros((6, 3), np.float32)
ROWS[2:4, 0] = 1, 3
ROWS[:, 1] = -1, -2, -3, -4, -0.5, 9


@pytest.mark.parametrize("sparse", [False, True])
def test_density_mean_maximum_strongest_class_and_dead_units(sparse):
    rows = SparseActivations.joined([ROWS], 3) if sparse else ROWS
    found = unit_statistics(Control(("a", "b", "c"), LABELS, rows))
    np.testing.assert_allclose(found.density, [2 / 6, 1 / 6, 0])
    np.testing.assert_allclose(found.mean, ROWS.mean(0))
    assert found.maximum.tolist() == [3, 9, 0]
    assert found.alive.tolist() == [True, True, False]
    # An image without a class counts for none.
    assert [found.class_name(unit) for unit in range(3)] == ["b", "c", ""]
    assert found.images == 6


def test_without_classes_there_is_no_strongest_one():
    found = unit_statistics(Control((), np.full(6, -1), ROWS))
    assert [found.class_name(unit) for unit in range(3)] == ["", "", ""]


@pytest.mark.parametrize("sparse", [False, True])
def test_deviations_of_sparse_units_are_those_of_dense_ones(sparse):
    rows = SparseActivations.joined([ROWS], 3) if sparse else ROWS
    found = unit_deviations(Control((), np.full(6, -1), rows))
    np.testing.assert_allclose(found, ROWS.std(0, dtype=np.float64), rtol=1e-12)


def test_of_some_units_the_others_respond_to_nothing():
    found = of_units(unit_statistics(Control((), np.full(6, -1), ROWS)), {1, 2})
    assert found.alive.tolist() == [False, True, False]
    assert np.isnan(found.density[0]) and found.maximum[0] == -np.inf
    assert found.maximum[1:].tolist() == [9, 0]
