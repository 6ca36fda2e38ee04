"""Maps of units: where in an image a unit responds, by forward passes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, Literal

from line_neurons.agent.errors import UnmeasurableError
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.layers.outputs import LayerOutput, patch_places

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from line_neurons.agent.ports import ImageData, Target

    Grid = NDArray[np.float32]

MapSource = Literal["map", "tokens", "map before the mean", "class activation map", "Grad-CAM", "occlusion"]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom of what a target sees, as shares of the image's sides in [0, 1]."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
_TOLERANCE = 1e-4
"""Largest difference of a mean from the activation, absolute and relative; as in Salient ImageNet's maps."""
_WINDOWS = 7
"""Windows of an occlusion on each side; each covers two sevenths of it."""
_BLUR = 0.08
"""Sigma of the blurred image that fills a window, as a share of the image's smaller side."""
_CROOKED = 0.02
"""Largest distance from a straight line at which places of a prepared image are those of a crop."""


@dataclass(frozen=True)
class UnitMaps:
    """Where units respond in images.

    Args:
        values: float32 [n_images, n_units, h, w]; the unit's scale, so negative values speak against it.
        boxes: for each image, the part that the map covers.
        source: what the values are.
    """

    values: Grid
    boxes: tuple[Box, ...]
    source: MapSource
    layer: str


def box_in_pixels(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a box in an image of that size, in whole pixels."""
    left, top, right, bottom = box
    return round(left * width), round(top * height), round(right * width), round(bottom * height)


def unit_maps(
    target: Target, images: Sequence[ImageData], layer: str, units: Sequence[int], *, occlusion: bool = False
) -> UnitMaps:
    """Compute the maps of units on images.

    A map layer has them itself, and so have tokens that lie on a grid. A vector that is the mean of a map has that
    map (the neural activation map of Salient ImageNet), and a linear layer on such a mean the weighted sum of maps
    (class activation map: its mean plus the bias is the activation). Both are checked on the images. Any other
    unit is measured with a part of the image blurred, for 7 x 7 parts: by how much does the activation fall?

    Args:
        target: the vision model; only occlusion is possible where it is no network of torch.
        images: encoded images, or pixels, uint8 [H, W, 3].
        occlusion: measure with parts blurred, whatever the layer is.

    Raises:
        UsageError: there is no such layer.
        UnmeasurableError: an image cannot be decoded.
        BackendError: the forward pass failed.
    """
    if not occlusion and isinstance(target, HookedTarget):
        boxes = visible_boxes(target, images)
        found = _forward_maps(target, images, layer, units) if boxes else None
        if found is not None:
            return UnitMaps(found[0], tuple(boxes), *found[1:])
    return UnitMaps(_occluded(target, images, layer, units), (WHOLE,) * len(images), "occlusion", layer)


def visible_boxes(target: HookedTarget, images: Sequence[ImageData]) -> list[Box]:
    """Return the part of each image that a network sees; empty where it is not resized and cropped alone.

    Found by what the preprocessing makes of images whose brightness is the place.
    """
    sizes = [_decoded(image, number).size for number, image in enumerate(images)]
    known = {size: _visible_box(target.prepare, *size) for size in dict.fromkeys(sizes)}
    boxes = [known[size] for size in sizes]
    return [box for box in boxes if box] if all(boxes) else []


def _visible_box(prepare: Callable[[ImageData], Tensor], width: int, height: int) -> Box | None:
    import numpy as np

    across = np.broadcast_to(_ramp(width)[None, :, None], (height, width, 3))
    down = np.broadcast_to(_ramp(height)[:, None, None], (height, width, 3))
    dark, bright, *ramps = (
        prepare(pixels.round().astype(np.uint8)).double().numpy()[0]
        for pixels in (np.zeros_like(across), np.full_like(across, 255), across, down)
    )
    span = np.where(np.abs(bright - dark) > 1e-6, bright - dark, np.nan)
    ends: list[tuple[float, float]] = []
    for axis, ramp in enumerate(ramps):
        places = (ramp - dark) / span
        along = places if axis == 0 else places.T
        middles = (np.arange(along.shape[1]) + 0.5) / along.shape[1]
        slope, start = np.polyfit(middles, along.mean(axis=0), 1)
        # Not a number where a place is the same for black and white.
        if not np.abs(along - (start + slope * middles)).max() <= _CROOKED or slope <= 0:
            return None
        ends.append((float(np.clip(start, 0, 1)), float(np.clip(start + slope, 0, 1))))
    (left, right), (top, bottom) = ends
    return left, top, right, bottom


def _ramp(side: int) -> NDArray[np.float64]:
    """Return the middle of each pixel as a share of the side, times 255."""
    import numpy as np

    return (np.arange(side) + 0.5) / side * 255


def _forward_maps(
    target: HookedTarget, images: Sequence[ImageData], layer: str, units: Sequence[int]
) -> tuple[Grid, MapSource, str] | None:
    """Return maps, what they are and the layer that they come from; None where the layer has none."""
    import torch

    outputs = target.outputs()
    own = target.output(layer)
    places = list(units)
    height, width = target.prepare(images[0]).shape[1:]
    if own.form != "vector":
        grid = grid_of(target.raw_outputs(images, [layer])[layer], own, (height, width))
        if grid is None:
            return None
        source: MapSource = "tokens" if own.form in {"tokens", "sequence"} else "map"
        return grid[:, places].contiguous().numpy(), source, layer
    linear = linear_layer(target, layer)
    widths = {own.info.units} | ({linear[0].shape[1]} if linear else set())
    before = list(outputs)[: list(outputs).index(layer)]
    nearest = [path for path in reversed(before) if has_grid(outputs[path]) and outputs[path].info.units in widths]
    if not nearest:
        return None
    raw = target.raw_outputs(images, [*nearest, layer])
    values = raw[layer]
    for path in nearest:
        grid = grid_of(raw[path], outputs[path], (height, width))
        if grid is None:
            continue
        mean = grid.mean((2, 3))
        if mean.shape == values.shape and _equal(mean, values):
            return grid[:, places].contiguous().numpy(), "map before the mean", path
        if linear and mean.shape[1] == linear[0].shape[1] and _equal(mean @ linear[0].T + linear[1], values):
            weighted = torch.einsum("uk,nkhw->nuhw", linear[0][places], grid)
            return weighted.numpy(), "class activation map", path
    return None


def linear_layer(target: HookedTarget, layer: str) -> tuple[Tensor, Tensor] | None:
    """Return weights [n_units, n_inputs] and biases [n_units] of a linear layer; None for another one."""
    import torch

    module = target.module(layer)
    if not isinstance(module, torch.nn.Linear):
        return None
    weight = module.weight.float().cpu()
    return weight, torch.zeros(len(weight)) if module.bias is None else module.bias.float().cpu()


def has_grid(output: LayerOutput) -> bool:
    """Return whether a layer puts out a map."""
    return output.form in {"map", "map-last"} and len(output.info.shape) == 3


def _equal(one: Tensor, other: Tensor) -> bool:
    import torch

    return torch.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE)


def grid_of(raw: Tensor, output: LayerOutput, sides: tuple[int, int]) -> Tensor | None:
    """Return an output as [n, units, h, w]; None where it lies on no grid of several places."""
    grid: Tensor | None = None
    if output.form == "plane":
        grid = raw.unsqueeze(1)
    elif output.form == "map" and raw.ndim == 4:
        grid = raw
    elif output.form == "map-last" and raw.ndim == 4:
        grid = raw.permute(0, 3, 1, 2)
    elif output.form in {"tokens", "sequence"} and not output.queries and output.no_patches is not None:
        tokens = raw.transpose(0, 1) if output.form == "sequence" else raw
        patches = tokens[:, patch_places(output)]
        height = _rows(patches.shape[1], sides)
        if height:
            grid = patches.transpose(1, 2).reshape(len(patches), -1, height, patches.shape[1] // height)
    return grid if grid is not None and grid.shape[2] * grid.shape[3] > 1 else None


def _rows(count: int, sides: tuple[int, int]) -> int:
    """Return the rows of a grid of ``count`` places with the proportions of the input; 0 where there is none."""
    height, width = sides
    rows = isqrt(count * height // width)
    return rows if rows and count % rows == 0 and rows * width == (count // rows) * height else 0


def _occluded(target: Target, images: Sequence[ImageData], layer: str, units: Sequence[int]) -> Grid:
    """Return by how much the activation of units falls where a part is blurred: float32 [n, units, 7, 7]."""
    import numpy as np

    found = np.empty((len(images), len(units), _WINDOWS, _WINDOWS), np.float32)
    for number, image in enumerate(images):
        whole, *parts = target.activate(list(_blurred(_decoded(image, number))), [layer])[layer][:, list(units)]
        found[number] = (whole - np.stack(parts)).T.reshape(len(units), _WINDOWS, _WINDOWS)
    return found


def _blurred(image: Image.Image) -> Iterable[NDArray[np.uint8]]:
    """Yield the image, then the image with each of its parts blurred, row by row."""
    import numpy as np
    from PIL import ImageFilter

    pixels = np.asarray(image)
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(_BLUR * min(image.size))))
    yield pixels
    height, width = pixels.shape[:2]
    for row in range(_WINDOWS):
        for column in range(_WINDOWS):
            part = pixels.copy()
            rows = slice(*_window(row, height))
            columns = slice(*_window(column, width))
            part[rows, columns] = blurred[rows, columns]
            yield part


def _window(place: int, side: int) -> tuple[int, int]:
    return round(max(0, place - 0.5) / _WINDOWS * side), round(min(_WINDOWS, place + 1.5) / _WINDOWS * side)


def _decoded(image: ImageData, number: int) -> Image.Image:
    try:
        return read_image(image)
    except ImageError as error:
        raise UnmeasurableError(f"it cannot be decoded: {error}", error.remedy, index=number) from error
