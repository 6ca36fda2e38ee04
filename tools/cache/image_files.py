"""The PNG files of cached images, each named by the SHA-256 of its content."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from line_neurons.agent.errors import DamagedError
from line_neurons.agent.text import clean_text
from line_neurons.tools.cache.database import CacheDatabase

PNG_BEGIN, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
"""How every whole PNG file begins and ends."""

_ID = re.compile(r"[0-9a-f]{64}")


def is_image_id(text: str) -> bool:
    """Return whether a text is a SHA-256 in hex, as every id of an image is."""
    return _ID.fullmatch(text) is not None


def image_path(store: Path, image: str) -> Path:
    """Return where the file of an image is, or should be."""
    return image_path_in(store / "images", image)


def image_path_in(folder: Path, image: str) -> Path:
    """Return where the file of an image is in a store's folder of images."""
    return folder / image[:2] / f"{image}.png"


def read_image_file(store: Path, image: str) -> tuple[bytes, str]:
    """Read and verify the file of an image.

    Returns:
        its content and, where that is empty, what is wrong with it, in words that follow "the image".
    """
    if not is_image_id(image):
        return b"", "has an id that no image has"
    path = image_path(store, image)
    try:
        # Reading a pipe would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            return b"", "is not a regular file"
        content = path.read_bytes()
    except OSError as error:
        return b"", _unreadable(error)
    if hashlib.sha256(content).hexdigest() != image:
        return b"", "is damaged: its content has changed"
    return content, ""


class ImageFiles:
    """The image files of a cache; may be used from several threads."""

    def __init__(self, folder: CacheDatabase) -> None:
        self._folder = folder
        self._damaged: set[str] = set()

    def path(self, image_id: str) -> Path:
        """Return where an image's file is, whether or not it exists.

        Raises:
            DamagedError: no image has such an id; it is part of a path.
        """
        if not is_image_id(image_id):
            raise DamagedError(
                f"{clean_text(image_id, 80)!r} is not the id of an image",
                "put a backup of the store in its place",
            )
        return image_path(self._folder.root, image_id)

    def write(self, image_id: str, content: bytes) -> None:
        """Write a file, in place of any that is damaged.

        Raises:
            StoreError: it cannot be written.
        """
        path = self.path(image_id)
        if path.is_dir() and not path.is_symlink():
            # It may be the user's own.
            with self._folder.mapped():
                path.rename(path.with_name(f"{path.name}.aside-{os.getpid()}-{time.time_ns()}"))
        # Waiting for the disk took longer than all else. What a power cut may leave is shorter than its row says,
        # and is generated again.
        self._folder.write(path, lambda file: file.write(content), durable=False)
        self._damaged.discard(image_id)

    def replaced(self, image_id: str) -> None:
        """Forget the damage of a file that a worker has written anew."""
        self._damaged.discard(image_id)

    def remove(self, image_ids: Iterable[str]) -> None:
        """Remove files that no row refers to any more, as far as they can be."""
        for image in image_ids:
            with suppress(OSError):
                self.path(image).unlink(missing_ok=True)

    def read(self, image_id: str) -> tuple[bytes, str]:
        """Read a file and remember damage; see ``read_image_file``.

        Raises:
            DamagedError: no image has such an id.
        """
        self.path(image_id)
        content, damage = read_image_file(self._folder.root, image_id)
        if damage:
            self._damaged.add(image_id)
        return content, damage

    def damage(self, image_id: str, size: int) -> str:
        """Return what is wrong with a file that should have ``size`` bytes; empty if nothing is.

        Its content is read only if it was found damaged before.
        """
        if image_id in self._damaged:
            return read_image_file(self._folder.root, image_id)[1]
        try:
            found = self.path(image_id).stat()
        except OSError as error:
            return _unreadable(error)
        if not stat.S_ISREG(found.st_mode):
            return "is not a regular file"
        return "" if found.st_size == size else f"has {found.st_size} bytes instead of {size}"


def _unreadable(error: OSError) -> str:
    gone = isinstance(error, FileNotFoundError | NotADirectoryError)
    return "has gone" if gone else f"cannot be read: {error.strerror}"
