"""Images with the map of a unit laid over them: colour by strength, a line around where it responds."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from line_neurons.tools.editors.regions import dilated
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tools.targets.maps import Box, UnitMaps, box_in_pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

_WARM, _LINE = (255, 96, 0), (255, 255, 255)
_STRONGEST = 0.65
"""Opacity of the colour where a map has its maximum."""
_UNSEEN = 0.35
"""Brightness of what the target does not see."""
HALF = 0.5
"""Share of a map's maximum that the line is at, where it is at no value of the unit."""


@dataclass(frozen=True)
class MapImage:
    """An image with a map over it, as a PNG file; without one, ``error`` says why."""

    png: bytes
    error: str = ""


def overlay(image: bytes, maps: UnitMaps, row: int, line: float | None = None) -> MapImage:
    """Lay the map of the first unit over an image: colour by strength, and a line around where it responds.

    What the target does not see, since its preprocessing crops it away, is dark.

    Args:
        maps: of the image and maybe others.
        row: its place among them.
        line: value of the map that the line is at; None: half of the map's maximum.
    """
    try:
        opened = read_image(image)
    except ImageError as error:
        return MapImage(b"", f"cannot be decoded: {error}")
    values = maps.values[row, 0]
    if not values.max() > 0:
        return MapImage(b"", "has no place that speaks for the unit")
    written = io.BytesIO()
    at = HALF if line is None else line / float(values.max())
    _overlaid(opened, values / values.max(), maps.boxes[row], at).save(written, "PNG")
    return MapImage(written.getvalue())


def _overlaid(image: Image.Image, values: NDArray[np.float32], box: Box, line: float) -> Image.Image:
    """Return an image under a map with a maximum of 1 that covers ``box``, and a line at a value of it."""
    import numpy as np
    from PIL import Image

    width, height = image.size
    left, top, right, bottom = box_in_pixels(box, width, height)
    seen = Image.fromarray(np.clip(values, 0, 1).astype(np.float32)).resize(
        (max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR
    )
    heat = np.zeros((height, width), np.float32)
    heat[top : top + seen.height, left : left + seen.width] = np.asarray(seen)
    light = np.full((height, width), _UNSEEN, np.float32)
    light[top:bottom, left:right] = 1
    pixels = np.asarray(image, np.float32) * light[..., None]
    share = _STRONGEST * heat[..., None]
    pixels = (1 - share) * pixels + share * np.array(_WARM, np.float32)
    inside = heat >= max(line, 1e-6)
    pixels[dilated(inside, max(1, min(image.size) // 200)) & ~inside] = _LINE
    return Image.fromarray(pixels.round().astype(np.uint8))
