"""The images that a target's preprocessing passes on to the network without resizing them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.maps import WHOLE, visible_boxes

if TYPE_CHECKING:
    from torch import Tensor

    from line_neurons.tools.targets.hooked_target import HookedTarget

_TOLERANCE = 2e-3
"""Largest difference of a prepared image from the linear one, as a share of the range of values."""


@dataclass(frozen=True)
class Canvas:
    """Square images of a size at which preparing them is to crop them and to mix and scale their colours.

    Args:
        side: of the images, in pixels.
        box: left, top, right and bottom of what the network sees, in pixels.
        colours: float32 [3, 3], what the network is given of each colour (columns) in each channel (rows).
        offset: float32 [3], what it is given of black.
    """

    side: int
    box: tuple[int, int, int, int]
    colours: Tensor
    offset: Tensor

    def prepared(self, images: Tensor) -> Tensor:
        """Prepare images, float32 [N, 3, side, side] in [0, 1], so that torch can differentiate it."""
        import torch

        left, top, right, bottom = self.box
        mixed = torch.einsum("ncyx,dc->ndyx", images[:, :, top:bottom, left:right], self.colours.to(images))
        return mixed + self.offset.to(images).view(1, 3, 1, 1)


def find_canvas(target: HookedTarget) -> Canvas:
    """Find the size of images that a target prepares without resizing them, and how it does.

    Raises:
        UsageError: it resizes all square images, or does more than to crop them and to scale colours.
    """
    side = input_side(target)
    found = visible_boxes(target, [np.zeros((side, side, 3), np.uint8)])
    for left, _, right, _ in (*found, WHOLE):
        whole = round(side / (right - left))
        # An odd edge is divided by some libraries one way and by some the other.
        for edge in dict.fromkeys(((whole - side) // 2, (whole - side + 1) // 2)):
            if (canvas := _fitted(target, whole, edge, side)) is not None:
                return canvas
    raise UsageError(
        f"the preprocessing of {target.name} does more than to crop images and to scale their colours",
        "no image can be found by gradients through it; leave out --am",
    )


def input_side(target: HookedTarget) -> int:
    """Return the longer side of what a network takes, in pixels."""
    return int(max(target.prepare(np.zeros((256, 256, 3), np.uint8)).shape[1:]))


def _fitted(target: HookedTarget, side: int, edge: int, inner: int) -> Canvas | None:
    """Return the canvas of a size and an edge that is cropped, if images of that size are prepared so."""
    import torch

    flat = np.zeros((4, side, side, 3), np.uint8)
    for colour in range(3):
        flat[colour + 1, ..., colour] = 255
    black, *pure = (target.prepare(pixels).float()[:, inner // 2, inner // 2] for pixels in flat)
    box = (edge, edge, edge + inner, edge + inner)
    canvas = Canvas(side, box, torch.stack([colour - black for colour in pure], 1), black)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    prepared = target.prepare(noise).float()
    image = torch.from_numpy(noise.astype(np.float32) / 255).permute(2, 0, 1)[None]
    expected = canvas.prepared(image)[0]
    if prepared.shape != expected.shape:
        return None
    span = float(canvas.colours.abs().sum(1).max())
    return canvas if span > 0 and float((prepared - expected).abs().max()) <= _TOLERANCE * span else None
