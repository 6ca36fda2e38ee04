"""The images of a report: made small, and kept in the page or in files beside it, each once."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from markupsafe import Markup

from line_neurons.tools.cache.reader import StoredImage, stored_images
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tui.formatting import drawn_from

if TYPE_CHECKING:
    from PIL.Image import Image

LARGE = 224
"""Side of a label's image in pixels, at most."""
TILE = 96
"""Side of an image in the row of a concept's images."""
_GAP = 3
"""Pixels between two images of a row."""
MOST = 10
"""So many images of a concept are shown."""


@dataclass(frozen=True)
class Shown:
    """How an element shows an image: by its address, or by a class of the page's style sheet.

    Args:
        src: what an ``img`` is given; empty where ``style`` shows it.
        style: the class.
        width: in pixels.
        height: in pixels.
    """

    src: Markup | str
    style: str
    width: int
    height: int


@dataclass(frozen=True)
class Strip:
    """The images of a concept in a row.

    Args:
        shown: the row as one image; None where no image of it is to be had.
        tiles: how many images stand in it, those that have gone included.
        total: how many images there are.
        lost: what is wrong with those that cannot be shown.
        drawn_from: what an image bank drew them from; empty of other generators.
    """

    shown: Shown | None
    tiles: int
    total: int
    lost: tuple[str, ...]
    drawn_from: str


@dataclass(frozen=True)
class Photo:
    """An image on its own with what the store knows of it; ``shown`` is None where it is not to be had."""

    image: StoredImage
    shown: Shown | None
    trouble: str


class Shelf(Protocol):
    """Where the images of a report are kept."""

    def alone(self, content: bytes, size: tuple[int, int]) -> Shown:
        """Keep a WebP file that one element shows."""

    def shared(self, content: bytes, size: tuple[int, int]) -> Shown:
        """Keep a WebP file that many elements show."""


class InPage:
    """Images that stand in the page itself; those that are shown more than once in its style sheet.

    Attributes:
        rules: the rules of the style sheet.
    """

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}

    @property
    def rules(self) -> str:
        """Style rules, one for each shared image."""
        return "".join(self._rules.values())

    def alone(self, content: bytes, size: tuple[int, int]) -> Shown:
        """See ``Shelf``."""
        return Shown(Markup(_data(content)), "", *size)  # noqa: S704 - base64

    def shared(self, content: bytes, size: tuple[int, int]) -> Shown:
        """See ``Shelf``."""
        name = f"p{_name(content)}"
        if name not in self._rules:
            self._rules[name] = f".{name}{{background-image:url({_data(content)})}}\n"
        return Shown("", name, *size)


class InFolder:
    """Images in files, named by their content.

    Args:
        folder: where the files are written.
        address: how the pages call that folder.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder
        self._address = address

    def alone(self, content: bytes, size: tuple[int, int]) -> Shown:
        """See ``Shelf``."""
        name = f"{_name(content)}.webp"
        path = self._folder / name
        if not path.exists():
            path.write_bytes(content)
        return Shown(f"{self._address}/{name}", "", *size)

    shared = alone


class Album:
    """The images of a run's units as a report shows them.

    Args:
        store: the store's folder.
        target: fingerprint of the vision model.
        layer: dotted path.
        shelf: where they are kept.
    """

    def __init__(self, store: Path, target: str, layer: str, shelf: Shelf) -> None:
        self._store = store
        self._target = target
        self._layer = layer
        self._shelf = shelf
        self._strips: dict[tuple[str, ...], Strip] = {}

    def photos(self, images: Sequence[str], unit: int) -> list[Photo]:
        """The images of a unit's label, the first ``MOST``."""
        found = stored_images(self._store, images[:MOST], self._target, self._layer, unit)
        return [self._photo(one) for one in found]

    def _photo(self, image: StoredImage) -> Photo:
        small, trouble = _opened(image, LARGE)
        if small is None:
            return Photo(image, None, trouble)
        return Photo(image, self._shelf.alone(_webp(small), small.size), "")

    def control_image(self, content: bytes, size: tuple[int, int]) -> Shown:
        """A small control image, which may be strong for several units."""
        return self._shelf.shared(content, size)

    def strip(self, images: Sequence[str]) -> Strip | None:
        """The images of a concept; None where it has none."""
        if not images:
            return None
        key = tuple(images)
        if key not in self._strips:
            self._strips[key] = self._made(key)
        return self._strips[key]

    def _made(self, images: tuple[str, ...]) -> Strip:
        from PIL import Image

        # The unit is asked for by its activations only, which are read for each unit anew.
        found = stored_images(self._store, images[:MOST], self._target, self._layer, 0)
        row = Image.new("RGBA", (len(found) * (TILE + _GAP) - _GAP, TILE))
        lost = []
        for place, image in enumerate(found):
            small, trouble = _opened(image, TILE)
            if small is None:
                lost.append(f"image {place + 1} {trouble}")
                small = Image.new("RGB", (TILE, TILE), "#8a9096")
            row.paste(small.resize((TILE, TILE), Image.Resampling.LANCZOS), (place * (TILE + _GAP), 0))
        shown = self._shelf.shared(_webp(row), row.size) if len(lost) < len(found) else None
        accounts: list[Mapping[str, object]] = [one.metadata for one in found if one.metadata]
        return Strip(shown, len(found), len(images), tuple(lost), drawn_from(accounts))


def small_copy(content: bytes, side: int) -> tuple[bytes, tuple[int, int]] | None:
    """An image of anybody's as a small WebP file with its size; None where it cannot be decoded."""
    small, _ = _opened(StoredImage("", Path(), content), side)
    return (_webp(small), small.size) if small else None


def _opened(image: StoredImage, side: int) -> tuple[Image | None, str]:
    from PIL import Image

    if image.error:
        return None, image.error
    try:
        small = read_image(image.content, side=2 * side)
    except ImageError as error:
        return None, f"cannot be decoded: {error}"
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small, ""


def _webp(image: Image) -> bytes:
    written = io.BytesIO()
    image.save(written, "WEBP", quality=72, method=4)
    return written.getvalue()


def _data(content: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


def _name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
