"""Compose images: cut-outs on a backdrop, and views of whole photographs.

Pure functions of images and a random generator; camera angles are scale, crop, squash and perspective.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from line_neurons.tools.image_bank.effects import Pixels, shade
from line_neurons.tools.images.png import encode_png


@dataclass(frozen=True)
class Framing:
    """How a camera angle is imitated.

    Args:
        extent: range of a cut-out's longer side as a share of the frame.
        bottom: range of the height of its lower edge (1 is the frame's lower edge), None to centre it.
        squash: range of its height relative to its width.
        keystone: range of the share that its top is narrower than its foot; negative widens it.
        tilt: largest rotation in degrees, either way.
        crop: range of the visible part of a photograph, as a share of its shorter side.
        zoom: the same for a background.
        defocus: range of a background's blur, pixels at 256 px.
        ground: whether the backdrop is the ground only.
    """

    name: str
    extent: tuple[float, float]
    bottom: tuple[float, float] | None
    squash: tuple[float, float] = (0.97, 1.03)
    keystone: tuple[float, float] = (0.0, 0.0)
    tilt: float = 5.0
    crop: tuple[float, float] = (0.75, 0.95)
    zoom: tuple[float, float] = (0.6, 1.0)
    defocus: tuple[float, float] = (0.8, 3.0)
    ground: bool = False


NEUTRAL = Framing("neutral", (0.62, 0.82), (0.82, 0.92))
_FRAMINGS: dict[str, Framing] = {
    "close-up": Framing("close-up", (1.0, 1.25), None, crop=(0.6, 0.75), zoom=(0.35, 0.6), defocus=(3.0, 7.0)),
    "wide": Framing(
        "wide", (0.48, 0.62), (0.74, 0.86), tilt=3.0, crop=(0.95, 1.0), zoom=(0.85, 1.0), defocus=(0.3, 1.6)
    ),
    "aerial": Framing(
        "aerial",
        (0.58, 0.76),
        None,
        squash=(0.84, 0.93),
        keystone=(-0.1, -0.04),
        tilt=12.0,
        crop=(0.85, 1.0),
        zoom=(0.5, 0.9),
        defocus=(0.8, 2.5),
        ground=True,
    ),
    "low": Framing(
        "low",
        (0.78, 0.95),
        (0.9, 0.98),
        squash=(1.03, 1.1),
        keystone=(0.06, 0.14),
        tilt=3.0,
        crop=(0.75, 0.95),
        zoom=(0.55, 0.85),
        defocus=(1.0, 3.5),
    ),
}


def framing(angle: str) -> Framing:
    """Return the framing of a prompt's camera angle; neutral where the angle is not known."""
    words = angle.casefold().replace("close up", "close-up")
    return next((known for key, known in _FRAMINGS.items() if key in words), NEUTRAL)


@dataclass(frozen=True)
class Cutout:
    """A cut-out to place.

    Args:
        image: RGBA, trimmed to the subject.
        scale: size relative to the framing's extent.
        centre: horizontal centre as a share of the frame.
        name: its name in the description of operations.
        hidden: it is not shown; all else is as if it were.
    """

    image: Image.Image
    scale: float = 1.0
    centre: float = 0.5
    name: str = "subject"
    hidden: bool = False


def place(
    backdrop: Pixels,
    cutouts: Sequence[Cutout],
    view: Framing,
    rng: np.random.Generator,
    *,
    grounded: bool,
    dim: Pixels | None = None,
) -> tuple[Pixels, list[str]]:
    """Place cut-outs on a backdrop, the last in front, each with a shadow.

    Args:
        backdrop: float32 [s, s, 3].
        grounded: whether subjects stand on something and so touch their shadow.
        dim: gain float32 [3] on the subjects, for the light of the place; None for no change.

    Returns:
        float32 [s, s, 3] in [0, 1] and the operations, as text.
    """
    size = backdrop.shape[0]
    result = whole = backdrop
    complete = not any(cutout.hidden for cutout in cutouts)
    operations: list[str] = []
    for cutout in cutouts:
        warped, operation = _warp(cutout, view, size, rng)
        x, y = _position(warped, cutout, view, size, rng)
        canvas = Image.new("RGBA", (size, size))
        canvas.paste(warped, (x, y))
        layer = np.asarray(canvas, np.float32) / np.float32(255)
        alpha = _feather(canvas.getchannel("A"))
        shadow, strength = _shadow(warped.getchannel("A"), (x, y), size, view, rng, grounded=grounded)
        gain = 1 - np.float32(strength) * shadow[..., None]
        shaded = whole * gain
        colour, shading = shade(layer[..., :3], rng)
        if dim is not None:
            colour = np.clip(colour * dim, 0, 1)
        # A trace of the surroundings' colour on the thing, as bounced light gives; hidden things count.
        bounce = shaded.mean((0, 1))
        colour = colour * (np.float32(0.94) + np.float32(0.12) * bounce / max(float(bounce.mean()), 0.05) / 2)
        colour = np.clip(colour, 0, 1)
        whole = shaded * (1 - alpha[..., None]) + colour * alpha[..., None]
        if cutout.hidden:
            operations.append(f"{cutout.name}: left out")
            continue
        result = whole if complete else result * gain * (1 - alpha[..., None]) + colour * alpha[..., None]
        operations.append(f"{cutout.name}: {operation}, {shading}, shadow {strength:.2f}")
    return np.clip(result, 0, 1), operations


def view_photo(image: Image.Image, size: int, view: Framing, rng: np.random.Generator) -> tuple[Pixels, list[str]]:
    """Crop a square view of an RGB photograph around its centre.

    An image with an even border is first widened to a square in the border's colour, so that a long subject on a
    plain ground is not cut.

    Returns:
        float32 [size, size, 3] in [0, 1] and the operations, as text.
    """
    operations: list[str] = []
    border = _even_border(image)
    if border is not None and image.width != image.height:
        side = max(image.size)
        square = Image.new("RGB", (side, side), border)
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
        operations.append("widened to a square in the colour of its even border")
    width, height = image.size
    share = float(rng.uniform(*view.crop))
    side_px = max(2.0, min(width, height) * share)
    tilt = float(rng.uniform(-1, 1)) * min(view.tilt, 4.0)
    # A turned square needs a larger one around it; what does not fit is not turned.
    turned = side_px * (abs(np.cos(np.radians(tilt))) + abs(np.sin(np.radians(tilt))))
    if turned > min(width, height):
        tilt, turned = 0.0, side_px
    spread = rng.uniform(-0.5, 0.5, 2)
    slack = np.array([width - turned, height - turned])
    reach = np.minimum(slack, 0.25 * side_px)
    centre = np.array([width, height]) / 2 + spread * reach
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * side_px / 2
    pinch = float(rng.uniform(*view.keystone)) / 2
    if view.keystone != (0.0, 0.0) and turned * (1 + abs(pinch)) <= min(width, height):
        corners = corners * np.array([[1 + pinch, 1], [1 + pinch, 1], [1 - pinch, 1], [1 - pinch, 1]])
    else:
        pinch = 0.0
    angle = np.radians(tilt)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    quad = corners @ turn.T + centre
    flipped = bool(rng.integers(2))
    if flipped:
        quad = quad[[1, 0, 3, 2]]
    source, scale = _reduced(image, side_px, size)
    pixels = source.transform(
        (size, size),
        Image.Transform.PERSPECTIVE,
        _perspective(quad * scale, size, size),
        Image.Resampling.BICUBIC,
    )
    operations.append(
        f"photograph: {view.name} crop {share:.2f}, turned {tilt:+.1f} degrees, perspective {pinch:+.2f}"
        f"{', mirrored' if flipped else ''}"
    )
    return np.asarray(pixels, np.float32) / np.float32(255), operations


def encode(pixels: Pixels) -> bytes:
    """Encode float32 [h, w, 3] in [0, 1] as a PNG file."""
    return encode_png((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))


def trim(image: Image.Image, longest: int) -> Image.Image:
    """Cut an RGBA image to what is visible and limit its longer side to ``longest`` pixels.

    Raises:
        ValueError: nothing is visible.
    """
    box = image.getchannel("A").point(lambda value: 255 if value > 8 else 0).getbbox()
    if box is None:
        raise ValueError("the image is fully transparent")
    visible = image.crop(box)
    visible.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return visible


def _warp(cutout: Cutout, view: Framing, size: int, rng: np.random.Generator) -> tuple[Image.Image, str]:
    image = cutout.image
    extent = float(rng.uniform(*view.extent)) * cutout.scale
    squash = float(rng.uniform(*view.squash))
    keystone = float(rng.uniform(*view.keystone))
    tilt = float(rng.uniform(-view.tilt, view.tilt))
    flipped = bool(rng.integers(2))
    factor = extent * size / max(image.width, image.height * squash)
    width = max(2, round(image.width * factor))
    height = max(2, round(image.height * factor * squash))
    scaled = image.resize((width, height), Image.Resampling.LANCZOS)
    if flipped:
        scaled = scaled.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if abs(keystone) > 0.01:
        # The source's corners for each corner of the result: a wider source edge looks narrower.
        top, foot = max(keystone, 0) * width / 2, max(-keystone, 0) * width / 2
        quad = np.array([[-top, 0], [width + top, 0], [width + foot, height], [-foot, height]])
        scaled = scaled.transform(
            (width, height),
            Image.Transform.PERSPECTIVE,
            _perspective(quad, width, height),
            Image.Resampling.BICUBIC,
        )
    turned = scaled.rotate(tilt, Image.Resampling.BICUBIC, expand=True)
    text = (
        f"{view.name} {extent:.2f} of the frame, height x{squash:.2f}, perspective {keystone:+.2f}, "
        f"turned {tilt:+.1f} degrees{', mirrored' if flipped else ''}"
    )
    return turned, text


def _position(
    warped: Image.Image, cutout: Cutout, view: Framing, size: int, rng: np.random.Generator
) -> tuple[int, int]:
    drift = float(rng.uniform(-0.06, 0.06))
    x = (cutout.centre + drift) * size - warped.width / 2
    if view.bottom is None or warped.height > 0.9 * size:
        y = (0.5 + float(rng.uniform(-0.05, 0.05))) * size - warped.height / 2
    else:
        y = float(rng.uniform(*view.bottom)) * size - warped.height
        # A flat thing on the lower edge looks lost: it may rise towards the middle.
        y = min(y, 0.62 * size - warped.height / 2)
    return round(x), round(y)


def _feather(alpha: Image.Image) -> Pixels:
    soft = np.asarray(alpha.filter(ImageFilter.GaussianBlur(0.7)), np.float32) / np.float32(255)
    feathered: Pixels = np.clip((soft - np.float32(0.12)) / np.float32(0.84), 0, 1)
    return feathered


def _shadow(
    alpha: Image.Image,
    corner: tuple[int, int],
    size: int,
    view: Framing,
    rng: np.random.Generator,
    *,
    grounded: bool,
) -> tuple[Pixels, float]:
    x, y = corner
    canvas = Image.new("L", (size, size))
    lean = float(rng.uniform(-0.12, 0.12))
    strength = float(rng.uniform(0.25, 0.5))
    if not grounded:
        return np.zeros((size, size), np.float32), 0.0
    if view.ground or view.bottom is None:
        offset = round(0.03 * size)
        canvas.paste(alpha, (x + round(lean * size / 3), y + offset))
        softness = 0.025
    else:
        height = max(2, alpha.height // 6)
        flat = alpha.resize((alpha.width, height), Image.Resampling.BILINEAR)
        canvas.paste(flat, (x + round(lean * alpha.width), y + alpha.height - round(0.62 * height)))
        softness = 0.02
    soft = canvas.filter(ImageFilter.GaussianBlur(softness * size))
    return np.asarray(soft, np.float32) / np.float32(255), strength


def _even_border(image: Image.Image) -> tuple[int, int, int] | None:
    """Return the border's colour if the border is even, else None."""
    small = np.asarray(image.resize((48, 48), Image.Resampling.BILINEAR), np.float32)
    frame = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    if float(frame.std(0).max()) > 9.0:
        return None
    red, green, blue = (round(float(channel)) for channel in np.median(frame, 0))
    return red, green, blue


def _reduced(image: Image.Image, side: float, size: int) -> tuple[Image.Image, float]:
    """Reduce the image to about the scale of the result, so that resampling does not alias."""
    if side <= 1.3 * size:
        return image, 1.0
    scale = 1.1 * size / side
    target = (max(2, round(image.width * scale)), max(2, round(image.height * scale)))
    return image.resize(target, Image.Resampling.BILINEAR, reducing_gap=2.0), scale


def _perspective(quad: np.ndarray, width: int, height: int) -> list[float]:
    """Compute the coefficients that map the result's corners to ``quad``."""
    rows: list[list[float]] = []
    values: list[float] = []
    for (u, v), (x, y) in zip([(0, 0), (width, 0), (width, height), (0, height)], quad.tolist(), strict=True):
        rows += [[u, v, 1, 0, 0, 0, -x * u, -x * v], [0, 0, 0, u, v, 1, -y * u, -y * v]]
        values += [x, y]
    return [float(value) for value in np.linalg.solve(np.array(rows, float), np.array(values, float))]
