"""Contact sheet: the images of a unit's concepts as one PNG, a row each."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.errors import StoreError, reason_of
from line_neurons.agent.text import clean_text
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tools.store.atomic_files import atomic_write
from line_neurons.tui.formatting import number

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

TILE_SIDE = 176
MARGIN = 12
HEADING, TITLE, CAPTION = 62, 34, 24
"""Heights of the sheet's heading, of a row's title, and of the activations under its images."""
_PER_ROW = 10
_LEAST_COLUMNS = 4
_LABEL = "LABEL"
_INK, _SOFT, _WASH, _ACCENT = "#1b1f23", "#57606a", "#eef4f8", "#0b5a86"


@dataclass(frozen=True)
class SheetRow:
    """A concept's images under a title.

    Args:
        title: step, concept and score.
        images: encoded images; None for a missing one.
        activations: the unit's activation on each; None where it is not known.
    """

    title: str
    images: Sequence[bytes | None]
    activations: Sequence[float | None] = ()
    is_label: bool = False

    def height(self, columns: int) -> int:
        """Return its height in pixels, with this many images beside each other."""
        lines = -(-max(1, len(self.images)) // columns)
        return TITLE + lines * (TILE_SIDE + CAPTION) + MARGIN


def write_sheet(rows: Sequence[SheetRow], path: Path, heading: Sequence[str] = ()) -> Path:
    """Write a contact sheet atomically and return its path; rows of more than ten images are wrapped.

    The label's row has a frame and the word LABEL.

    Args:
        heading: what the sheet shows, in one or two lines; the first is large.

    Raises:
        StoreError: an image cannot be decoded, or the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    if path.is_dir():
        raise StoreError(f"{str(path)!r} is a folder", "name a file with --sheet")
    columns = min(_PER_ROW, max(_LEAST_COLUMNS, *(len(row.images) for row in rows)))
    width = columns * (TILE_SIDE + MARGIN) + MARGIN
    sheet = Image.new("RGB", (width, HEADING + sum(row.height(columns) for row in rows) + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    large, font, small = (ImageFont.load_default(size=size) for size in (21, 17, 15))
    for line, (text, its_font, colour) in enumerate(zip(heading, (large, small), (_INK, _SOFT), strict=False)):
        _write(pen, (MARGIN, 10 + 28 * line), text, its_font, colour, width - 2 * MARGIN)
    top = HEADING
    for row in rows:
        height = row.height(columns)
        left = MARGIN
        if row.is_label:
            pen.rectangle((3, top, width - 4, top + height - 4), _WASH, _ACCENT, 3)
            end = left + int(pen.textlength(_LABEL, font=small)) + 14
            pen.rectangle((left, top + 8, end, top + 29), _ACCENT)
            pen.text((left + 7, top + 10), _LABEL, fill="white", font=small)
            left = end + 8
        _write(pen, (left, top + 8), row.title, font, _INK, width - left - MARGIN)
        for index, image in enumerate(row.images):
            place = (
                MARGIN + (index % columns) * (TILE_SIDE + MARGIN),
                top + TITLE + (index // columns) * (TILE_SIDE + CAPTION),
            )
            _show(sheet, pen, place, image, row.title, small)
            if index < len(row.activations):
                pen.text(
                    (place[0] + TILE_SIDE // 2, place[1] + TILE_SIDE + 3),
                    number(row.activations[index]),
                    fill=_SOFT,
                    font=small,
                    anchor="ma",
                )
        top += height
    encoded = io.BytesIO()
    # A fifth larger than at the default level, in a quarter of the time: a second and more for a long history.
    sheet.save(encoded, format="PNG", compress_level=1)
    try:
        with atomic_write(path) as file:
            file.write(encoded.getvalue())
    except OSError as error:
        raise StoreError(
            f"the contact sheet {str(path)!r} cannot be written: {error.strerror}",
            "name another with --sheet",
        ) from error
    return path


def _show(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    place: tuple[int, int],
    image: bytes | None,
    title: str,
    font: Font,
) -> None:
    """Paste an image, or a grey tile for a missing one."""
    from PIL import Image

    if image is None:
        pen.rectangle([place, (place[0] + TILE_SIDE - 1, place[1] + TILE_SIDE - 1)], "#eeeeee", "#999999")
        pen.text((place[0] + 8, place[1] + TILE_SIDE // 2 - 10), "missing", fill=_SOFT, font=font)
        return
    try:
        opened = read_image(image)
    except ImageError as error:
        raise StoreError(
            f"an image of {clean_text(title, 80)!r} cannot be decoded: {reason_of(error)}",
            "run it again with a new store",
        ) from error
    sheet.paste(opened.resize((TILE_SIDE, TILE_SIDE), Image.Resampling.LANCZOS), place)


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, font: Font, colour: str, width: int
) -> None:
    """Write a line of text, cut with an ellipsis where it is longer than ``width`` pixels."""
    shown = clean_text(text, 300)
    if pen.textlength(shown, font=font) > width:
        fitting = bisect_right(
            range(len(shown)), float(width), key=lambda end: pen.textlength(f"{shown[:end]}...", font=font)
        )
        shown = f"{shown[: max(0, fitting - 1)]}..."
    pen.text(place, shown, fill=colour, font=font)
