import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from line_neurons.agent.activations import SPARSE_UNITS, SparseActivations, columns_of, compact, unit_blocks

VALUES = st.sampled_from([0.0, 0.0, 0.0, 1.5, -2.0])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_joined_parts_are_the_dense_matrix(rows, random):
    draw = np.random.default_rng(random.randrange(2**31))
    parts = [(draw.random((count, 7)) * (draw.random((count, 7)) > 0.7)).astype(np.float32) for count in rows]
    mixed = [part if place % 2 else SparseActivations.joined([part], 7) for place, part in enumerate(parts)]
    joined = SparseActivations.joined(mixed, 7)
    whole = np.concatenate(parts)
    np.testing.assert_array_equal(joined.dense(), whole)
    assert joined.shape == whole.shape
    np.testing.assert_array_equal(joined.transposed().dense(), whole.T)
    np.testing.assert_array_equal(np.concatenate(list(unit_blocks(joined)), axis=1), whole)
    units = [3, 0, 3]
    np.testing.assert_array_equal(columns_of(joined, units), columns_of(whole, units))


@settings(deadline=None)
@given(arrays(np.float32, (2, SPARSE_UNITS), elements=VALUES, fill=st.just(0.0)))
def test_the_smaller_form_has_the_same_values(activations):
    kept = compact(activations)
    sparse = np.count_nonzero(activations) * 4 < activations.size
    assert isinstance(kept, SparseActivations) == sparse
    np.testing.assert_array_equal(kept.dense() if isinstance(kept, SparseActivations) else kept, activations)


def test_narrow_layers_stay_dense_and_full_ones_become_dense():
    narrow = np.zeros((3, SPARSE_UNITS - 1), np.float32)
    assert compact(narrow) is narrow
    full = np.ones((2, SPARSE_UNITS), np.float32)
    assert compact(full) is full
    np.testing.assert_array_equal(compact(SparseActivations.joined([full], SPARSE_UNITS)), full)
