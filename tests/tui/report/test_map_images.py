"""Images with the map of a unit over them."""

import io

import numpy as np
import pytest
from PIL import Image

from line_neurons.tools.targets.maps import WHOLE, UnitMaps
from line_neurons.tui.report.map_images import overlay

GREY = 120


def encoded(width=80, height=60):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (GREY, GREY, GREY)).save(file, "PNG")
    return file.getvalue()


def maps(values, box=WHOLE):
    return UnitMaps(np.array([[values]], np.float32), (box,), "map", "features")


def laid(values, box=WHOLE):
    shown = overlay(encoded(), maps(values, box), 0)
    assert shown.error == ""
    return np.asarray(Image.open(io.BytesIO(shown.png))).astype(int)


def test_colour_is_where_the_map_is_high_and_the_rest_is_as_it_was():
    pixels = laid([[0, 0], [0, 8]])
    assert pixels.shape == (60, 80, 3)
    assert pixels[55, 75, 0] - pixels[55, 75, 2] > 100
    assert pixels[2, 2].tolist() == [GREY] * 3


def test_values_against_the_unit_have_no_colour():
    assert (laid([[-9, -9], [-9, 1]])[:20, :20] == GREY).all()


def test_what_the_target_does_not_see_is_dark():
    pixels = laid([[1, 1], [1, 1]], (0.25, 0.25, 0.75, 0.75))
    assert pixels[2, 2].max() < GREY / 2
    assert pixels[30, 40, 0] > GREY


def test_a_line_is_at_half_of_the_maximum():
    white = (laid([[0, 0, 0, 8]]) == 255).all(axis=2)
    assert white.any(axis=1).all()
    assert set(np.flatnonzero(white.any(axis=0))) <= set(range(52, 68))


@pytest.mark.parametrize(
    ("image", "values", "said"),
    [
        (encoded(), [[0, -1]], "has no place that speaks for the unit"),
        (b"nothing", [[1, 1]], "cannot be decoded"),
    ],
)
def test_an_image_without_a_map_says_why(image, values, said):
    shown = overlay(image, maps(values), 0)
    assert shown.png == b""
    assert said in shown.error
