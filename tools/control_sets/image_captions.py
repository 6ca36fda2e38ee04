"""Captions of control images: their classes as a stand-in, or a vision model's sentences."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from threading import Lock

from line_neurons.agent.concepts import class_concept
from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control, ControlSet

CLASSES = "captions"
"""Name of the captioner that takes the caption of an image, or its class, as its description."""


def class_captions(control: Control, rows: Sequence[int]) -> list[str]:
    """Return the class of each control image, by row; empty for an image without one."""
    return [class_concept(control.classes[label]) if (label := control.labels[row]) >= 0 else "" for row in rows]


class ImageCaptions:
    """Captions of the images of a control set by a vision model; may be used from several threads.

    The set is read through once, to learn which chunk has which rows; then single chunks are.
    """

    def __init__(self, images: ControlSet, caption: Callable[[bytes], str], fingerprint: str) -> None:
        self._images, self._caption, self.fingerprint = images, caption, fingerprint
        self._starts: list[int] = []
        self._reading = Lock()

    def of(self, rows: Sequence[int]) -> list[str]:
        """Return the caption of each image, by row.

        Raises:
            UsageError: the control set has fewer images than when it was measured.
            BackendError: the vision model failed.
        """
        with self._reading:
            found = {row: self._caption(image) for row, image in self._read(sorted(set(rows)))}
        if missing := set(rows) - found.keys():
            raise UsageError(
                f"the control set no longer has its image number {min(missing)}", "put the images back"
            )
        return [found[row] for row in rows]

    def _read(self, rows: Sequence[int]) -> list[tuple[int, bytes]]:
        if not self._starts:
            at = 0
            for chunk in self._images.chunks():
                self._starts.append(at)
                at += len(chunk.images)
        chunks: dict[int, list[int]] = {}
        for row in rows:
            chunks.setdefault(bisect_right(self._starts, row) - 1, []).append(row)
        found = []
        for number, own in chunks.items():
            chunk = next(iter(self._images.chunks(number)))
            start = self._starts[number]
            found += [(row, chunk.images[row - start]) for row in own if row - start < len(chunk.images)]
        return found
