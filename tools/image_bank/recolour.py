"""Giving a cut-out another colour while its shading stays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from line_neurons.tools.image_bank.lighting import LUMA, Pixels

_MOSTLY_COLOURED = 0.5


@dataclass(frozen=True)
class _Paint:
    """Target of a recolouring: the colour at full light, and how lightness is mapped (offset, slope)."""

    rgb: tuple[float, float, float]
    lightness: tuple[float, float] = (0.0, 1.0)


PAINTS: dict[str, _Paint] = {
    "red": _Paint((0.86, 0.10, 0.09), (0.02, 0.9)),
    "orange": _Paint((0.95, 0.50, 0.06), (0.12, 0.85)),
    "yellow": _Paint((0.97, 0.86, 0.12), (0.3, 0.68)),
    "green": _Paint((0.16, 0.66, 0.16), (0.05, 0.85)),
    "cyan": _Paint((0.10, 0.76, 0.80), (0.12, 0.85)),
    "blue": _Paint((0.12, 0.28, 0.85), (0.02, 0.8)),
    "purple": _Paint((0.52, 0.18, 0.74), (0.03, 0.8)),
    "pink": _Paint((0.97, 0.52, 0.72), (0.25, 0.75)),
    "magenta": _Paint((0.88, 0.12, 0.62), (0.05, 0.85)),
    "brown": _Paint((0.48, 0.29, 0.14), (0.03, 0.7)),
    "black": _Paint((0.5, 0.5, 0.5), (0.02, 0.3)),
    "white": _Paint((0.5, 0.5, 0.5), (0.58, 0.42)),
    "grey": _Paint((0.5, 0.5, 0.5), (0.1, 0.75)),
}


def recolour(cutout: Image.Image, colour: str) -> tuple[Image.Image, str]:
    """Paint a cut-out.

    The order of light and dark is kept; white and black stay reachable, so that shading, highlights and
    texture survive.

    Args:
        cutout: RGBA image.
        colour: a key of ``PAINTS``.

    Returns:
        The painted RGBA image, and a description.

    Raises:
        KeyError: the colour is not in the table.
    """
    paint = PAINTS[colour]
    alpha = cutout.getchannel("A")
    pixels: Pixels = np.asarray(cutout.convert("RGB"), np.float32) / np.float32(255)
    luma = pixels @ LUMA
    offset, slope = paint.lightness
    value = np.clip(offset + slope * luma, 0, 1)[..., None]
    target = np.array(paint.rgb, np.float32)
    middle = np.float32(target @ LUMA)
    # From black over the paint at its own lightness to white: a tint and shade ramp.
    darker = target * (value / middle)
    lighter = target + (1 - target) * ((value - middle) / (1 - middle))
    painted = np.where(value <= middle, darker, lighter)
    chroma = pixels.max(-1) - pixels.min(-1)
    weight = np.clip((chroma - 0.06) / 0.14, 0, 1)
    visible = np.asarray(alpha, np.float32)
    # A painted thing keeps its grey parts (the tyres of a car); a grey or brown thing is painted whole.
    whole = float((weight * visible).sum()) < _MOSTLY_COLOURED * float(visible.sum())
    mask = np.ones_like(weight) if whole else weight
    painted = pixels + mask[..., None] * (painted - pixels)
    result = Image.fromarray((np.clip(painted, 0, 1) * 255).astype(np.uint8), "RGB").convert("RGBA")
    result.putalpha(alpha)
    part = "all of it" if whole else "its coloured parts"
    return result, f"recoloured {colour}: {part}, shading kept"
