import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from line_neurons.agent.activations import SPARSE_UNITS
from line_neurons.agent.errors import DamagedError
from line_neurons.tools.cache.checksums import vector_checksum, vector_error
from line_neurons.tools.cache.reader import finite_float32
from line_neurons.tools.cache.vectors import decode_vector, encode_vector, value_bytes, vector_width

KEY = ("image", "target", "layer")


WIDE = 4 * 65_536


def earlier_form(row):
    """Encode what is not 0 as earlier versions did: units of 32 bits, then values."""
    active = np.flatnonzero(row)
    return active.astype("<u4").tobytes() + row[active].astype("<f4").tobytes()


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([SPARSE_UNITS, SPARSE_UNITS + 10, 49_152, WIDE, WIDE + 1]),
    st.sampled_from([0, 1, 12, 13, 400, 1000]),
    st.integers(0, 1000),
)
def test_a_vector_comes_back_as_it_was_in_every_form(width, count, seed):
    rng = np.random.default_rng(seed)
    row = np.zeros(width, np.float32)
    active = rng.choice(width, count, replace=False)
    row[active] = rng.normal(size=count)
    vector, units = encode_vector(row)
    blocks = 2 * -(-width // 256) + 2
    in_blocks = width <= WIDE and 5 * count + blocks < 8 * count
    assert units == width and len(vector) == (5 * count + blocks + 1 + count % 2 if in_blocks else 8 * count)
    for kept in (vector, earlier_form(row)):
        np.testing.assert_array_equal(decode_vector(kept, units), row)
        assert vector_width(kept, units) == width
        for unit in [*map(int, active[:50]), *map(int, active[:50] ^ 1), 0, 255, 256, width - 1]:
            assert finite_float32(value_bytes(kept, units, unit)) == row[unit]
        assert value_bytes(kept, units, width) == b""
        for checksum in (vector_checksum(*KEY, kept, units), None):
            assert not vector_error(*KEY, kept, checksum, width, units)


@pytest.mark.parametrize("row", [np.ones(SPARSE_UNITS, np.float32), np.zeros(SPARSE_UNITS - 1, np.float32)])
def test_full_and_narrow_vectors_stay_as_earlier_versions_kept_them(row):
    vector, units = encode_vector(row)
    assert (vector, units) == (row.astype("<f4").tobytes(), None)
    np.testing.assert_array_equal(decode_vector(vector, None), row)


@pytest.mark.parametrize("count", [2, 40, 41])
def test_damage_of_a_sparse_vector_is_found(count):
    row = np.zeros(SPARSE_UNITS, np.float32)
    row[100 : 100 + count] = np.arange(count) + 1
    vector, units = encode_vector(row)
    kept = vector_checksum(*KEY, vector, units)
    assert "has changed" in vector_error(*KEY, vector, vector_checksum(*KEY, vector, None), units, units)
    if in_blocks := len(vector) % 2:
        low, starts = 4 * count, 5 * count
        swapped = vector[:low] + vector[low + 1 : low + 2] + vector[low : low + 1] + vector[low + 2 :]
        outside = vector[:starts] + b"\1\0" + vector[starts + 2 :]
        falling = vector[: starts + 2] + b"\xff\xff" + vector[starts + 4 :]
    else:
        swapped = vector[4:8] + vector[:4] + vector[8:]
        outside = np.array([3, SPARSE_UNITS], "<u4").tobytes() + vector[8:]
        falling = vector[:4] + vector[:4] + vector[8:]
    begin = 0 if in_blocks else 8
    infinite = vector[:begin] + np.array([np.nan], "<f4").tobytes() + vector[begin + 4 :]
    for harmed in (vector[:-1], vector[:-4], vector + b"\0\0", swapped, outside, falling, infinite):
        assert vector_error(*KEY, harmed, kept, units, units)
        assert vector_error(*KEY, harmed, None, units, units)
    for forged in (swapped, outside, falling):
        assert not vector_error(*KEY, forged, vector_checksum(*KEY, forged, units), units, units)
        with pytest.raises(DamagedError, match=f"not of {SPARSE_UNITS} units.*line doctor"):
            decode_vector(forged, units)
        assert len(value_bytes(forged, units, 3)) == 4
    assert "not all numbers" in vector_error(*KEY, vector, None, None, "many")
    assert "not all finite" in vector_error(*KEY, infinite, vector_checksum(*KEY, infinite, units), units, units)
    assert "not 5000 numbers" in vector_error(*KEY, vector, kept, 5000, units)
