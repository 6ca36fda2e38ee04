"""The files of a concept bank's images: how they come to be there, and whether they are whole."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from line_neurons.agent.errors import DamagedError
from line_neurons.agent.text import clean_text
from line_neurons.tools.cache.database import CacheDatabase

PNG_BEGIN, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
"""How every whole PNG file begins and ends."""

_ID = re.compile(r"[0-9a-f]{64}")


def is_image_id(text: str) -> bool:
    """Whether a text is the id of an image, here or elsewhere: a SHA-256 in hex."""
    return _ID.fullmatch(text) is not None


class ImageFiles:
    """PNG files under ``images/``, each named by the SHA-256 of its content; may be used from several threads.

    Args:
        folder: the bank's folder.
    """

    def __init__(self, folder: CacheDatabase) -> None:
        self._folder = folder
        self._damaged: set[str] = set()

    def path(self, image_id: str) -> Path:
        """Where an image's file is, whether or not it is there.

        Raises:
            DamagedError: no image has such an id; it is part of a path.
        """
        if not is_image_id(image_id):
            raise DamagedError(
                f"{clean_text(image_id, 80)!r} is not the id of an image",
                "put a backup of the store in its place",
            )
        return self._folder.root / "images" / image_id[:2] / f"{image_id}.png"

    def write(self, image_id: str, content: bytes) -> None:
        """Write a file, in place of any that is damaged.

        Raises:
            StoreError: it cannot be written.
        """
        path = self.path(image_id)
        if path.is_dir() and not path.is_symlink():
            # It may be somebody's.
            with self._folder.mapped():
                path.rename(path.with_name(f"{path.name}.aside-{os.getpid()}-{time.time_ns()}"))
        self._folder.write(path, _writing(content))
        self._damaged.discard(image_id)

    def remove(self, image_ids: Iterable[str]) -> None:
        """Remove files that no image has any more, as far as they can be."""
        for image in image_ids:
            with suppress(OSError):
                self.path(image).unlink(missing_ok=True)

    def read(self, image_id: str) -> tuple[bytes, str]:
        """The content of a file, and what is wrong with it, which is remembered; empty if nothing is."""
        content, damage = self._look(image_id)
        if damage:
            self._damaged.add(image_id)
        return content, damage

    def damage(self, image_id: str, size: int) -> str:
        """What is wrong with a file that should have ``size`` bytes; empty if nothing is.

        Its content is looked at only if it was found damaged before.
        """
        if image_id in self._damaged:
            return self._look(image_id)[1]
        try:
            found = self.path(image_id).stat()
        except OSError as error:
            return _unreadable(error)
        if not stat.S_ISREG(found.st_mode):
            return "is not a regular file"
        return "" if found.st_size == size else f"has {found.st_size} bytes instead of {size}"

    def _look(self, image_id: str) -> tuple[bytes, str]:
        path = self.path(image_id)
        try:
            # A pipe in its place would be waited for.
            if not stat.S_ISREG(path.stat().st_mode):
                return b"", "is not a regular file"
            content = path.read_bytes()
        except OSError as error:
            return b"", _unreadable(error)
        whole = hashlib.sha256(content).hexdigest() == image_id
        return content, "" if whole else "is damaged: its content has changed"


def _writing(content: bytes) -> Callable[[BinaryIO], object]:
    return lambda file: file.write(content)


def _unreadable(error: OSError) -> str:
    gone = isinstance(error, FileNotFoundError | NotADirectoryError)
    return "has gone" if gone else f"cannot be read: {error.strerror}"
