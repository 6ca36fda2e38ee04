"""Activation maximisation: an image that excites a unit, found by gradients.

The image is the sum of waves with decorrelated colours (Olah, Mordvintsev and Schubert 2017: Feature
visualization): coarse waves are stronger by 1 / frequency, so that a step changes all sizes alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from line_neurons.agent.errors import UsageError
from line_neurons.tools.images.views import random_views

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from line_neurons.tools.targets.canvas import Canvas
    from line_neurons.tools.targets.gradients.differentiable import DifferentiableLayer

Kind = Literal["raw", "robust"]
"""``raw``: the image as it is; ``robust``: random views of it, all of which have to excite the unit."""

STEPS = 128
VIEWS = 4
"""Views of each step of a robust image."""
RATE = 0.05

_STARTS = (0.01, 0.1, 1.0)
"""Strength of the first waves; the next one where the unit has no gradient."""
# How colours of photographs go together: brightness, blue to yellow, green to magenta; from the work above.
_COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.0, -0.05), (0.27, -0.09, 0.03))


def maximise(
    layer: DifferentiableLayer,
    canvas: Canvas,
    unit: int,
    kind: Kind,
    *,
    seed: int,
    steps: int = STEPS,
    on_step: Callable[[int], None] | None = None,
) -> NDArray[np.uint8]:
    """Find an image that excites a unit.

    Args:
        layer: the unit's, made differentiable.
        canvas: how the target prepares images.
        kind: see ``Kind``.
        on_step: called with the number of finished steps; its exceptions end the work.

    Returns:
        uint8 [side, side, 3], which the target prepares without resizing it.

    Raises:
        UsageError: the unit's gradient is 0 at all first images.
    """
    import torch

    shape = (3, canvas.side, canvas.side // 2 + 1, 2)
    for strength in _STARTS:
        generator = torch.Generator().manual_seed(seed)
        waves = (strength * torch.randn(shape, generator=generator)).to(layer.device).requires_grad_()
        optimiser = torch.optim.Adam([waves], lr=RATE)
        for step in range(1, steps + 1):
            image = _image(waves, canvas)
            views = image[None] if kind == "raw" else random_views(image, VIEWS, generator)
            loss = -layer.units(canvas.prepared(views))[:, unit].mean()
            (waves.grad,) = torch.autograd.grad(loss, [waves])
            if step == 1 and not bool(waves.grad.any()):
                break
            optimiser.step()
            if on_step:
                on_step(step)
        else:
            with torch.no_grad():
                levels = (_image(waves, canvas) * 255).round().to(torch.uint8)
            return levels.permute(1, 2, 0).contiguous().cpu().numpy()
    raise UsageError(
        f"unit {unit} has gradient 0 at every first image: nothing to climb", "leave the unit out, or --am"
    )


def _image(waves: Tensor, canvas: Canvas) -> Tensor:
    """Return the image of some waves, float32 [3, H, W] in (0, 1)."""
    import torch

    side = canvas.side
    down, across = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    # Not below one wave a side; a larger scale saturates the sigmoid, and what is found is noise.
    scale = 1 / torch.clamp((down**2 + across**2).sqrt(), min=1 / side)
    spectrum = torch.view_as_complex(waves) * scale.to(waves.device)
    mixed = torch.fft.irfft2(spectrum, s=(side, side), norm="ortho") / 4
    colours = torch.tensor(_COLOURS, device=waves.device)
    return torch.sigmoid(torch.einsum("chw,dc->dhw", mixed, colours / colours.norm(dim=0).max()))
