"""The size of images that are passed on without resizing them."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.canvas import find_canvas, input_side
from support.networks import SIDE, WHOLE, Colours, prepare, target_of


def blue_first(image):
    """The whole image, blue, green and red from -128 to 127, as Keras' networks take it."""
    pixels = v2.functional.pil_to_tensor(image).flip(0).float()
    return v2.functional.resize(pixels, [48, 48], antialias=True) - 128


def odd_edge(before):
    """The middle of 59 pixels, with the larger edge before or after it."""

    def prepared(image):
        pixels = v2.functional.resize(v2.functional.pil_to_tensor(image).float() / 255, [59, 59], antialias=True)
        return pixels[:, before : before + SIDE, before : before + SIDE]

    return prepared


@pytest.mark.parametrize(
    ("prepared", "side", "box"),
    [
        (prepare, WHOLE, (4, 4, 60, 60)),
        (blue_first, 48, (0, 0, 48, 48)),
        (odd_edge(1), 59, (1, 1, 57, 57)),
        (odd_edge(2), 59, (2, 2, 58, 58)),
    ],
)
def test_preparing_is_what_the_canvas_says(prepared, side, box):
    target = target_of(Colours(), prepared=prepared)
    canvas = find_canvas(target)
    assert (canvas.side, canvas.box) == (side, box)
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    image = torch.from_numpy(pixels / 255).float().permute(2, 0, 1)[None]
    torch.testing.assert_close(canvas.prepared(image)[0], target.prepare(pixels), rtol=1e-4, atol=1e-3)


def test_the_size_of_the_input_is_known_without_a_canvas():
    assert input_side(target_of(Colours())) == SIDE


@pytest.mark.parametrize(
    "prepared",
    [
        lambda image: v2.functional.gaussian_blur(prepare(image), [5, 5]),
        lambda image: prepare(image) ** 2,
        lambda image: prepare(image) * 0,
    ],
)
def test_more_than_a_crop_and_a_scale_is_refused(prepared):
    with pytest.raises(UsageError, match=r"own:colours does more than to crop images.*leave out --am"):
        find_canvas(target_of(Colours(), prepared=prepared))
