"""Canvas of edits: every image is square and of the editor's size before it is edited or measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from line_neurons.agent.errors import BackendError
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.images.reader import read_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]


def to_canvas(image: bytes, side: int) -> bytes:
    """Crop an image to its largest central square and resize it; a square PNG file of that size stays as it is.

    Returns:
        a PNG file of ``side`` x ``side`` pixels.

    Raises:
        ImageError: it cannot be decoded.
    """
    import numpy as np
    from PIL import Image

    decoded = read_image(image)
    if decoded.size == (side, side) and image.startswith(b"\x89PNG"):
        return image
    square = min(decoded.size)
    left, top = (decoded.width - square) // 2, (decoded.height - square) // 2
    box = (left, top, left + square, top + square)
    return encode_png(np.asarray(decoded.resize((side, side), Image.Resampling.LANCZOS, box)))


def pixels_of(image: bytes) -> Pixels:
    """Decode an image as uint8 [H, W, 3]."""
    import numpy as np

    return np.asarray(read_image(image))


def check_size(png: bytes, side: int, editor: str) -> None:
    """Check that an edited image has the size of the canvas: it is never resized.

    Raises:
        BackendError: it has another size.
    """
    width, height = read_image(png).size
    if (width, height) != (side, side):
        raise BackendError(
            f"the editor {editor} returned an image of {width} x {height} pixels for one of {side} x {side}",
            "such an edit cannot be compared with the original; use another editor",
        )
