"""What stands behind a cut-out: a plain gradient, a texture, or part of a photograph."""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image, ImageFilter

from line_neurons.tools.image_bank.lighting import Pixels


def gradient(size: int, rng: np.random.Generator, *, studio: bool = False) -> tuple[Pixels, str]:
    """A plain backdrop that darkens from a bright spot; float32 [size, size, 3].

    Args:
        size: side in pixels.
        rng: source of the variation.
        studio: greys and whites, as a paper roll in a studio, instead of any soft colour.
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
    """A cloudy surface like plaster or cloth, from noise at several scales; float32 [size, size, 3]."""
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
    """A square part of a photograph as a backdrop; float32 [size, size, 3].

    Args:
        image: RGB photograph.
        size: side in pixels.
        rng: source of the variation.
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
