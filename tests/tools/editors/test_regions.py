"""Masks: grown, cleaned, and moved to where they overlap least."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from line_neurons.tools.editors.regions import MAX_OVERLAP, MAX_SHARE, dilated, moved_elsewhere, opened


def block(top, left, height, width, side=48):
    mask = np.zeros((side, side), bool)
    mask[top : top + height, left : left + width] = True
    return mask


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 48), st.integers(1, 48), st.integers(0, 99))
@settings(max_examples=60)
def test_the_shape_elsewhere_has_its_size_and_does_not_touch_it(top, left, height, width, seed):
    mask = block(top, left, height, width)
    found = moved_elsewhere(mask, seed)
    if found is None:
        return
    region, overlap = found
    assert mask.mean() <= MAX_SHARE and overlap <= MAX_OVERLAP
    assert not (region & mask).any()
    assert abs(region.sum() - mask.sum() * (1 - overlap)) < 1
    again = moved_elsewhere(mask, seed)
    assert again is not None and (again[0] == region).all()


def test_there_is_no_room_for_a_large_shape_or_none():
    assert moved_elsewhere(block(0, 0, 48, 24), 0) is None
    assert moved_elsewhere(block(0, 0, 0, 0), 0) is None


def test_growing_adds_pixels_on_each_side_and_opening_removes_specks():
    mask = block(20, 20, 8, 8)
    assert (dilated(mask, 3) == block(17, 17, 14, 14)).all()
    assert (dilated(mask, 0) == mask).all()
    assert (opened(mask | block(2, 2, 1, 1), 1) == mask).all()
