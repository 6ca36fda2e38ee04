import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from line_neurons.agent.activations import SPARSE_UNITS
from line_neurons.tools.cache.checksums import vector_checksum, vector_error
from line_neurons.tools.cache.reader import finite_float32
from line_neurons.tools.cache.vectors import decode_vector, encode_vector, value_bytes, vector_width

KEY = ("image", "target", "layer")


@given(
    st.dictionaries(st.integers(0, SPARSE_UNITS + 9), st.floats(width=32, allow_nan=False, allow_infinity=False))
)
def test_a_vector_comes_back_as_it_was_in_either_form(active):
    row = np.zeros(SPARSE_UNITS + 10, np.float32)
    for unit, value in active.items():
        row[unit] = value
    vector, units = encode_vector(row)
    assert units == len(row)
    assert len(vector) == 8 * np.count_nonzero(row)
    np.testing.assert_array_equal(decode_vector(vector, units), row)
    assert vector_width(vector, units) == len(row)
    for unit in [*active, 0, len(row) - 1]:
        assert finite_float32(value_bytes(vector, units, unit)) == row[unit]
    assert value_bytes(vector, units, len(row)) == b""
    assert not vector_error(*KEY, vector, vector_checksum(*KEY, vector, units), len(row), units)


@pytest.mark.parametrize("row", [np.ones(SPARSE_UNITS, np.float32), np.zeros(SPARSE_UNITS - 1, np.float32)])
def test_full_and_narrow_vectors_stay_as_earlier_versions_kept_them(row):
    vector, units = encode_vector(row)
    assert (vector, units) == (row.astype("<f4").tobytes(), None)
    np.testing.assert_array_equal(decode_vector(vector, None), row)


def test_damage_of_a_sparse_vector_is_found():
    row = np.zeros(SPARSE_UNITS, np.float32)
    row[[3, 70]] = 1, 2
    vector, units = encode_vector(row)
    kept = vector_checksum(*KEY, vector, units)
    assert "has changed" in vector_error(*KEY, vector, vector_checksum(*KEY, vector, None), units, units)
    swapped = vector[4:8] + vector[:4] + vector[8:]
    outside = np.array([3, SPARSE_UNITS], "<u4").tobytes() + vector[8:]
    for harmed in (vector[:-4], swapped, outside, vector[:8] + np.array([np.nan, 1], "<f4").tobytes()):
        assert vector_error(*KEY, harmed, kept, units, units)
    assert "not 5000 numbers" in vector_error(*KEY, vector, kept, 5000, units)
