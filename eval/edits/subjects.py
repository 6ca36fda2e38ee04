"""The images to edit: a label's own, the strongest of the control set, or the strongest of a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from line_neurons.agent.concepts import class_concept, concept_key
from line_neurons.agent.errors import StoreError, UsageError
from line_neurons.agent.ports import ControlSet, ImageRequest, Progress
from line_neurons.agent.prompts import image_requests
from line_neurons.agent.seeds import derive_rng
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.cache.file_hashes import FileHashes
from line_neurons.tools.control_sets import PrecomputedControl, control_activations
from line_neurons.tools.control_sets.folder import FolderControlSet

LABEL, STRONGEST = "label", "strongest"


@dataclass(frozen=True)
class Subject:
    """An image to edit.

    Args:
        request: how the generator made it, where it did.
        activation: the unit's, before the image was brought to the canvas; nan if unknown.
    """

    image: bytes
    name: str
    request: ImageRequest | None = None
    activation: float = float("nan")

    @property
    def sha256(self) -> str:
        """Hash of the image's file."""
        return hashlib.sha256(self.image).hexdigest()


def own_images(components: Components, concept: str, count: int, seed: int, skipped: int = 0) -> list[Subject]:
    """Generate images of a concept as a search does, after those that a search scores it on.

    Args:
        skipped: number of further images that are left out.

    Raises:
        NotDrawableError: the generator has no images of it.
    """
    settings = components.settings
    requests = image_requests(concept, count, seed, first=settings.images + skipped)
    images = components.cache.images(requests, components.generator, components.progress_for("generating images"))
    return [
        Subject(components.cache.image_bytes(image), f"{concept} {number}", request)
        for number, (image, request) in enumerate(zip(images, requests, strict=True), 1)
    ]


def other_images(
    components: Components, words: Sequence[str], unit: int, count: int, offers: Callable[[str], bool], seed: int
) -> list[Subject]:
    """Generate images of random words that the editor offers, of each as many as of any other.

    Raises:
        UsageError: the editor offers none of them.
    """
    shuffled = derive_rng("insert", seed, unit).sample(list(words), len(words))
    drawn = [word for word in shuffled if offers(word)][:count]
    if not drawn:
        raise UsageError(
            "the editor can put a concept into images of none of the control set's weak classes",
            "name another control set with --control",
        )
    places = [divmod(place, len(drawn)) for place in range(count)]
    return [subject for turn, at in places for subject in own_images(components, drawn[at], 1, seed, skipped=turn)]


class RankedImages:
    """The images of a control set or folder, with their activations at a layer.

    Raises:
        UsageError: it has activations only.
    """

    def __init__(
        self, components: Components, layer: str, images: ControlSet | PrecomputedControl | None, name: str
    ) -> None:
        if images is None or isinstance(images, PrecomputedControl):
            what = (
                "there is no control set"
                if images is None
                else f"the control set {name} has activations, no images"
            )
            raise UsageError(what, "name a folder of images with --on")
        self._images = images
        self._name = name
        self.progress: Progress | None = components.progress_for("control set images")
        found = control_activations(components.cache, components.target, [layer], images, self.progress)[layer]
        self._column = found.column
        self.labels = found.labels
        self._samples: dict[tuple[int, int], tuple[list[bytes], list[int]]] = {}
        self.classes = found.classes

    @property
    def fingerprint(self) -> str:
        """Of the set."""
        return self._images.fingerprint

    def strongest(self, units: Iterable[int], count: int) -> dict[int, list[Subject]]:
        """Return the images with the highest activations of each unit, each image once."""
        # Twice as many: of images that occur twice one counts.
        order = {unit: np.argsort(-self._column(unit), kind="stable")[: 2 * count] for unit in units}
        files = self.read({int(row) for rows in order.values() for row in rows})
        return {unit: self._distinct(rows, files, unit, count) for unit, rows in order.items()}

    def weakest(self, units: Iterable[int], count: int, seed: int) -> dict[int, list[Subject]]:
        """Return random images of the lower half by activation for each unit."""
        half = len(self.labels) // 2
        order: dict[int, NDArray[np.int64]] = {}
        for unit in units:
            lower = np.argsort(self._column(unit), kind="stable")[:half].tolist()
            drawn = derive_rng("insert", seed, unit).sample(lower, min(2 * count, len(lower)))
            order[unit] = np.array(drawn, np.int64)
        files = self.read({int(row) for rows in order.values() for row in rows})
        return {unit: self._distinct(rows, files, unit, count) for unit, rows in order.items()}

    def _distinct(
        self, rows: NDArray[np.int64], files: Mapping[int, bytes], unit: int, count: int
    ) -> list[Subject]:
        found: dict[bytes, Subject] = {}
        column = self._column(unit)
        for row in rows.tolist():
            label = int(self.labels[row])
            name = f"{self._name} {row}" + (f" ({self.classes[label]})" if label >= 0 else "")
            subject = Subject(files[row], name, activation=float(column[row]))
            found.setdefault(files[row], subject)
        return list(found.values())[:count]

    def of_class(self, concept: str, count: int) -> list[bytes]:
        """Return the first ``count`` images of the class that the concept names; none without such a class."""
        rows = np.flatnonzero(np.isin(self.labels, self._class_of(concept)))[:count].tolist()
        files = self.read(set(rows))
        return [files[row] for row in rows]

    def sample(self, count: int, seed: int) -> tuple[list[bytes], list[int]]:
        """Return ``count`` random images, and their rows; the same ones are read once."""
        if (count, seed) not in self._samples:
            rows = sorted(
                derive_rng("calibration", seed).sample(range(len(self.labels)), min(count, len(self.labels)))
            )
            files = self.read(set(rows))
            self._samples[count, seed] = [files[row] for row in rows], rows
        return self._samples[count, seed]

    def class_names(self, rows: Sequence[int]) -> list[str]:
        """Return the concept of each row's class; empty for an image without a class."""
        return [class_concept(self.classes[at]) if at >= 0 else "" for at in self.labels[list(rows)].tolist()]

    def are_other(self, rows: Sequence[int], concept: str) -> NDArray[np.bool_]:
        """Tell which rows are not of the class that the concept names."""
        return ~np.isin(self.labels[list(rows)], self._class_of(concept))

    def _class_of(self, concept: str) -> list[int]:
        key = concept_key(concept)
        return [
            index
            for index, name in enumerate(self.classes)
            if key in {concept_key(name), concept_key(class_concept(name))}
        ]

    def read(self, rows: set[int]) -> dict[int, bytes]:
        """Return the files of some rows.

        Raises:
            StoreError: the set has fewer images than when it was measured.
        """
        files: dict[int, bytes] = {}
        if not rows:
            return files
        at = 0
        for chunk in self._images.chunks():
            for row, image in enumerate(chunk.images, at):
                if row in rows:
                    files[row] = image
            at += len(chunk.images)
            if len(files) == len(rows):
                return files
        raise StoreError(
            f"the control set {self._name} has fewer images than when it was measured",
            "restore the missing images",
        )


def folder_images(components: Components, folder: Path) -> FolderControlSet:
    """Open a folder of images to edit; folders in it do not count as classes.

    Raises:
        UsageError: it has no images, or cannot be read.
    """
    if not folder.expanduser().is_dir():
        raise UsageError(
            f"{str(folder)!r:.200} is not a folder of images", f"name a folder, {LABEL} or {STRONGEST} with --on"
        )
    digests = FileHashes(components.store / "digests.db")
    return FolderControlSet(
        folder.expanduser(), None, digests, flat=True, value_range=components.settings.image_range
    )
