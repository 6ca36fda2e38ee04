"""Encode pixels as PNG files."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from line_neurons.agent.ports import DrawnImage

# The name of an image in a store is the hash of its file: another encoding would give every image another one.
_LEVEL = 1


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode uint8 [H, W, 3], RGB, or [H, W, 4] with opacity; the same bytes for the same pixels."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=_LEVEL)
    return file.getvalue()


def with_file(image: DrawnImage) -> DrawnImage:
    """Return a generated image with the PNG file of its pixels, where the generator has left that out."""
    return image if image.png or image.pixels is None else replace(image, png=encode_png(image.pixels))
