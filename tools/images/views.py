"""Views of an image: turned, shifted, scaled and with noise, as little as no viewer would mind."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor

TURN = 10.0
"""Largest angle of a view, in degrees, to either side."""
SHIFT = 12 / 224
"""Largest shift, as a share of the side."""
SCALE = 0.1
"""Largest change of the size."""
NOISE = 0.05
"""Standard deviation of the noise; black is 0 and white 1."""
VIEWS = 16
"""The number of fixed views."""

_SEED = 99
_GREY = 0.5
"""What is beyond the edge of an image."""


def random_views(image: Tensor, count: int, generator: Generator) -> Tensor:
    """Draw views of an image; torch can differentiate them.

    Args:
        image: float32 [3, H, W] in [0, 1].
        generator: on the CPU, so that the same seed gives the same views on any device.

    Returns:
        float32 [count, 3, H, W]; with the noise, values may be beyond [0, 1].
    """
    import torch
    from torch.nn import functional

    drawn = torch.rand(count, 4, generator=generator) * 2 - 1
    angle, size = torch.deg2rad(TURN * drawn[:, 0]), 1 + SCALE * drawn[:, 3]
    cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
    # In coordinates from -1 to 1 a shift by the side is 2.
    across, down = 2 * SHIFT * drawn[:, 1], 2 * SHIFT * drawn[:, 2]
    rows = [cosine, -sine, across, sine, cosine, down]
    maps = torch.stack(rows, 1).reshape(count, 2, 3).to(image.device)
    noise = NOISE * torch.randn(count, *image.shape, generator=generator).to(image.device)
    shape = [count, *image.shape]
    grid = functional.affine_grid(maps, shape, align_corners=False)
    moved = functional.grid_sample((image - _GREY).expand(*shape), grid, align_corners=False)
    return moved + _GREY + noise


def fixed_views(pixels: NDArray[np.uint8], count: int = VIEWS) -> list[NDArray[np.uint8]]:
    """Return the same views of any image: uint8 [H, W, 3], as ``pixels`` is."""
    import numpy as np
    import torch

    with torch.inference_mode():
        image = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)
        views = random_views(image, count, torch.Generator().manual_seed(_SEED))
        levels = (views.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        return [np.ascontiguousarray(view) for view in levels.numpy()]
