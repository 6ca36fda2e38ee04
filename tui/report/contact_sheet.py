"""Contact sheet: the images of a unit's concepts as one PNG, a row each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from line_neurons.agent.errors import StoreError, reason_of
from line_neurons.agent.text import clean_text
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tools.store.atomic_files import atomic_write

TILE_SIDE = 160
_MARGIN = 8
_TITLE = 26
_PER_ROW = 10


@dataclass(frozen=True)
class SheetRow:
    """A concept's encoded images under a title; None for a missing one."""

    title: str
    images: Sequence[bytes | None]


def write_sheet(rows: Sequence[SheetRow], path: Path) -> Path:
    """Write a contact sheet atomically and return its path; rows of more than ten images are wrapped.

    Raises:
        StoreError: an image cannot be decoded, or the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    if path.is_dir():
        raise StoreError(f"{str(path)!r} is a folder", "name a file with --sheet")
    font = ImageFont.load_default(size=15)
    columns = min(_PER_ROW, max((len(row.images) for row in rows), default=1))
    heights = [_TITLE + -(-max(1, len(row.images)) // columns) * (TILE_SIDE + _MARGIN) for row in rows]
    width = columns * (TILE_SIDE + _MARGIN) + _MARGIN
    sheet = Image.new("RGB", (width, sum(heights) + _MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        title = clean_text(row.title, 200)
        while title and pen.textlength(title, font=font) > width - 2 * _MARGIN:
            title = title[:-1]
        pen.text((_MARGIN, top + 6), title, fill="black", font=font)
        for index, image in enumerate(row.images):
            left = _MARGIN + (index % columns) * (TILE_SIDE + _MARGIN)
            place = left, top + _TITLE + (index // columns) * (TILE_SIDE + _MARGIN)
            if image is None:
                pen.rectangle([place, (place[0] + TILE_SIDE - 1, place[1] + TILE_SIDE - 1)], "#eeeeee", "#999999")
                pen.text((place[0] + 8, place[1] + TILE_SIDE // 2 - 10), "missing", fill="#666666", font=font)
                continue
            try:
                opened = read_image(image)
            except ImageError as error:
                raise StoreError(
                    f"an image of {title!r:.80} cannot be decoded: {reason_of(error)}",
                    "run it again with a new store",
                ) from error
            sheet.paste(opened.resize((TILE_SIDE, TILE_SIDE), Image.Resampling.LANCZOS), place)
        top += height
    encoded = io.BytesIO()
    sheet.save(encoded, format="PNG")
    try:
        with atomic_write(path) as file:
            file.write(encoded.getvalue())
    except OSError as error:
        raise StoreError(
            f"the contact sheet {str(path)!r} cannot be written: {error.strerror}",
            "name another with --sheet",
        ) from error
    return path
