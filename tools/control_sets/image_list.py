"""A few images as a control set of one chunk, so that the cache keeps their activations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from line_neurons.agent.ports import ControlChunk


@dataclass(frozen=True)
class ImageList:
    """Images, with their classes where these are known; implements the port ``ControlSet``.

    Args:
        kind: what they are, the start of the fingerprint.
        names: the class of each image; empty for images without classes.
    """

    images: tuple[bytes, ...]
    kind: str
    names: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """A hash of the images and their classes, after their kind."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(hashlib.sha256(image).digest())
        if self.names:
            digest.update(repr(self.names).encode())
        return f"{self.kind}:{digest.hexdigest()}"

    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, sorted."""
        return tuple(sorted(set(self.names)))

    def chunks(self, start: int = 0) -> Iterator[ControlChunk]:
        """Yield all images at once."""
        if not start:
            classes = self.classes()
            labels = tuple(map(classes.index, self.names)) if self.names else (-1,) * len(self.images)
            yield ControlChunk(self.images, labels)

    @property
    def total(self) -> int:
        """One chunk."""
        return 1

    @property
    def size(self) -> int:
        """The number of images."""
        return len(self.images)
