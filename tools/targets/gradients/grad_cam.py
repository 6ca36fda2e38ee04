"""Grad-CAM: where in an image the gradient of a unit says that it looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError
from line_neurons.tools.packages import required_package
from line_neurons.tools.targets.gradients.differentiable import DifferentiableLayer, differentiable
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.latents.names import base_layer
from line_neurons.tools.targets.maps import Box, UnitMaps, grid_of, has_grid, visible_boxes

if TYPE_CHECKING:
    from torch import Tensor

    from line_neurons.agent.ports import ImageData, Target
    from line_neurons.tools.targets.layers.outputs import LayerOutput

_UNUSED = "not have been used in the graph"
"""What torch says of a layer that the unit does not follow from."""
_MOST_LAYERS = 40
"""Layers that are tried, from the unit's own backwards."""


def grad_cam(target: Target, images: Sequence[ImageData], layer: str, units: Sequence[int]) -> UnitMaps:
    """Compute Grad-CAM maps of units at the nearest map or tokens from which they follow.

    Of a map each channel counts by its mean gradient (Selvaraju et al. 2017), of tokens each value by its own
    (HiResCAM). Negative values are kept.

    Args:
        images: encoded images, or pixels, uint8 [H, W, 3].

    Raises:
        UsageError: the layer cannot be differentiated, or no map or tokens are before it.
        MissingPartError: captum is not installed.
        UnmeasurableError: an image cannot be decoded.
    """
    boxes = tuple(_placed(target, images))
    with required_package("captum", "gradients", needed="--gradients needs"):
        import captum.attr  # noqa: F401
    import torch

    with differentiable(target, layer) as found:
        assert isinstance(target, HookedTarget)
        outputs = target.outputs()
        paths = list(outputs)[: list(outputs).index(found.output.info.path) + 1]
        # Patches of the last block do not reach the class token: the nearest layer that matters counts.
        nearest: UnitMaps | None = None
        for path in list(reversed(paths))[:_MOST_LAYERS]:
            known = []
            for image in images:
                if (row := _maps(found, found.batch([image]), path, outputs[path], units)) is None:
                    break
                known.append(row)
            else:
                maps = UnitMaps(torch.cat(known).float().cpu().numpy(), boxes, "Grad-CAM", path)
                nearest = nearest or maps
                if maps.values.any():
                    return maps
        if nearest:
            return nearest
    raise UsageError(
        f"no layer before {layer} puts out a map or tokens on a grid that it follows from",
        "use --occlusion in place of --gradients",
    )


def _placed(target: Target, images: Sequence[ImageData]) -> list[Box]:
    """Return the part of each image that a network sees.

    Raises:
        UsageError: it is not known, since the images are not resized and cropped alone.
    """
    boxes = visible_boxes(target, images) if isinstance(target, HookedTarget) else []
    if not boxes:
        raise UsageError(
            "where a place of the network's map is in the image is not known: its preprocessing does more than "
            "resize and crop",
            "use --occlusion in place of --gradients",
        )
    return boxes


def _maps(
    found: DifferentiableLayer,
    batch: Tensor,
    path: str,
    output: LayerOutput,
    units: Sequence[int],
) -> Tensor | None:
    """Return the maps of units on an image, [1, n_units, h, w]; None where the layer has none."""
    import torch
    from captum.attr import LayerGradCam, LayerGradientXActivation

    module = found.network.get_submodule(base_layer(path))
    channels_first = output.form == "map" and has_grid(output)
    kind = LayerGradCam if channels_first else LayerGradientXActivation
    if not channels_first and output.form not in {"map-last", "tokens", "sequence"}:
        return None
    method = kind(found.units, module)
    maps = []
    for unit in units:
        try:
            values = method.attribute(batch, target=unit)
        except (RuntimeError, AssertionError) as error:
            # A layer beside the unit's, or one that puts out several tensors.
            if isinstance(error, RuntimeError) and _UNUSED not in str(error):
                raise
            return None
        if not isinstance(values, torch.Tensor):
            return None
        grid = values if channels_first else grid_of(values, output, (batch.shape[2], batch.shape[3]))
        if grid is None or grid.shape[2] * grid.shape[3] < 2:
            return None
        maps.append(grid.detach().sum(1, keepdim=True))
    return torch.cat(maps, 1)
