"""Images that are found by gradients, on units of which the strongest image is known."""

import numpy as np
import pytest
import torch
from torch import nn

from line_neurons.agent.errors import UsageError
from line_neurons.tools.images.views import fixed_views
from line_neurons.tools.targets.canvas import find_canvas
from line_neurons.tools.targets.gradients.differentiable import differentiable
from line_neurons.tools.targets.gradients.maximisation import maximise
from support.networks import SIDE, target_of

COARSE, FINE, DEAD = range(3)


def templates():
    """A bright left half, the same with a strong checkerboard, and nothing."""
    half = np.where(np.arange(SIDE) < SIDE / 2, 1.0, -1.0)[None].repeat(SIDE, 0)
    board = np.where(np.indices((SIDE, SIDE)).sum(0) % 2, 1.0, -1.0)
    return np.stack([half, 0.2 * half + board, 0 * half]) / SIDE**2


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.flat = nn.Flatten()
        self.head = nn.Linear(3 * SIDE * SIDE, 3)
        self.head.weight.data = torch.from_numpy(templates()).float()[:, None].repeat(1, 3, 1, 1).flatten(1)
        self.head.bias.data = torch.tensor([0.0, 0.0, -1.0])
        self.act = nn.ReLU()

    def forward(self, images):
        return self.act(self.head(self.flat(images)) + 1)


@pytest.fixture(scope="module")
def found():
    """Images of each kind of the two units that can be climbed, and the target."""
    target = target_of(Linear())
    canvas = find_canvas(target)
    images = {}
    with differentiable(target, "head") as layer:
        for unit in (COARSE, FINE):
            for kind in ("raw", "robust"):
                images[unit, kind] = maximise(layer, canvas, unit, kind, seed=3, steps=128)
        again = maximise(layer, canvas, FINE, "raw", seed=3, steps=128)
    assert (again == images[FINE, "raw"]).all()
    return target, canvas, images


def activation(target, images, unit):
    return target.activate(images, ["head"])["head"][:, unit].mean()


@pytest.mark.parametrize("kind", ["raw", "robust"])
def test_the_image_has_the_direction_of_the_largest_activation(found, kind):
    _, canvas, images = found
    left, top, right, bottom = canvas.box
    seen = images[COARSE, kind][top:bottom, left:right].mean(2) / 255 - 0.5
    best = np.sign(templates()[COARSE])
    assert (seen * best).sum() / np.linalg.norm(seen) / np.linalg.norm(best) > 0.9


def test_raw_images_are_stronger_and_do_not_survive_views(found):
    target, _, images = found
    raw, robust = (images[FINE, kind] for kind in ("raw", "robust"))
    strong, less = activation(target, [raw], FINE), activation(target, [robust], FINE)
    assert strong > less > 0
    left, more = (activation(target, fixed_views(image), FINE) for image in (raw, robust))
    assert left / strong < 0.3
    assert more / less > 2 * left / strong


def test_a_unit_without_a_gradient_is_refused():
    target = target_of(Linear())
    with (
        pytest.raises(UsageError, match=r"unit 2 has gradient 0 at every first image: nothing to climb"),
        differentiable(target, "head") as layer,
    ):
        maximise(layer, find_canvas(target), DEAD, "raw", seed=0, steps=2)


def test_each_step_is_reported():
    target = target_of(Linear())
    seen = []
    with differentiable(target, "act") as layer:
        maximise(layer, find_canvas(target), COARSE, "raw", seed=0, steps=3, on_step=seen.append)
    assert seen == [1, 2, 3]
