"""Pictures of a control set: read, checked, and left as they are encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import TYPE_CHECKING, Any

from line_neurons.agent.ports import ControlChunk
from line_neurons.agent.proposal import clean_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

Unread = tuple[str, Callable[[], bytes], int]
"""A picture that is yet to be read: its name, what reads it, and its label."""


def read_chunk(pictures: Iterable[Unread], also_skipped: Iterable[str] = ()) -> ControlChunk:
    """The pictures that can be read and decoded, byte for byte; the others are named in ``skipped``.

    Args:
        pictures: what to read.
        also_skipped: lines to begin ``skipped`` with.
    """
    from PIL import Image, UnidentifiedImageError

    images: list[bytes] = []
    labels: list[int] = []
    skipped = list(also_skipped)
    for name, read, label in pictures:
        try:
            content = read()
            with Image.open(BytesIO(content)) as image:
                # A JPEG is checked to its end at a fraction of the cost of decoding it in full.
                image.draft("RGB", (32, 32))
                image.load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = "not a picture" if isinstance(error, UnidentifiedImageError) else _reason(error)
            skipped.append(f"{clean_text(name, 200)}: {reason}")
        else:
            images.append(content)
            labels.append(label)
    return ControlChunk(tuple(images), tuple(labels), tuple(skipped))


def as_png(pixels: NDArray[Any]) -> bytes:
    """Pixels as a PNG file.

    Args:
        pixels: integers in [0, 255], [height, width], or [height, width, channels] with 1, 3 or 4 channels.

    Raises:
        ValueError: they have another shape or range.
    """
    import numpy as np
    from PIL import Image

    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if not pixels.size or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise ValueError(f"an array of shape {pixels.shape} is no picture")
    if pixels.min() < 0 or pixels.max() > 255:
        raise ValueError("pixels outside 0 to 255")
    buffer = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return clean_text(text, 200)
