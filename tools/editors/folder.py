"""Edits that were made elsewhere: a folder of images with a table of what each is."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cached_property
from pathlib import Path, PurePosixPath

from line_neurons.agent.errors import MissingEditError, UsageError
from line_neurons.agent.ports import DrawnImage, EditKind, EditRequest
from line_neurons.tools.assets.manifest import hash_file
from line_neurons.tools.editors.canvas import pixels_of
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.images.reader import ImageError
from line_neurons.tools.store.atomic_files import write_file

TABLE = "edits.csv"
ORIGINAL = "original.png"
SIDE = 1024
"""Side of the canvas in pixels, a size of most models that edit images."""

_ENDINGS = (".png", ".webp", ".jpg", ".jpeg")
_REMEDY = "write the table and the images to edit with --export-canvases FOLDER"
_ANOTHER = "name another folder with --export-canvases"
_LARGEST = 64 * 2**20


@dataclass(frozen=True)
class FolderEdit:
    """A row of the table: an edit, and the file that it belongs in.

    Args:
        file: path in the folder, with slashes.
        other: what takes its place (``replace``).
        needed: whether there is no result without it; control edits may be left out.
        pixels: SHA-256 of the pixels of the canvas.
    """

    file: str
    kind: str
    concept: str
    other: str
    instruction: str
    needed: str
    name: str
    pixels: str

    @property
    def key(self) -> tuple[str, ...]:
        """What tells one edit from another."""
        return self.pixels, self.kind, self.concept, self.other


_COLUMNS = tuple(field.name for field in fields(FolderEdit))


def hash_pixels(image: bytes) -> str:
    """Return the SHA-256 of an image's pixels, which does not depend on how its file was written."""
    return hashlib.sha256(pixels_of(image).tobytes()).hexdigest()


class CanvasFolder:
    """Writes the images to edit, and the table of the edits to make of them; an ``Editor`` that makes none.

    Args:
        folder: made if it does not exist; edits in it stay.

    Raises:
        UsageError: it cannot be written to, or has a table that cannot be read.
    """

    exact = False
    side = SIDE
    fingerprint = "canvases:1"
    kinds: frozenset[EditKind] = frozenset({"remove", "replace", "insert"})

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser()
        there = (self.folder / TABLE).is_file()
        self._edits = {edit.key: edit for edit in read_table(self.folder)} if there else {}
        self._files = {edit.file for edit in self._edits.values()}

    def offers(self, concept: str) -> bool:
        """Anything may be put into an image elsewhere."""
        return True

    def edit(self, request: EditRequest) -> DrawnImage:
        """Refuse: the edits are made elsewhere.

        Raises:
            MissingEditError: always.
        """
        raise MissingEditError(request.concept, "the image is exported to be edited elsewhere")

    def add(self, request: EditRequest, instruction: str, *, needed: bool) -> None:
        """Write the image of a request, and a row for its edit.

        Raises:
            UsageError: the folder cannot be written to.
        """
        pixels = hash_pixels(request.image)
        key = (pixels, request.kind, request.concept, request.other)
        if key in self._edits:
            return
        slug = re.sub(r"[^a-z0-9]+", "-", request.concept.lower())[:40].strip("-") or "concept"
        place = f"{slug}-{pixels[:10]}"
        names = (f"{place}/{request.kind}{suffix}.png" for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
        file = next(name for name in names if name not in self._files)
        original = self.folder / place / ORIGINAL
        if not original.is_file():
            write_file(original, request.image, _ANOTHER)
        self._files.add(file)
        self._edits[key] = FolderEdit(
            file, request.kind, request.concept, request.other, instruction, "yes" if needed else "no",
            request.name, pixels,
        )  # fmt: skip

    def write(self) -> Sequence[FolderEdit]:
        """Write the table; return its rows."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(astuple(edit) for edit in self._edits.values())
        write_file(self.folder / TABLE, text.getvalue().encode(), _ANOTHER)
        return tuple(self._edits.values())


def read_table(folder: Path) -> list[FolderEdit]:
    """Read the table of edits of a folder.

    Raises:
        UsageError: there is none, or it is malformed.
    """
    table = folder / TABLE
    if not table.is_file():
        raise UsageError(f"{str(folder)!r:.200} has no {TABLE}", _REMEDY)
    try:
        if table.stat().st_size > _LARGEST:
            raise UsageError(f"{table} has more than {_LARGEST >> 20} MB", _REMEDY)
        rows = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"), newline=""), strict=True)
        listed = [_row(table, number, row) for number, row in enumerate(rows, 2)]
    except (OSError, UnicodeError, csv.Error) as error:
        raise UsageError(f"{table} cannot be read: {error}", _REMEDY) from error
    return listed


def _row(table: Path, number: int, row: Mapping[str | None, str | list[str] | None]) -> FolderEdit:
    values = [row.get(name) for name in _COLUMNS]
    if not all(isinstance(value, str) for value in values):
        missing = next(name for name, value in zip(_COLUMNS, values, strict=True) if not isinstance(value, str))
        raise UsageError(f"{table} line {number} has no column {missing!r}", _REMEDY)
    edit = FolderEdit(*map(str, values))
    path = PurePosixPath(edit.file)
    if path.is_absolute() or ".." in path.parts or not path.name or "\0" in edit.file:
        raise UsageError(f"{table} line {number}: {edit.file!r:.80} is not a file below the folder", _REMEDY)
    return edit


class FolderEditor:
    """Reads edits that were made elsewhere; implements the port ``Editor``.

    Args:
        folder: images and the table that ``CanvasFolder`` wrote.

    Raises:
        UsageError: the folder has no such table, or no edited image at all.
    """

    exact = False
    side = SIDE
    kinds: frozenset[EditKind] = frozenset({"remove", "replace", "insert", "unchanged", "elsewhere"})

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser()
        if not self._folder.is_dir():
            raise UsageError(f"{str(folder)!r:.200} is not a folder of edits", _REMEDY)
        self._edits = {edit.key: edit for edit in read_table(self._folder)}
        if not any(self._file(edit) for edit in self._edits.values()):
            expected = next((edit.file for edit in self._edits.values()), "its edits")
            raise UsageError(
                f"{str(folder)!r:.200} has no edited image yet, such as {expected!r:.120}",
                f"edit the images and save each under the name that {TABLE} has for it",
            )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the table and of all edited images: another edit is another editor."""
        digest = hashlib.sha256()
        for edit in self._edits.values():
            file = self._file(edit)
            digest.update(repr((edit.key, hash_file(file) if file else "")).encode())
        return f"folder:1 {digest.hexdigest()[:32]}"

    def offers(self, concept: str) -> bool:
        """Anything may have been put into an image elsewhere."""
        return True

    def edit(self, request: EditRequest) -> DrawnImage:
        """See ``Editor.edit``.

        Raises:
            MissingEditError: the edit is missing, unreadable or of another size.
        """
        edit = self._edits.get((hash_pixels(request.image), request.kind, request.concept, request.other))
        if edit is None:
            raise MissingEditError(
                request.concept, f"{TABLE} has no row to {request.kind} {request.concept!r:.60} in this image"
            )
        file = self._file(edit)
        if file is None:
            raise MissingEditError(request.concept, f"{edit.file} is missing")
        try:
            pixels = pixels_of(file.read_bytes())
        except (OSError, ImageError) as error:
            raise MissingEditError(request.concept, f"{edit.file} cannot be read: {error}") from error
        if pixels.shape[:2] != (SIDE, SIDE):
            height, width = pixels.shape[:2]
            raise MissingEditError(
                request.concept, f"{edit.file} has {width} x {height} pixels, not {SIDE} x {SIDE}"
            )
        return DrawnImage(encode_png(pixels), {"file": edit.file})

    def _file(self, edit: FolderEdit) -> Path | None:
        path = self._folder / edit.file
        return next((found for ending in _ENDINGS if (found := path.with_suffix(ending)).is_file()), None)
