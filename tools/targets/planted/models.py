"""The models with planted units: MobileNetV2 with units of known truth, and units of pixels without a network."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.base import ModelBundle, ModelRequest, short_hash
from line_neurons.tools.targets.planted.truth import NETWORK, PIXEL_UNITS, PIXELS, planted_units, table_text
from line_neurons.tools.targets.torchvision_models import open_torchvision

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image
    from torch import Tensor

_BASE = "mobilenet_v2@IMAGENET1K_V1"
_FEATURES = 1280
_DENSE, _LITTLE, _FREQUENCY = 10.0, 0.1, 1e4
"""The dense unit: a constant, the range of its noise, and how fast the noise changes with the mean pixel."""
_SIDE, _CELLS = 224, 14
_CENTRE = slice(4, 10)
"""The cells of the middle, along each side."""


def open_planted(request: ModelRequest) -> ModelBundle:
    """Open ``mobilenet_v2`` or ``pixels``.

    Raises:
        UsageError: another model, or a checkpoint is given.
        MissingPartError: the weights of MobileNetV2 are missing or damaged.
    """
    openers = {NETWORK: _open_network, PIXELS: _open_pixels}
    name = f"planted:{request.model}"
    if name not in openers:
        raise UsageError(
            f"there is no model {name!r:.80} with planted units", f"there are {' and '.join(openers)}"
        )
    if request.weights is not None:
        raise UsageError(
            f"{name} takes no weights of your own: the truth of its units holds for its own", "leave out --weights"
        )
    return openers[name](request)


def _open_network(request: ModelRequest) -> ModelBundle:
    base = open_torchvision(replace(request, model=_BASE))
    names = [unit.name for unit in planted_units(NETWORK)]
    return ModelBundle(
        name=NETWORK,
        weights=f"{base.weights} units={short_hash(table_text())}",
        preprocessing=base.preprocessing,
        prepare=base.prepare,
        build=partial(_build_network, base.build),
        classes=(*names, *(f"feature {index}" for index in range(_FEATURES))),
    )


def _build_network(base: Callable[[], nn.Module]) -> nn.Module:
    return PlantedNetwork(base())


class PlantedNetwork(nn.Module):
    """MobileNetV2 with the layer ``units``: the planted units, then the 1,280 pooled features of the network."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.units = PlantedLayer()

    def forward(self, images: Tensor) -> Tensor:
        """Return the units' activations, [N, planted units + 1280]."""
        features = self.network.features(images).mean((2, 3))
        activations: Tensor = self.units(images, features, self.network.classifier(features))
        return activations


class PlantedLayer(nn.Module):
    """The planted units, each computed from standardised logits; then the features as they are."""

    first: Tensor
    second: Tensor
    mean: Tensor
    sd: Tensor

    def __init__(self) -> None:
        super().__init__()
        units = planted_units(NETWORK)
        self._kinds = [unit.kind for unit in units]
        # Units without a class read logit 0 and do not use it; one class is both of a pair.
        pairs = [(unit.classes[0], unit.classes[-1]) if unit.classes else None for unit in units]
        for place, name in enumerate(("first", "second")):
            indices = [pair[place].index if pair else 0 for pair in pairs]
            self.register_buffer(name, torch.tensor(indices), persistent=False)
        scales = [
            [(pair[place].mean, pair[place].sd) if pair else (0.0, 1.0) for pair in pairs] for place in (0, 1)
        ]
        values = torch.tensor(scales)
        self.register_buffer("mean", values[..., 0].clone(), persistent=False)
        self.register_buffer("sd", values[..., 1].clone(), persistent=False)

    def forward(self, images: Tensor, features: Tensor, logits: Tensor) -> Tensor:
        """Return [N, planted units + features] of images [N, 3, H, W], features and logits."""
        first = (logits[:, self.first] - self.mean[0].to(logits.dtype)) / self.sd[0].to(logits.dtype)
        second = (logits[:, self.second] - self.mean[1].to(logits.dtype)) / self.sd[1].to(logits.dtype)
        noise = torch.sin(images.float().mean((1, 2, 3)) * _FREQUENCY).to(logits.dtype)
        of_kind = {
            "single": first,
            "larger": torch.maximum(first, second),
            "smaller": torch.minimum(first, second),
            "minus": -first,
            "dead": torch.zeros_like(first),
            "dense": (_DENSE + _LITTLE * noise)[:, None].expand_as(first),
        }
        planted = [of_kind[kind][:, place] for place, kind in enumerate(self._kinds)]
        return torch.cat([torch.stack(planted, dim=1), features], dim=1)


def _open_pixels(_: ModelRequest) -> ModelBundle:
    how = f"{_CELLS} x {_CELLS} cells of {_SIDE} pixels, middle {_CENTRE.start}-{_CENTRE.stop - 1}"
    return ModelBundle(
        name=PIXELS,
        weights=f"{short_hash(how)} (none)",
        preprocessing=short_hash(f"whole image resized to {_SIDE}, pixels -.5 to .5"),
        prepare=_prepare,
        build=PixelUnits,
        classes=PIXEL_UNITS,
    )


def _prepare(image: Image) -> Tensor:
    from torchvision.transforms import functional

    tensor: Tensor = functional.to_tensor(image.resize((_SIDE, _SIDE))) - 0.5
    return tensor


class PixelUnits(nn.Module):
    """Three linear functions of the pixels; the weights of each are its exact map.

    ``red-middle``: red less the other colours in the middle; ``left-half``: brightness of the left half less that
    of the right; ``stripes``: vertical stripes, 16 pixels wide.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.AvgPool2d(_SIDE // _CELLS)
        self.units = nn.Linear(3 * _CELLS**2, len(PIXEL_UNITS), bias=False)
        red = torch.zeros(3, _CELLS, _CELLS)
        red[:, _CENTRE, _CENTRE] = torch.tensor([1.0, -0.5, -0.5])[:, None, None]
        left = torch.ones(3, _CELLS, _CELLS)
        left[..., _CELLS // 2 :] = -1
        stripes = torch.ones(3, _CELLS, _CELLS)
        stripes[..., 1::2] = -1
        maps = torch.stack([red, left, stripes]).flatten(1)
        self.units.weight = nn.Parameter(maps / maps.abs().sum(1, keepdim=True), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the activations [N, 3] of images [N, 3, 224, 224]."""
        activations: Tensor = self.units(self.cells(images).flatten(1))
        return activations
