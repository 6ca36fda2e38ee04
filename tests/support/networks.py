"""Small networks as targets, of a picture's middle, for tests of what excites a unit."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.transforms import v2

from line_neurons.tools.targets.base import ModelBundle
from line_neurons.tools.targets.hooked_target import HookedTarget

SIDE, WHOLE = 56, 64
"""Side of what a network takes, and of the image that it is the middle of."""


def prepare(image):
    """Resize to 64 pixels, take the middle 56, and scale the colours, as most preprocessings do."""
    pixels = v2.functional.pil_to_tensor(image).float() / 255
    resized = v2.functional.resize(pixels, [WHOLE, WHOLE], antialias=True)
    return (v2.functional.center_crop(resized, [SIDE, SIDE]) - 0.4) / 0.25


class Colours(nn.Module):
    """Redness and greenness of the middle, and a unit that is always 0."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)
        self.mix.weight.data = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [0, 0, 0]])[:, :, None, None]
        self.mix.bias.data = torch.tensor([0.0, 0, -1])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.act = nn.ReLU()

    def forward(self, images):
        return self.act(self.flat(self.pool(self.mix(images))))


class Random(nn.Module):
    """Random features and random classes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(32, 3)

    def forward(self, images):
        return self.head(self.features(images))


def target_of(module, name="own:colours", prepared=prepare, **options):
    """A network as a target."""
    bundle = ModelBundle(name, "0", "0", prepared, module.eval, **options)
    return HookedTarget(bundle, device="cpu")
