"""Exemplars as MAIA reads them: rows are units, masks have the places above the threshold."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import ControlChunk
from line_neurons.eval.exchange.exemplars import COUNT, SIDE, write_exemplars
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.targets.base import ModelBundle
from line_neurons.tools.targets.hooked_target import HookedTarget
from support.fakes import ScriptedModel, scripted_components

IMAGES = 40


class Control:
    """Images that are dark, with one part that is red: the brighter, the later."""

    fingerprint, total, size = "red", 1, IMAGES

    def classes(self):
        return ()

    def chunks(self, start=0):
        if start == 0:
            yield ControlChunk(tuple(map(self._image, range(IMAGES))), (-1,) * IMAGES)

    @staticmethod
    def _image(number):
        pixels = np.full((32, 32, 3), 10, np.uint8)
        pixels[:8, :8, 0] = 20 + 5 * number
        return encode_png(pixels)


def prepare(image):
    return v2.functional.resize(v2.functional.pil_to_tensor(image).float() / 255, [32, 32], antialias=True)


@pytest.fixture
def components(tmp_path):
    module = nn.Conv2d(3, 3, 8, 8)
    module.weight.data = torch.zeros(3, 3, 8, 8)
    module.weight.data[0, 0], module.weight.data[2, 0] = 1, -1
    module.bias.data.zero_()
    net = nn.Sequential(module)
    target = HookedTarget(ModelBundle("own:net", "0", "0", prepare, lambda: net), device="cpu")
    return scripted_components(tmp_path, ScriptedModel([]), target=target).with_(control_set=Control())


def test_maia_reads_them(components, tmp_path):
    assert write_exemplars(components, "0", [0, 2], tmp_path / "out", "net") == 2 * COUNT
    place = tmp_path / "out" / "net" / "imagenet" / "0"
    activations = np.loadtxt(place / "activations.csv", delimiter=",")
    thresholds = np.loadtxt(place / "thresholds.csv", delimiter=",")
    images, masks = np.load(place / "images.npy"), np.load(place / "masks.npy")
    assert (activations.shape, thresholds.shape) == ((3, COUNT), (3,))
    assert (images.shape, masks.shape) == ((3, COUNT, 3, SIDE, SIDE), (3, COUNT, 1, SIDE, SIDE))
    column = components.control("0").column(0)
    np.testing.assert_allclose(activations[0], np.sort(column)[::-1][:COUNT], rtol=1e-5)
    assert images[0, 0, 0, :40, :40].mean() > 200
    # Of 16 places in 40 images one in a hundred is above: the red corner of the brightest images.
    assert masks[0, 0, 0, 10, 10] == 1
    assert masks[0, 0].mean() < 0.1
    # The unit of the opposite sign has no place that speaks for it, and a unit that was not asked for is 0.
    assert not masks[2].any()
    assert not (activations[1].any() or images[1].any() or masks[1].any())


def test_without_images_there_are_none(components, tmp_path):
    with pytest.raises(UsageError, match="images of the control set, and the run has none"):
        write_exemplars(components.with_(control_set=None), "0", [0], tmp_path / "out", "net")
