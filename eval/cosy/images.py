"""Sources of images of concepts for CoSy: a generator, photographs, or a folder in CoSy's layout."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from line_neurons.agent.errors import NotDrawableError, UsageError
from line_neurons.agent.ports import ControlSet, Generator
from line_neurons.agent.settings import Settings
from line_neurons.eval.cosy.formulas import depicted_concepts
from line_neurons.eval.cosy.photographs import PHOTOGRAPHS, Photographs, synonyms
from line_neurons.eval.cosy.protocol import (
    IMAGES,
    REFERENCE_DIFFUSION,
    REFERENCE_GENERATOR,
    Mode,
    requests,
    strict_requests,
)
from line_neurons.graphs.runs.components import BANK_IMAGES, Components
from line_neurons.tools.cache.file_hashes import FileHashes
from line_neurons.tools.control_sets import PrecomputedControl, control_activations, remarks_of
from line_neurons.tools.control_sets.folder import FolderControlSet
from line_neurons.tools.generators.presets import PRESETS
from line_neurons.tools.image_bank.bank import RENDER
from line_neurons.tools.image_bank.opening import uses_image_bank
from line_neurons.tools.images.folders import images_below, list_folder
from line_neurons.tools.images.reading import TraitSummary
from line_neurons.tools.images.skipped import Remarks

if TYPE_CHECKING:
    from line_neurons.agent.ports import Activations, Progress
    from line_neurons.tools.image_bank.bank import Selection

HELD_OUT = "bank:heldout"
"""The part of the image bank that searches do not use."""
_SEARCHED = "bank:search"


class ConceptImages(Protocol):
    """A source of images of concepts, measured at a layer."""

    @property
    def name(self) -> str:
        """Name of the source for users and tables."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Skipped images, a line for each reason."""

    @property
    def fingerprint(self) -> str:
        """Identity of the images."""

    @property
    def count(self) -> int:
        """Images wanted of each concept; 0 for all of a folder."""

    def activations(self, concept: str, place: int, progress: Progress | None = None) -> Activations:
        """Return activations of the layer on the concept's images, float32 [n_images, n_units].

        Args:
            place: number of concepts before it; it decides the images in ``strict`` mode only.

        Raises:
            NotDrawableError: there are no images of it.
        """


@dataclass(frozen=True)
class GeneratedImages:
    """Images from a generator; the store's cache keeps them and their activations.

    Args:
        count: images of each concept.
        note: how it generates, where that differs from the search; a line for the user.
        workers: holds the workers that generate, if any.
    """

    name: str
    generator: Generator
    components: Components
    layer: str
    count: int
    seed: int
    mode: Mode
    note: str = ""
    workers: Components | None = None

    @property
    def parallel(self) -> int:
        """Concepts whose images are generated at the same time."""
        return max(1, getattr(self.generator, "parallel", 1))

    def close(self) -> None:
        """Stop the workers, if there are any."""
        if self.workers:
            self.workers.close()

    @property
    def remarks(self) -> tuple[str, ...]:
        """Skipped images of an image bank."""
        return remarks_of(self.generator)

    @property
    def fingerprint(self) -> str:
        """The generator's fingerprint."""
        return self.generator.fingerprint

    def activations(self, concept: str, place: int, progress: Progress | None = None) -> Activations:
        """See ``ConceptImages``; cached images and activations are reused."""
        drawn = depicted_concepts(concept) if self.name.startswith(("bank", RENDER)) else [concept]
        of_each = [
            requests(thing, self.count, self.seed)
            if self.mode == "fixed"
            else strict_requests(thing, place, self.count, self.seed)
            for thing in drawn
        ]
        chosen = [of_each[index % len(drawn)][index] for index in range(self.count)]
        bank, target = self.components.cache, self.components.target
        images = bank.images(chosen, self.generator, progress)
        return bank.activations(images, target, self.layer, generator=self.generator)


@dataclass(frozen=True)
class FolderImages:
    """Images in a folder for each concept, named as in CoSy, spaces as ``_``.

    Args:
        count: use the first images of each folder by name; 0: all.
    """

    root: Path
    components: Components
    layer: str
    count: int = 0
    _read: dict[str, TraitSummary] = field(default_factory=dict, compare=False)

    @property
    def image_notes(self) -> tuple[str, ...]:
        """How unusual images measured so far were read, with their number."""
        return sum(self._read.values(), TraitSummary()).notes(self.components.settings.image_range)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.name

    @property
    def remarks(self) -> tuple[str, ...]:
        """Files in the folder that are not images of a concept."""
        remarks = Remarks(self.root)
        for image in list_folder(self.root, remarks)[0]:
            remarks.add(image, "in no folder of a concept")
        for _ in images_below(self.root, remarks):
            pass
        return remarks.lines()

    @property
    def fingerprint(self) -> str:
        """The folder's path; cached activations are keyed by the contents of its files."""
        return f"folder:{self.root.resolve()}"

    def activations(self, concept: str, place: int, progress: Progress | None = None) -> Activations:
        """See ``ConceptImages``; activations are cached by the contents of the files."""
        folder = self.root / concept.replace(" ", "_")
        try:
            inside = folder.parent == self.root and folder.name not in {"", ".", ".."} and folder.is_dir()
        except (OSError, ValueError):
            inside = False
        if not inside:
            raise _NoFolderError(concept, f"there is no folder {folder.name!r:.80} in {self.name!r:.80}")
        digests = FileHashes(self.components.store / "digests.db")
        value_range = self.components.settings.image_range
        try:
            images = FolderControlSet(folder, self.count or None, digests, flat=True, value_range=value_range)
        except UsageError as error:
            raise _NoFolderError(concept, error.message) from error
        # An unknown range of values concerns all concepts, so the user has to name it.
        self._read[folder.name] = images.trait_summary
        images.trait_summary.check(str(folder), value_range)
        try:
            found = control_activations(self.components.cache, self.components.target, [self.layer], images)[
                self.layer
            ]
        except UsageError as error:
            raise _NoFolderError(concept, error.message) from error
        if unread := [line for line in found.skipped if line not in images.remarks]:
            raise _NoFolderError(concept, f"an image cannot be read: {unread[0]}")
        return found.dense()


class _NoFolderError(NotDrawableError):
    def __init__(self, concept: str, reason: str) -> None:
        super().__init__(concept, [])
        self.args = (reason,)


def open_images(
    spec: str | None,
    components: Components,
    layer: str,
    *,
    count: int | None,
    seed: int,
    mode: Mode,
    given: Collection[str] = (),
) -> ConceptImages:
    """Open the source of images that ``spec`` names.

    Args:
        spec: ``bank:heldout``, ``bank+icons``, ``render``, ``bank:FOLDER`` for the held-out part of an image bank,
            ``bank:search`` for the part that searches use, which is not independent evidence,
            ``photos:FOLDER`` for the photographs of such a bank, unchanged and each used once, a text-to-image
            model as in a search, or a folder of folders in CoSy's layout. None: the generator of the settings, for
            an image bank its held-out part.
        components: settings, cache and target.
        count: images of each concept; None: the protocol's 50, for a folder all.
        given: settings of the text-to-image model that the user gave for these images. In all others SDXL
            generates as in CoSy's reference code, whatever the search did; other models follow the settings.

    Raises:
        UsageError: there is no such source.
        MissingPartError: its packages, weights or images are missing.
    """
    settings = components.settings
    wanted = spec or settings.generator
    source, _, place = wanted.partition(":")
    if source == PHOTOGRAPHS:
        bank = _like(components, settings.model_copy(update={"generator": f"bank:{place}"})).image_bank
        searched = components.image_bank if uses_image_bank(settings.generator) else None
        return Photographs(wanted, bank, synonyms(searched), components, layer, count or IMAGES, seed)
    folder = Path(wanted).expanduser()
    named = uses_image_bank(wanted) or wanted in PRESETS
    if not named and folder.is_dir() and not (folder / "model_index.json").is_file():
        return FolderImages(folder.resolve(), components, layer, count or 0)
    split: Selection = "search" if wanted == _SEARCHED else "heldout"
    if wanted in {"bank", HELD_OUT, _SEARCHED}:
        wanted = settings.generator if uses_image_bank(settings.generator) else "bank"
    number = count or IMAGES
    update: dict[str, Any] = {"generator": wanted, "images": number, "max_concurrent_units": 1}
    note = ""
    if wanted.partition("=")[0] == REFERENCE_GENERATOR:
        reference = {name: value for name, value in REFERENCE_DIFFUSION.items() if name not in given}
        update["diffusion"] = diffusion = settings.diffusion.model_copy(update=reference)
        note = (
            f"{wanted} generates with {diffusion.steps} steps, guidance {diffusion.guidance:g} and "
            f"{diffusion.size} pixels, CoSy's code with 50, 5 and 1024; set with --steps, --guidance, --size"
        )
    made = _like(components, settings.model_copy(update=update))
    if not uses_image_bank(wanted):
        # Workers measure what they generate.
        made = replace(made, layers={layer}, distributed=True)
        return GeneratedImages(wanted, made.generator, components, layer, number, seed, mode, note, made)
    name = f"bank:{split}" if wanted == "bank" else f"{wanted} ({split})"
    return GeneratedImages(name, made.bank_generator(split), components, layer, number, seed, mode)


def open_control(spec: str | None, components: Components) -> tuple[str, ControlSet | PrecomputedControl]:
    """Open a control set, and return it after its name; of the image bank it is the held-out part.

    Args:
        spec: a control set as in a search; None: that of the settings.

    Raises:
        UsageError: there is no such set, or none is named.
    """
    settings = components.settings
    wanted = spec or settings.control or "none"
    if wanted == "none":
        raise UsageError("CoSy needs a control set, and none is named", "name one with --control")
    if wanted not in {"bank", HELD_OUT}:
        # The class names of a run belong to its own control set.
        names = settings.class_names if wanted == settings.control else None
        update = {"control": wanted, "class_names": names}
        control = _like(components, settings.model_copy(update=update)).control_set
        assert control is not None
        return wanted, control
    from line_neurons.tools.image_bank.control import BankControl

    bank = components.image_bank
    images = settings.control_images or BANK_IMAGES
    return HELD_OUT, BankControl(bank, bank.captions("heldout"), m=images, split="heldout")


def _like(components: Components, settings: Settings) -> Components:
    return Components(components.model, settings, components.on_progress)
