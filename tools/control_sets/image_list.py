"""A few images as a control set of one chunk, so that the cache keeps their activations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from line_neurons.agent.ports import ControlChunk


@dataclass(frozen=True)
class ImageList:
    """Images without classes; implements the port ``ControlSet``.

    Args:
        images: encoded images.
        kind: what they are, the start of the fingerprint.
    """

    images: tuple[bytes, ...]
    kind: str

    @property
    def fingerprint(self) -> str:
        """A hash of the images, after their kind."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(hashlib.sha256(image).digest())
        return f"{self.kind}:{digest.hexdigest()}"

    def classes(self) -> tuple[str, ...]:
        """The images have no classes."""
        return ()

    def chunks(self, start: int = 0) -> Iterator[ControlChunk]:
        """Yield all images at once."""
        if not start:
            yield ControlChunk(self.images, (-1,) * len(self.images))

    @property
    def total(self) -> int:
        """One chunk."""
        return 1

    @property
    def size(self) -> int:
        """The number of images."""
        return len(self.images)
