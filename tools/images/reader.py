"""Decode images of users, data sets, generators and stores in one place.

Whatever a file holds becomes RGB of 8 bits: it is turned according to its EXIF data, transparency is put on white,
values of more than 8 bits are read by a range that is the same for all images of a set and never stretched for
one, and of several frames the first counts. Unknown cases are refused: a truncated file, a decompression bomb,
values whose range neither their type nor the user states. Embedded colour profiles are not applied, as in
torchvision's readers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from line_neurons.agent.text import clean_text

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

    from line_neurons.agent.ports import ImageData

Range = tuple[float, float]
"""The values that become black and white; what lies beyond is black or white too."""
Values = Literal["8-bit", "16-bit", "16-bit colour", "integer", "floating-point"]

READER = 1
"""Raised whenever the same file would give other pixels."""
GROUND = "white"
"""What is behind transparent pixels: the ground of the pages and papers that most such images were made for."""

_FULL: Range = (0, 65535)
_GREY = ("I;16", "I;16L", "I;16B", "I;16N")
_MOST_PIXELS = 178_956_970
"""Pillow's own limit, which a user's code may have taken off."""
_ORIENTATION, _BITS, _PHOTOMETRIC = 0x0112, 258, 262
# How each EXIF orientation is undone, by the names of PIL.Image.Transpose.
_TURNS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
    7: "TRANSVERSE", 8: "ROTATE_90",
}  # fmt: skip
# Pillow decodes a whole PNG file to tell that there is no orientation behind its pixels.
_PNG_ORIENTATION = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")


class ImageError(ValueError):
    """An image that cannot be read.

    Args:
        reason: why, as words that follow "it cannot be decoded:".
        remedy: what helps; empty where only another file does.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


class UnknownRangeError(ImageError):
    """An image of unknown brightness: neither its type nor the user states the range."""


@dataclass(frozen=True)
class Traits:
    """How a file differs from an ordinary image; it follows from the file's content.

    Args:
        values: the type of its pixels.
        bits: bits of a 16-bit value that are in use, as the file says.
        low: smallest value of an image that is not 8-bit; NaN if one is not a number.
        turned: its EXIF data require turning or mirroring.
        transparent: a pixel of it is transparent.
        frames: it has several frames or pages.
    """

    values: Values = "8-bit"
    bits: int = 16
    low: float = 0.0
    high: float = 0.0
    turned: bool = False
    transparent: bool = False
    frames: bool = False

    @property
    def deep(self) -> bool:
        """Whether its values have more than 8 bits."""
        return self.values != "8-bit"

    @property
    def plain(self) -> bool:
        """Whether any decoder reads its pixels alike."""
        return not (self.deep or self.turned or self.transparent)


PLAIN = Traits()


def read_image(source: ImageData | Path, *, value_range: Range | None = None, side: int | None = None) -> Image:
    """Decode an image as RGB of 8 bits, as the module says.

    Args:
        source: an encoded image, its file, or its pixels as uint8 [H, W, 3].
        value_range: the range of values of more than 8 bits, in the units of the file; None: the full range of
            16-bit integers, and 0 to 1 of floats within it.
        side: sufficient pixels of both sides; a JPEG is decoded at the smallest scale that has them.

    Raises:
        UnknownRangeError: the range of its values is not known.
        ImageError: it is no image, is damaged or truncated, has too many pixels, or cannot be read as a file.
    """
    image = _decoded(source, value_range, side)
    if image.mode != "RGBA":
        return image
    from PIL import Image

    return Image.alpha_composite(Image.new("RGBA", image.size, GROUND), image).convert("RGB")


def read_cutout(source: ImageData | Path, *, value_range: Range | None = None) -> Image:
    """Decode an image as RGBA of 8 bits; otherwise as ``read_image`` does.

    Raises:
        ImageError: see ``read_image``.
    """
    return _decoded(source, value_range, None).convert("RGBA")


def plain_file(content: bytes, traits: Traits, value_range: Range | None = None) -> bytes:
    """Return an image file that every decoder reads alike, decoding it to its end.

    ``traits`` are those of ``content``. The result is the file itself if it is plain, else a PNG file of the
    pixels that ``read_image`` gives.

    Raises:
        ImageError: see ``read_image``.
    """
    if traits.plain:
        # A JPEG is checked to its end at a fraction of the cost of decoding it in full.
        read_image(content, side=32)
        return content
    buffer = BytesIO()
    read_image(content, value_range=value_range).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def traits_of(content: bytes) -> Traits:
    """Detect how an image file differs from an ordinary one, which is not decoded for it.

    Raises:
        ImageError: it is no image, or has to be decoded and is damaged.
    """
    with _opened(content) as image:
        values, bits = _values(image)
        turned = _orientation(image, content) in _TURNS
        frames = image.format != "MPO" and bool(getattr(image, "is_animated", False))
        low, high = (0.0, 0.0) if values == "8-bit" else _extremes(image, values)
        transparent = image.has_transparency_data and (values == "16-bit" or _least_alpha(image) < 255)
    return Traits(values, bits, low, high, turned, transparent, frames)


def range_of(traits: Traits, value_range: Range | None) -> Range:
    """Return the range by which an image of more than 8 bits is read; the user may state it.

    Raises:
        UnknownRangeError: its values have no range of their own, or the stated one cannot be used.
    """
    if not (math.isfinite(traits.low) and math.isfinite(traits.high)):
        raise UnknownRangeError("it has values that are not finite numbers", "repair the file or leave it out")
    if traits.values == "16-bit colour":
        # The decoder gives the upper 8 bits alone.
        if value_range not in (None, _FULL):
            raise UnknownRangeError(
                f"colours of 16 bits are read by the range 0 to 65535 only, not by {format_range(value_range)}",
                "save it with 8 bits, or as 16-bit grey",
            )
        return _FULL
    if value_range is not None:
        return value_range
    if traits.values == "16-bit":
        return 0, 2**traits.bits - 1
    if traits.values == "floating-point" and traits.low >= 0 and traits.high <= 1:
        return 0, 1
    raise UnknownRangeError(
        f"its {traits.values} values go from {traits.low:g} to {traits.high:g}, and which of them are black and"
        " white is not known",
        f"state it: --image-range LOW,HIGH, such as {_likely(traits)}",
    )


def format_range(value_range: Range | None) -> str:
    """Format a range, ``0 to 4095``."""
    return " to ".join(f"{value:g}" for value in value_range or _FULL)


def _likely(traits: Traits) -> str:
    """Return a range of whole bits that holds the values of an image, as an example."""
    below = 0 if traits.low >= 0 else -(2 ** math.ceil(math.log2(-traits.low)))
    above = 2 ** math.ceil(math.log2(max(traits.high, 1) + 1)) - 1
    return f"{below},{above}"


def _decoded(source: ImageData | Path, value_range: Range | None, side: int | None) -> Image:
    """Decode to RGBA where the image has transparency, else to RGB."""
    from PIL import Image

    if not isinstance(source, bytes | Path):
        return _of_pixels(source)
    with _opened(source) as image:
        if side is not None:
            image.draft("RGB", (side, side))
        values, bits = _values(image)
        image.load()
        turn = _TURNS.get(_orientation(image))
        shown: Image.Image = image
        if values == "16-bit colour" or image.mode in (*_GREY, "I", "F"):
            chosen = range_of(Traits(values, bits, *_extremes(image, values)), value_range)
            shown = image if values == "16-bit colour" else _scaled(image, chosen)
        elif image.mode == "LAB":
            shown = _from_lab(image)
        shown = shown.convert("RGBA" if shown.has_transparency_data else "RGB")
        return shown.transpose(Image.Transpose[turn]) if turn else shown


def _of_pixels(pixels: ImageData) -> Image:
    import numpy as np
    from PIL import Image

    if isinstance(pixels, bytes) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        found = "" if isinstance(pixels, bytes) else f"{pixels.dtype} {list(pixels.shape)}"
        raise ImageError(f"{found} is not uint8 [H, W, 3]")
    return Image.fromarray(pixels)


@contextmanager
def _opened(source: bytes | Path) -> Iterator[ImageFile]:
    """Open an image without decoding it; any error becomes an ``ImageError``."""
    import PIL.ImageFile
    from PIL import Image, UnidentifiedImageError

    # A library or a model's file may have switched it on: the rest of a truncated image would be grey.
    PIL.ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ImageError(f"{image.width} x {image.height} pixels are too many")
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("not an image") from error
    except MemoryError as error:
        raise ImageError("there is no memory for it") from error
    # A damaged file makes decoders raise nearly anything.
    except Exception as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(clean_text(text, 200) or type(error).__name__) from error


def _values(image: ImageFile) -> tuple[Values, int]:
    """Return the type of an undecoded image's pixels, and the bits of 16 in use."""
    if image.mode in _GREY:
        # Of PNG's sBIT the values are scaled to all bits, and TIFF's MaxSampleValue may be any statistic.
        stated = _tag(image, _BITS) if image.format == "TIFF" else 16
        return "16-bit", stated if isinstance(stated, int) and 8 < stated < 16 else 16
    if image.mode in {"I", "F"}:
        return ("integer" if image.mode == "I" else "floating-point"), 16
    # Of colours of 16 bits only the decoder knows: the mode is the one of 8.
    colours = any(";16" in str(tile.args) for tile in image.tile)
    return ("16-bit colour" if colours else "8-bit"), 16


def _extremes(image: Image, values: Values) -> Range:
    import numpy as np

    if values == "16-bit colour":
        channels = np.asarray(image.convert("RGB"))
        return 257.0 * int(channels.min()), 257.0 * int(channels.max())
    found = np.asarray(image)
    return float(found.min()), float(found.max())


def _least_alpha(image: Image) -> float:
    import numpy as np

    return float(np.asarray(image.convert("RGBA").getchannel("A")).min())


def _scaled(image: Image, value_range: Range) -> Image:
    """Convert values in a range to grey of 8 bits."""
    import numpy as np
    from PIL import Image

    low, high = value_range
    values = np.asarray(image)
    share = np.clip((values.astype(np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    # Pillow turns TIFF files whose least value is white around only where they have 8 bits or less.
    if image.format == "TIFF" and _tag(image, _PHOTOMETRIC) == 0:
        share = 1 - share
    grey = Image.fromarray((share * np.float32(255) + np.float32(0.5)).astype(np.uint8))
    if image.has_transparency_data:
        grey.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    return grey


def _tag(image: Image, number: int) -> object:
    found = getattr(image, "tag_v2", {}).get(number)
    return found[0] if isinstance(found, tuple) and found else found


def _from_lab(image: Image) -> Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None
    return converted


def _orientation(image: Image, content: bytes | None = None) -> int:
    """Return the EXIF orientation; none if the data cannot be read, as in every viewer.

    ``content`` is the image's file, where it is not decoded yet.
    """
    if content is not None and image.format == "PNG" and not any(mark in content for mark in _PNG_ORIENTATION):
        return 1
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return found if isinstance(found, int) else 1
