"""The store's folder of images where workers on other machines share it: they write images there themselves."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from line_neurons.agent.errors import UsageError, reason_of
from line_neurons.tools.cache.image_files import image_path_in
from line_neurons.tools.store.atomic_files import atomic_write

_MARK = ".shared"
"""A file of the folder; who reads the same text from it sees the same folder."""


@dataclass(frozen=True)
class SharedImages:
    """The store's folder of images, as a worker sees it."""

    folder: Path
    mark: str

    def check(self) -> None:
        """Check that this machine sees the folder of the store, and may write there.

        Raises:
            UsageError: it does not.
        """
        remedy = "mount the store's folder of images there, or leave --worker-files out"
        try:
            if (self.folder / _MARK).read_text("utf-8") != self.mark:
                raise UsageError(f"{str(self.folder)!r:.200} is of another store", remedy)
            with TemporaryFile(dir=self.folder):
                pass
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{str(self.folder)!r:.200} is not the store's folder of images: {reason_of(error)}", remedy
            ) from error

    def write(self, png: bytes) -> tuple[str, int]:
        """Write the file of an image; return its id and its size in bytes.

        Raises:
            UsageError: it cannot be written.
        """
        name = hashlib.sha256(png).hexdigest()
        try:
            with atomic_write(image_path_in(self.folder, name), durable=False) as file:
                file.write(png)
        except OSError as error:
            raise UsageError(
                f"{str(self.folder)!r:.200} cannot be written: {reason_of(error)}",
                "free some space there, or leave --worker-files out",
            ) from error
        return name, len(png)


def shared_images(store: Path, folder: str) -> SharedImages:
    """Mark a store's folder of images, and return it as workers see it, under the path ``folder``."""
    path = store / "images" / _MARK
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, new=True) as file:
        file.write(secrets.token_hex(16).encode())
    return SharedImages(Path(folder), path.read_text("utf-8"))
