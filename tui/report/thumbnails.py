"""Images of a report: scaled down, and stored once in the page or in files."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from markupsafe import Markup

from line_neurons.tools.cache.reader import StoredImage, stored_images
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tui.formatting import drawn_from

if TYPE_CHECKING:
    from PIL.Image import Image

    from line_neurons.tools.maps.overlay import MapImage
    from line_neurons.tui.report.map_images import MapImages

LABEL_IMAGE_SIDE = 224
"""Maximum side of a label's image, in pixels."""
TILE_SIDE = 96
"""Side of an image in a strip, in pixels."""
_GAP = 3
"""Pixels between two images of a strip."""
MAX_IMAGES = 10
"""The number of images of a concept that are shown."""


@dataclass(frozen=True)
class ImageElement:
    """How a page shows an image: by an address, or by a class of its style sheet.

    Args:
        src: address for an ``img``; empty if ``css_class`` shows it.
        css_class: the class; empty if ``src`` is given.
        width: in pixels.
        height: in pixels.
    """

    src: Markup | str
    css_class: str
    width: int
    height: int


@dataclass(frozen=True)
class ImageStrip:
    """The images of a concept as one image, in a row.

    Args:
        element: the row; None if all images are missing.
        count: number of images in the row, missing ones included.
        errors: why images are missing.
        sources: captions of the image bank they were composed from; empty for other generators.
    """

    element: ImageElement | None
    count: int
    total: int
    errors: tuple[str, ...]
    sources: str


@dataclass(frozen=True)
class LabelImage:
    """An image of a label with its record in the store; without ``element``, ``error`` says why it is missing.

    ``mapped`` is the image with the unit's map over it; None where there is none, or ``map_error`` says why.
    """

    stored: StoredImage
    element: ImageElement | None
    error: str
    mapped: ImageElement | None = None
    map_error: str = ""


class ImageStorage(Protocol):
    """Storage of a report's images."""

    def add(self, content: bytes, size: tuple[int, int]) -> ImageElement:
        """Store a WebP file that one element shows."""

    def add_shared(self, content: bytes, size: tuple[int, int]) -> ImageElement:
        """Store a WebP file that several elements show."""


class InlineImages:
    """Images in the page itself; shared ones are in its style sheet."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}

    @property
    def rules(self) -> str:
        """Style rules, one for each shared image."""
        return "".join(self._rules.values())

    def add(self, content: bytes, size: tuple[int, int]) -> ImageElement:
        """See ``ImageStorage``."""
        return ImageElement(Markup(_data(content)), "", *size)  # noqa: S704 - base64

    def add_shared(self, content: bytes, size: tuple[int, int]) -> ImageElement:
        """See ``ImageStorage``."""
        name = f"p{_name(content)}"
        if name not in self._rules:
            self._rules[name] = f".{name}{{background-image:url({_data(content)})}}\n"
        return ImageElement("", name, *size)


class ImageFolder:
    """Images as files that are named by their content.

    Args:
        address: of the folder, relative to the pages.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder
        self._address = address

    def add(self, content: bytes, size: tuple[int, int]) -> ImageElement:
        """See ``ImageStorage``."""
        name = f"{_name(content)}.webp"
        path = self._folder / name
        if not path.exists():
            path.write_bytes(content)
        return ImageElement(f"{self._address}/{name}", "", *size)

    add_shared = add


class Thumbnails:
    """The images of a run's units in a report.

    Args:
        maps: computes the units' maps; None: none are shown.
    """

    def __init__(
        self, store: Path, target: str, layer: str, storage: ImageStorage, maps: MapImages | None = None
    ) -> None:
        self.maps = maps
        self._store = store
        self._target = target
        self._layer = layer
        self._storage = storage
        self._strips: dict[tuple[str, ...], ImageStrip] = {}

    def label_images(self, images: Sequence[str], unit: int) -> list[LabelImage]:
        """Return the images of a unit's label, at most ``MAX_IMAGES``."""
        stored = stored_images(self._store, images[:MAX_IMAGES], self._target, self._layer, unit)
        found = [self._label_image(image) for image in stored]
        if self.maps is None:
            return found
        laid = self.maps.of_label([image.content for image in stored], unit)
        return [self._with_map(image, one) for image, one in zip(found, laid, strict=True)]

    def _with_map(self, image: LabelImage, laid: MapImage) -> LabelImage:
        small = _scaled(StoredImage("", Path(), laid.png), LABEL_IMAGE_SIDE)[0] if laid.png else None
        if small is None:
            return replace(image, map_error=laid.error)
        return replace(image, mapped=self._storage.add(_webp(small), small.size))

    def _label_image(self, image: StoredImage) -> LabelImage:
        small, error = _scaled(image, LABEL_IMAGE_SIDE)
        if small is None:
            return LabelImage(image, None, error)
        return LabelImage(image, self._storage.add(_webp(small), small.size), "")

    def control_image(self, content: bytes, size: tuple[int, int]) -> ImageElement:
        """Store a small control image, which several units may show."""
        return self._storage.add_shared(content, size)

    def strip(self, images: Sequence[str]) -> ImageStrip | None:
        """Return the images of a concept as a strip; None if it has none."""
        if not images:
            return None
        key = tuple(images)
        if key not in self._strips:
            self._strips[key] = self._make_strip(key)
        return self._strips[key]

    def _make_strip(self, images: tuple[str, ...]) -> ImageStrip:
        from PIL import Image

        # The unit only selects activations, which a strip does not use.
        stored = stored_images(self._store, images[:MAX_IMAGES], self._target, self._layer, 0)
        row = Image.new("RGBA", (len(stored) * (TILE_SIDE + _GAP) - _GAP, TILE_SIDE))
        errors = []
        for index, image in enumerate(stored):
            small, error = _scaled(image, TILE_SIDE)
            if small is None:
                errors.append(f"image {index + 1} {error}")
                small = Image.new("RGB", (TILE_SIDE, TILE_SIDE), "#8a9096")
            row.paste(
                small.resize((TILE_SIDE, TILE_SIDE), Image.Resampling.LANCZOS), (index * (TILE_SIDE + _GAP), 0)
            )
        element = self._storage.add_shared(_webp(row), row.size) if len(errors) < len(stored) else None
        accounts: list[Mapping[str, object]] = [image.metadata for image in stored if image.metadata]
        return ImageStrip(element, len(stored), len(images), tuple(errors), drawn_from(accounts))


def small_copy(content: bytes, side: int) -> tuple[bytes, tuple[int, int]] | None:
    """Scale an encoded image down to a WebP file with its size; None if it cannot be decoded."""
    small, _ = _scaled(StoredImage("", Path(), content), side)
    return (_webp(small), small.size) if small else None


def _scaled(image: StoredImage, side: int) -> tuple[Image | None, str]:
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
