"""Read and check the images of a control set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

from line_neurons.agent.ports import ControlChunk
from line_neurons.agent.text import clean_text
from line_neurons.tools.images.reader import PLAIN, Range, Traits, UnknownRangeError, plain_file, traits_of
from line_neurons.tools.images.reading import TraitSummary
from line_neurons.tools.parallel import parallel_map

if TYPE_CHECKING:
    from numpy.typing import NDArray

Unread = tuple[str, Callable[[], bytes], int]
"""An image that is yet to be read: its name, what reads it, and its label."""


def read_chunk(
    images: Iterable[Unread],
    also_skipped: Iterable[str] = (),
    *,
    value_range: Range | None = None,
    on_summary: Callable[[TraitSummary], None] | None = None,
) -> ControlChunk:
    """Read the images that can be decoded, in parallel; the others are named in ``skipped``.

    Those that any decoder reads alike are unchanged, others become PNG files of their pixels.

    Args:
        also_skipped: lines to start ``skipped`` with.
        value_range: see ``read_image``.
        on_summary: called with the summary of the images' traits, including those with an unknown range.
    """
    contents: list[bytes] = []
    labels: list[int] = []
    skipped = list(also_skipped)
    unusual: list[tuple[str, Traits]] = []
    for name, label, found in parallel_map(partial(_checked, value_range=value_range), images):
        if found.content is None:
            skipped.append(f"{clean_text(name, 200)}: {found.fault}")
        else:
            contents.append(found.content)
            labels.append(label)
        if found.traits != PLAIN:
            unusual.append((name, found.traits))
    if on_summary:
        on_summary(TraitSummary(len(contents), tuple(unusual)))
    return ControlChunk(tuple(contents), tuple(labels), tuple(skipped))


@dataclass(frozen=True)
class _Checked:
    """An image that was read: its content, or why there is none; traits where its range is what is unknown."""

    content: bytes | None
    fault: str = ""
    traits: Traits = PLAIN


def _checked(image: Unread, value_range: Range | None) -> tuple[str, int, _Checked]:
    name, read, label = image
    traits = PLAIN
    try:
        content = read()
        traits = traits_of(content)
        return name, label, _Checked(plain_file(content, traits, value_range), traits=traits)
    except UnknownRangeError as error:
        return name, label, _Checked(None, f"{error} ({error.remedy})", traits)
    except (OSError, ValueError) as error:
        return name, label, _Checked(None, _reason(error))


def as_png(pixels: NDArray[Any]) -> bytes:
    """Encode integers in [0, 255] as PNG: [height, width], or with 1, 3 or 4 channels.

    Raises:
        ValueError: they have another shape or range.
    """
    import numpy as np
    from PIL import Image

    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if not pixels.size or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise ValueError(f"an array of shape {pixels.shape} is no image")
    if pixels.min() < 0 or pixels.max() > 255:
        raise ValueError("pixels outside 0 to 255")
    buffer = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return clean_text(text, 200)
