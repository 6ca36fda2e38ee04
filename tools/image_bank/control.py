"""The image bank as a control set: a few neutral images of each class."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import ControlChunk
from line_neurons.tools.image_bank.bank import Bank, Entry, Selection
from line_neurons.tools.image_bank.generator import FORMAT
from line_neurons.tools.image_bank.painter import Painter
from line_neurons.tools.image_bank.plans import ImageSource, Plan, PlannedSubject

_AT_ONCE = 32


class BankControl:
    """Composes control images from one split of a bank; implements the port ``ControlSet``.

    Angle and light are neutral and the seeds differ from the search's, so that no control image occurs in the
    search.

    Args:
        classes: captions of the bank; a caller leaves out what initial scoreboards must not hold.
        m: images of each class, at least 1.
        size: side in pixels.
        split: ``heldout`` for images that no search has seen.

    Raises:
        UsageError: no class is given, or a class has no image in the split.
    """

    def __init__(
        self, bank: Bank, classes: Sequence[str], m: int = 4, size: int = 256, split: Selection = "search"
    ) -> None:
        by_caption: dict[str, list[Entry]] = defaultdict(list)
        for entry in bank.select(split):
            if entry.is_subject:
                by_caption[entry.caption].append(entry)
        unknown = sorted(set(classes) - set(by_caption))
        if unknown:
            raise UsageError(
                f"the image bank {bank.name!r} has no {split} image of {unknown[0]!r}",
                "choose from its captions",
            )
        if not classes or m < 1:
            raise UsageError("a control set needs a class and at least one image of each", "give both")
        self._bank = bank
        self._classes = tuple(sorted(set(classes)))
        self._by_caption = by_caption
        self._m = m
        self._together = max(1, _AT_ONCE // m)
        self._size = size
        self._split = split
        self._painter = Painter(bank, split, size)

    @property
    def fingerprint(self) -> str:
        """Hash of the bank, the classes, and the number and size of images."""
        identity = [FORMAT, self._bank.fingerprint, self._classes, self._m, self._size, _AT_ONCE]
        # Runs are recorded with fingerprints from when there was but one split.
        apart = [] if self._split == "search" else [self._split]
        digest = hashlib.sha256(json.dumps([*identity, *apart, *self._painter.identity]).encode()).hexdigest()
        return f"image-bank-control:{self._bank.name}:{digest[:32]}"

    def identity(self) -> dict[str, Any]:
        """The contents of the fingerprint, by name; classes by number and hash."""
        return {
            "format": FORMAT,
            "image_bank": self._bank.fingerprint,
            "classes": len(self._classes),
            "classes_sha256": hashlib.sha256(json.dumps(self._classes).encode()).hexdigest(),
            "pictures": self._m,
            "size": self._size,
            "split": self._split,
        }

    def classes(self) -> tuple[str, ...]:
        """The class names, sorted."""
        return self._classes

    def chunks(self, start: int = 0) -> Iterator[ControlChunk]:
        """Yield PNG files class by class: as many whole classes at a time as have about 32 images.

        Raises:
            BackendError: an image of the bank can no longer be read.
        """
        for first in range(start * self._together, len(self._classes), self._together):
            labels = range(first, min(first + self._together, len(self._classes)))
            yield ControlChunk(
                images=tuple(png for label in labels for png in self.images(self._classes[label])),
                labels=tuple(label for label in labels for _ in range(self._m)),
            )

    @property
    def total(self) -> int:
        """The number of chunks."""
        return -(-len(self._classes) // self._together)

    @property
    def size(self) -> int:
        """The number of images."""
        return len(self._classes) * self._m

    def images(self, class_name: str) -> list[bytes]:
        """Return the images of a class as PNG files.

        Raises:
            UsageError: there is no such class.
            BackendError: an image of the bank can no longer be read.
        """
        if class_name not in self._classes:
            raise UsageError(f"the control set has no class {class_name!r}", "see its classes")
        sources = tuple(ImageSource(entry, class_name, 1.0) for entry in self._by_caption[class_name])
        plan = self._painter.prepare(Plan(class_name, (PlannedSubject(class_name, sources),)))
        return [
            self._painter.paint(plan, "", "", key=f"control\0{class_name}\0{number}", turn=number).png
            for number in range(self._m)
        ]
