"""The sets of images of a unit: its label's, the strongest of the history and of the control set, and others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import DrawnImage
from line_neurons.agent.seeds import derive_seed
from line_neurons.eval.edits.subjects import RankedImages, Subject
from line_neurons.eval.visual.folders import Folder
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.cache.reader import stored_images, strongest_images
from line_neurons.tools.editors.edited_images import keep_canvas, keep_image
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.results.visual import BEST, LINE, NATURAL, OWN_SETS, RAW, ROBUST, SetImage
from line_neurons.tools.targets.base import layer_fingerprint

if TYPE_CHECKING:
    from line_neurons.tools.targets.canvas import Canvas
    from line_neurons.tools.targets.gradients.differentiable import DifferentiableLayer
    from line_neurons.tools.targets.gradients.maximisation import Kind

OnStep = Callable[[str, int, int], None]


class NoImagesError(Exception):
    """A unit has no images of a set; the text says why."""


@dataclass(frozen=True)
class Maximiser:
    """Finds images by gradients, and keeps them in the cache.

    Args:
        canvas: how the target prepares images.
    """

    components: Components
    layer: DifferentiableLayer
    canvas: Canvas
    steps: int

    @cached_property
    def _target(self) -> str:
        return layer_fingerprint(self.components.target, self.layer.output.info.path)

    def images(
        self, unit: int, kind: Kind, count: int, seed: int, on_progress: OnStep | None = None
    ) -> list[SetImage]:
        """Return images that excite a unit; each is found once.

        Raises:
            NoImagesError: the unit has no gradient.
        """
        from line_neurons.tools.targets.gradients.maximisation import maximise

        path = self.layer.output.info.path
        fingerprint = f"fourier-{kind}:1 steps={self.steps} {self._target}"
        found = []
        for place in range(count):
            own = derive_seed("maximisation", seed, unit, place)

            def report(step: int, place: int = place) -> None:
                if on_progress:
                    on_progress(
                        f"unit {unit}: finding images by gradients ({kind})",
                        place * self.steps + step, count * self.steps,
                    )  # fmt: skip

            def make(own: int = own, report: Callable[[int], None] = report) -> DrawnImage:
                pixels = maximise(self.layer, self.canvas, unit, kind, seed=own, steps=self.steps, on_step=report)
                return DrawnImage(encode_png(pixels), composed=True)

            try:
                image = keep_image(self.components.cache, fingerprint, f"maximum of {path} {unit}", "", own, make)
            except UsageError as error:
                raise NoImagesError(error.message) from error
            found.append(SetImage(image, f"found by gradients, seed {own}"))
        return found


@dataclass(frozen=True)
class ImageSets:
    """The sets of images of the units of a run, each image on a canvas in the cache.

    Args:
        count: images of each set.
        ranked: images of the control set; None without any, as ``unranked`` says.
        unranked: why there are none.
        maximiser: finds images by gradients; None: no such sets.
    """

    components: Components
    run: Run
    units: tuple[int, ...]
    side: int
    count: int
    seed: int
    ranked: RankedImages | None
    unranked: str = ""
    maximiser: Maximiser | None = None
    others: Mapping[str, Folder] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The sets, in order."""
        own = OWN_SETS if self.maximiser else OWN_SETS[:3]
        return (*own, *self.others)

    def images(self, name: str, unit: Unit, on_progress: OnStep | None = None) -> list[SetImage]:
        """Return the images of a unit's set.

        Raises:
            NoImagesError: there are none.
            UsageError: a file of a folder is no image.
        """
        if name in {RAW, ROBUST}:
            assert self.maximiser
            kind: Kind = "raw" if name == RAW else "robust"
            return self.maximiser.images(unit.unit, kind, self.count, self.seed, on_progress)
        if name == NATURAL:
            return self._natural(unit.unit)
        if name == LINE:
            return self._stored(unit.images[: self.count], unit.unit, "the store has no images of its label")
        if name == BEST:
            generator = str(self.run.fingerprints.get("generator", ""))
            strongest = strongest_images(
                self.components.store, self._target, self.run.layer, unit.unit, self.count, generator
            )
            return self._stored(strongest, unit.unit, "the store has no measured images of its generator")
        return self._other(self.others[name], unit)

    @property
    def _target(self) -> str:
        return str(self.run.fingerprints.get("target", ""))

    def _natural(self, unit: int) -> list[SetImage]:
        if self.ranked is None:
            raise NoImagesError(self.unranked)
        return [SetImage(self._kept(subject.image), subject.name) for subject in self._strongest[unit]]

    @cached_property
    def _strongest(self) -> dict[int, list[Subject]]:
        """The strongest control images of all units, for which the set is read once."""
        assert self.ranked
        return self.ranked.strongest(self.units, self.count)

    def _stored(self, images: Sequence[str], unit: int, none: str) -> list[SetImage]:
        stored = stored_images(self.components.store, images, self._target, self.run.layer, unit)
        found = [SetImage(self._kept(one.content), one.prompt) for one in stored if one.content]
        if not found:
            raise NoImagesError(none)
        return found

    def _other(self, folder: Folder, unit: Unit) -> list[SetImage]:
        found = folder.images(unit.unit, unit.name or "")
        if not found:
            raise NoImagesError(f"{folder.path} has no images of it")
        kept = [SetImage(self._kept(one.content), one.name) for one in found]
        if len(kept) <= self.count:
            return kept
        target = self.components.target
        rows = target.activate([self.png(one.image) for one in kept], [self.run.layer])[self.run.layer]
        order = np.argsort(-rows[:, unit.unit], kind="stable")[: self.count]
        return [kept[at] for at in order]

    def _kept(self, content: bytes) -> str:
        return keep_canvas(self.components.cache, content, self.side)

    def png(self, image: str) -> bytes:
        """Return the file of an image in the cache."""
        return self.components.cache.image_bytes(image)


def sample_name(content: bytes) -> str:
    """Return the name of an image's content, which tells equal images."""
    return hashlib.sha256(content).hexdigest()


def open_folders(texts: Sequence[str]) -> dict[str, Folder]:
    """Read options ``NAME=FOLDER``.

    Raises:
        UsageError: one has another form, a name twice or that of another set, or names no folder.
    """
    found: dict[str, Folder] = {}
    for text in texts:
        name, equals, place = text.partition("=")
        name = name.strip()
        if not (name and equals and place):
            raise UsageError(f"--other {text!r:.80} is not NAME=FOLDER", "write --other dexter=FOLDER")
        if name in found or name in OWN_SETS:
            raise UsageError(f"there is a set {name!r:.40} already", "give the folder another name")
        found[name] = Folder(Path(place).expanduser())
    return found
