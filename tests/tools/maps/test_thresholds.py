"""Thresholds of maps: the quantile over places of images that are spread over the control set."""

import numpy as np
import torch
from torch import nn
from torchvision.transforms import v2

from line_neurons.agent.ports import ControlChunk
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.maps.thresholds import map_thresholds, spread_images
from line_neurons.tools.targets.base import ModelBundle
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.maps import unit_maps


class Chunks:
    """A control set of images of one colour each, in chunks of 10; it counts the chunks that are read."""

    fingerprint = "chunks"

    def __init__(self, total, size=16):
        self.total = total
        self.read = []
        self._size = size

    def chunks(self, start=0):
        for number in range(start, 40):
            self.read.append(number)
            yield ControlChunk(tuple(self._image(10 * number + place) for place in range(10)), (-1,) * 10)

    def _image(self, number):
        noise = np.random.default_rng(number).integers(0, 256, (self._size, self._size, 3), np.uint8)
        return encode_png(noise)


def target(*parts):
    def prepare(image):
        return v2.functional.resize(v2.functional.pil_to_tensor(image).float() / 255, [16, 16], antialias=True)

    torch.manual_seed(0)
    module = nn.Sequential(*parts).eval()
    return HookedTarget(ModelBundle("own:net", "0", "0", prepare, lambda: module), device="cpu")


def test_one_place_of_a_hundred_lies_above():
    net, control = target(nn.Conv2d(3, 4, 2, 2)), Chunks(40)
    seen = []
    found = map_thresholds(net, control, "0", [3, 1], lambda done, total: seen.append((done, total)))
    # 64 places an image.
    assert found.images == 157
    assert seen[-1] == (157, 157)
    values = unit_maps(net, spread_images(control, found.images), "0", [3, 1]).values
    above = [(values[:, place] > found.values[unit]).mean() for place, unit in enumerate((3, 1))]
    np.testing.assert_allclose(above, 0.01, atol=0.001)


def test_images_are_spread_over_the_set_and_only_their_chunks_are_read():
    control = Chunks(40)
    found = spread_images(control, 4)
    assert len(found) == 4
    assert control.read == [0, 10, 20, 30]
    assert len(set(spread_images(Chunks(2), 7))) == 7
    assert len(spread_images(Chunks(None), 12)) == 12


def test_a_layer_without_maps_has_no_threshold():
    assert map_thresholds(target(nn.Flatten(), nn.Linear(768, 2)), Chunks(2), "1", [0]) is None
