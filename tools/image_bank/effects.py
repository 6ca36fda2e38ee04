"""Light, weather, backdrops and colours: float32 [h, w, 3], sRGB in [0, 1]."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.float32]
Operation = tuple[Pixels, str]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)

_MOSTLY_COLOURED = 0.5


def light(pixels: Pixels, lighting: str, rng: np.random.Generator) -> Operation:
    """Apply the prompt's ``lighting``; an unknown one changes the exposure only.

    Returns:
        The image in [0, 1], and a description of what was done.
    """
    words = lighting.casefold()
    for key, operation in _LIGHTINGS.items():
        if key in words:
            lit, description = operation(pixels, rng)
            return np.clip(lit, 0, 1), description
    exposure = _between(rng, 0.92, 1.08)
    note = f"; lighting {lighting!r} is not known" if words else ""
    return np.clip(pixels * np.float32(exposure), 0, 1), f"neutral light: exposure {exposure:.2f}{note}"


def _cinematic(pixels: Pixels, rng: np.random.Generator) -> Operation:
    strength = _between(rng, 0.35, 0.7)
    exposure = _between(rng, 0.86, 1.0)
    curved = _contrast(np.clip(pixels * np.float32(exposure), 0, 1), strength)
    luma = (curved @ LUMA)[..., None]
    teal = np.array([-0.035, 0.012, 0.045], np.float32)
    orange = np.array([0.05, 0.012, -0.045], np.float32)
    graded = curved + (1 - luma) * teal + luma * orange
    edge = _between(rng, 0.2, 0.4)
    return graded * _vignette(pixels.shape, edge), (
        f"cinematic light: exposure {exposure:.2f}, contrast +{strength:.2f}, teal and orange, vignette {edge:.2f}"
    )


def _sunlight(pixels: Pixels, rng: np.random.Generator) -> Operation:
    exposure = _between(rng, 1.02, 1.15)
    warmth = _between(rng, 0.02, 0.06)
    gain = np.array([1 + warmth, 1 + warmth / 4, 1 - warmth], np.float32) * np.float32(exposure)
    slope = _slope(pixels.shape, rng, 0.12)
    return _contrast(np.clip(pixels * gain * slope, 0, 1), 0.15), (
        f"sunlight: exposure {exposure:.2f}, warmth {warmth:.2f}, light from one side"
    )


def _studio(pixels: Pixels, rng: np.random.Generator) -> Operation:
    exposure = _between(rng, 1.02, 1.1)
    lifted = 0.03 + 0.97 * pixels * np.float32(exposure)
    return lifted, f"studio light: exposure {exposure:.2f}, soft shadows"


_LIGHTINGS: dict[str, Callable[[Pixels, np.random.Generator], Operation]] = {
    "cinematic": _cinematic,
    "sun": _sunlight,
    "studio": _studio,
}


def night(pixels: Pixels, rng: np.random.Generator) -> Operation:
    """Relight as moonlight: dark, bluish, little colour."""
    # An image that is dark already is darkened less, so that something is still seen.
    level = float((pixels @ LUMA).mean())
    exposure = _between(rng, 0.9, 1.1) * min(1.0, max(0.36, 0.19 / max(level, 1e-3)))
    grey = (pixels @ LUMA)[..., None]
    muted = grey + 0.55 * (pixels - grey)
    tint = np.array([0.82, 0.95, 1.25], np.float32)
    return np.clip(muted**1.1 * tint * np.float32(exposure), 0, 1), f"night: relit, exposure {exposure:.2f}, blue"


def fog(pixels: Pixels, rng: np.random.Generator) -> Operation:
    """Lay haze over the image, thicker towards the top, where the distance is."""
    density = _between(rng, 0.45, 0.7)
    rows = np.linspace(density, density * 0.6, pixels.shape[0], dtype=np.float32)[:, None, None]
    haze = np.array([0.8, 0.82, 0.84], np.float32)
    return pixels * (1 - rows) + haze * rows, f"fog: haze {density:.2f}"


def sunset(pixels: Pixels, rng: np.random.Generator) -> Operation:
    """Grade towards low warm light."""
    warmth = _between(rng, 0.12, 0.2)
    gain = np.array([1 + warmth, 1 - warmth / 4, 1 - 1.6 * warmth], np.float32)
    return np.clip(pixels * gain * np.float32(0.9), 0, 1), f"sunset: warm light {warmth:.2f}"


def snow_ground(pixels: Pixels, rng: np.random.Generator) -> Operation:
    """Whiten a landscape, the lower and lighter parts most."""
    amount = _between(rng, 0.85, 0.97)
    luma = (pixels @ LUMA)[..., None]
    rows = np.linspace(0.55, 1.0, pixels.shape[0], dtype=np.float32)[:, None, None]
    snow = 0.62 + 0.36 * luma + np.array([0.0, 0.01, 0.03], np.float32)
    cover = amount * rows * np.clip(0.6 + luma, 0, 1)
    return np.clip(pixels * (1 - cover) + snow * cover, 0, 1), f"snow: ground whitened {amount:.2f}"


def snowfall(pixels: Pixels, rng: np.random.Generator) -> Operation:
    """Add snowflakes in front of the image."""
    height, width = pixels.shape[:2]
    count = int(rng.integers(90, 180) * height * width / 256**2) + 1
    flakes = np.zeros((height, width), np.float32)
    flakes[rng.integers(0, height, count), rng.integers(0, width, count)] = 1.0
    near = _blurred(flakes, 1.1) * 6.0
    cover = np.clip(near, 0, 0.9)[..., None]
    return pixels * (1 - cover) + cover, f"snow: {count} falling flakes"


def rainfall(pixels: Pixels, rng: np.random.Generator) -> Operation:
    """Dull the image and add falling streaks."""
    height, width = pixels.shape[:2]
    count = int(rng.integers(120, 220) * height * width / 256**2) + 1
    length = max(4, height // 14)
    streaks = np.zeros((height, width), np.float32)
    rows, columns = rng.integers(0, height, count), rng.integers(0, width, count)
    for step in range(length):
        streaks[(rows + step) % height, (columns + step // 5) % width] = 1.0
    cover = 0.3 * _blurred(streaks, 0.5)[..., None]
    grey = (pixels @ LUMA)[..., None]
    dull = (grey + 0.7 * (pixels - grey)) * np.float32(0.82)
    return dull * (1 - cover) + 0.85 * cover, f"rain: {count} streaks, dull light"


def jitter(pixels: Pixels, rng: np.random.Generator) -> Operation:
    """Vary exposure and white balance a little, and add the grain of a sensor."""
    exposure = _between(rng, 0.93, 1.07)
    balance = rng.uniform(0.975, 1.025, 3).astype(np.float32)
    grain = rng.standard_normal(pixels.shape[:2], dtype=np.float32)[..., None] * np.float32(0.01)
    result = np.clip(pixels * (balance * np.float32(exposure)) + grain, 0, 1)
    return result, f"exposure {exposure:.2f}, white balance {'/'.join(f'{b:.2f}' for b in balance)}, grain"


def shade(pixels: Pixels, rng: np.random.Generator) -> Operation:
    """Light a subject from one side."""
    return np.clip(pixels * _slope(pixels.shape, rng, 0.14), 0, 1), "subject lit from one side"


def _contrast(pixels: Pixels, strength: float) -> Pixels:
    curve = pixels * pixels * (3 - 2 * pixels)
    return pixels + np.float32(strength) * (curve - pixels)


def _vignette(shape: tuple[int, ...], edge: float) -> Pixels:
    rows = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    falloff: Pixels = np.clip((rows**2 + columns**2) / 2, 0, 1).astype(np.float32)
    return (1 - np.float32(edge) * falloff)[..., None]


def _slope(shape: tuple[int, ...], rng: np.random.Generator, depth: float) -> Pixels:
    angle = rng.uniform(0, 2 * np.pi)
    rows = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    columns = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :] * np.float32(np.cos(angle))
    return (1 + np.float32(depth) * (rows + columns) / np.float32(1.4))[..., None]


def _blurred(mask: Pixels, radius: float) -> Pixels:
    image = Image.fromarray((np.clip(mask, 0, 1) * 255).astype(np.uint8), "L")
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / np.float32(255)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def gradient(size: int, rng: np.random.Generator, *, studio: bool = False) -> tuple[Pixels, str]:
    """Make a plain backdrop that darkens from a bright spot; float32 [size, size, 3].

    ``studio`` gives greys and whites, as a paper roll in a studio, instead of any soft colour.
    """
    hue, saturation = float(rng.uniform()), float(rng.uniform(0, 0.06 if studio else 0.4))
    value = float(rng.uniform(0.62, 0.97) if studio else rng.uniform(0.35, 0.92))
    colour = np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32)
    centre = rng.uniform(0.25, 0.75, 2)
    axis = np.linspace(0, 1, size, dtype=np.float32)
    distance = np.hypot(axis[:, None] - np.float32(centre[1]), axis[None, :] - np.float32(centre[0]))
    fall = float(rng.uniform(0.15, 0.4))
    pixels = colour * (1 - np.float32(fall) * distance)[..., None]
    name = "studio gradient" if studio else "gradient"
    return pixels.astype(np.float32), f"{name} {_hex(colour)}"


def texture(size: int, rng: np.random.Generator) -> tuple[Pixels, str]:
    """Make a cloudy surface from noise at several scales; float32 [size, size, 3]."""
    field = np.zeros((size, size), np.float32)
    for cells, weight in ((3, 0.5), (8, 0.25), (24, 0.15), (80, 0.1)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8), "L")
        smooth = noise.resize((size, size), Image.Resampling.BICUBIC)
        field += np.float32(weight / 255) * np.asarray(smooth, np.float32)
    hue, saturation = float(rng.uniform(0.02, 0.2)), float(rng.uniform(0.02, 0.3))
    value = float(rng.uniform(0.4, 0.9))
    colour = np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32)
    depth = float(rng.uniform(0.25, 0.6))
    pixels = colour * (1 + np.float32(depth) * (field - field.mean()))[..., None]
    return np.clip(pixels, 0, 1).astype(np.float32), f"texture {_hex(colour)}"


def scene(
    image: Image.Image,
    size: int,
    rng: np.random.Generator,
    *,
    zoom: tuple[float, float] = (0.6, 1.0),
    blur: tuple[float, float] = (0.0, 0.0),
    ground: bool = False,
) -> tuple[Pixels, str]:
    """Crop a square part of a photograph as a backdrop; float32 [size, size, 3].

    Args:
        size: side in pixels.
        zoom: range of the part's side as a share of the photograph's shorter side.
        blur: range of the defocus, the standard deviation in pixels at 256 px.
        ground: take the lowest part, where the ground is.
    """
    width, height = image.size
    side = max(2.0, min(width, height) * float(rng.uniform(*zoom)))
    left = (width - side) * float(rng.uniform())
    top = (height - side) * (1.0 if ground else float(rng.uniform(0.3, 1.0)))
    flipped = bool(rng.integers(2))
    part = image.resize(
        (size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side), reducing_gap=2.0
    )
    if flipped:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    defocus = float(rng.uniform(*blur))
    if defocus > 0.05:
        part = part.filter(ImageFilter.GaussianBlur(defocus * size / 256))
    pixels = np.asarray(part, np.float32) / np.float32(255)
    place = "ground part" if ground else "part"
    text = f"{place} of {side / min(width, height):.2f}, defocus {defocus:.1f}{', mirrored' if flipped else ''}"
    return pixels, text


def _hex(colour: Pixels) -> str:
    return "#" + "".join(f"{round(255 * float(channel)):02x}" for channel in np.clip(colour, 0, 1))


@dataclass(frozen=True)
class _Paint:
    """Target of a recolouring: colour at full light, lightness (offset, slope)."""

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


def recolour(cutout: Image.Image, colour: str, *, whole: bool | None = None) -> tuple[Image.Image, str]:
    """Recolour an RGBA cut-out to ``colour``, a key of ``PAINTS``, and describe what was done.

    The order of light and dark is kept; white and black stay reachable, so that shading, highlights and texture
    survive. ``whole`` paints grey parts too; None: where most of the image is grey or brown.

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
    weight = _colourfulness(pixels)
    # A painted thing keeps its grey parts (the tyres of a car); a grey or brown thing is painted whole.
    whole = is_plain(pixels, np.asarray(alpha, np.float32)) if whole is None else whole
    mask = np.ones_like(weight) if whole else weight
    painted = pixels + mask[..., None] * (painted - pixels)
    result = Image.fromarray((np.clip(painted, 0, 1) * 255).astype(np.uint8), "RGB").convert("RGBA")
    result.putalpha(alpha)
    part = "all of it" if whole else "its coloured parts"
    return result, f"recoloured {colour}: {part}, shading kept"


def is_plain(pixels: Pixels, visible: Pixels) -> bool:
    """Tell whether less than half of what is visible is coloured: pixels [..., 3], their weights [...]."""
    return float((_colourfulness(pixels) * visible).sum()) < _MOSTLY_COLOURED * float(visible.sum())


def _colourfulness(pixels: Pixels) -> Pixels:
    chroma = pixels.max(-1) - pixels.min(-1)
    weight: Pixels = np.clip((chroma - 0.06) / 0.14, 0, 1)
    return weight
