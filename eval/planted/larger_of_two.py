"""MobileNetV2 with six units for the larger of two of its logits: restarts were first measured on these.

    line batch line_neurons.eval.planted.larger_of_two:network units --units 0-5 --restarts 1 ...

The layer ``units`` has these units, then the 1,280 pooled features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from line_neurons.agent.settings import load_settings
from line_neurons.tools.assets.location import assets_root
from line_neurons.tools.targets.registry import open_network

PAIRS = {
    "castle or violin": (483, 889),
    "airliner or zebra": (404, 340),
    "goldfish or strawberry": (1, 949),
    "tiger or grand piano": (292, 579),
    "sports car or bee": (817, 309),
    "corn or killer whale": (987, 148),
}
"""The indices of both classes, by the unit's name."""


class LargerOfTwo(nn.Module):
    """MobileNetV2 with the layer ``units``: the larger of two logits each, then the pooled features."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.units = nn.Identity()
        self.register_buffer("pairs", torch.tensor(list(PAIRS.values())))

    def forward(self, images: Tensor) -> Tensor:
        """Return the units' activations on images [N, 3, H, W], [N, 6 + 1280]."""
        features = self.network.features(images).mean((2, 3))
        larger = self.network.classifier(features)[:, self.pairs].amax(2)
        activations: Tensor = self.units(torch.cat([larger, features], dim=1))
        return activations


def network() -> tuple[nn.Module, Any, list[str]]:
    """Return the module, its preprocessing, and the names of its units."""
    bundle = open_network("torchvision:mobilenet_v2@IMAGENET1K_V1", assets=load_settings().assets or assets_root())
    names = [*PAIRS, *(f"feature {index}" for index in range(1280))]
    return LargerOfTwo(bundle.build()), bundle.prepare, names
