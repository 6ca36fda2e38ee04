"""What a worker does: open a generator and a target, generate images, and measure them where they were made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from line_neurons.agent.errors import BackendError, DrainedError, LineError, reason_of
from line_neurons.agent.ports import DrawnImage, Generator, ImageRequest, LayerInfo, Target
from line_neurons.agent.presets import SERVERS
from line_neurons.agent.settings import Settings, revised
from line_neurons.tools.cache.validation import activate, checked_images, one_line_errors
from line_neurons.tools.component_opening import generator_of, target_of
from line_neurons.tools.devices import machine
from line_neurons.tools.engines.pool import Description
from line_neurons.tools.engines.shared_images import SharedImages, shared_images
from line_neurons.tools.generators.text_to_image import TextToImage
from line_neurons.tools.packages import installed_versions, source_hash
from line_neurons.tools.parallel import parallel_map

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations, ImageData
    from line_neurons.tools.targets.base import ModelBundle

_SECRET = ("langchain", *SERVERS)
"""Settings that no worker needs."""
_UNUSED = frozenset({"langgraph", "langchain-ollama", "xllamacpp"})
"""Packages that only a driver uses."""


@dataclass(frozen=True)
class Recipe:
    """What a worker opens; plain data, except for a model in memory.

    Args:
        model: the target's spec.
        settings: of the run, as a mapping.
        store: folder of the store, where embeddings of an image bank are kept.
        bundle: a model in memory; None where ``model`` is a spec that can be opened.
        shared: the store's folder of images, where workers write their images themselves.
    """

    model: str
    settings: dict[str, Any]
    assets: Path
    store: Path
    bundle: ModelBundle | None = None
    shared: SharedImages | None = None

    def on(self, device: str) -> Recipe:
        """Return the recipe for a device."""
        return replace(self, settings={**self.settings, "device": device})

    def open(self) -> tuple[Generator, Target]:
        """Open generator and target, on one device."""
        settings = revised(self.settings, {})
        target = target_of(settings, self.model, self.bundle, self.assets)
        return generator_of(settings, self.assets, self.store), target


def recipe_of(settings: Settings, model: str, bundle: ModelBundle | None, *, assets: Path, store: Path) -> Recipe:
    """Return the recipe of settings, without secrets."""
    values = settings.model_dump(exclude={*_SECRET, "devices", "ray"})
    shared = shared_images(store, settings.worker_files) if settings.worker_files else None
    return Recipe(model, values, assets, store, bundle, shared)


@dataclass(frozen=True)
class Parts:
    """What the driver needs to know of the generator and the target of workers, which are all alike."""

    generator: str
    generator_batch: int
    generator_identity: dict[str, Any] | None
    target: str
    target_batch: int
    layers: list[LayerInfo]
    unit_names: dict[str, Sequence[str]]
    spec: str
    note: str
    doubts: tuple[str, ...]
    machine: dict[str, Any]


@dataclass(frozen=True)
class SentImage:
    """A generated image as it travels: no pixels, but activations [n_units] by layer.

    The bytes of the file are an array, which crosses to another machine without a copy; none where ``stored``, id
    and size of the file, says that the worker has written it into the store.
    """

    png: NDArray[np.uint8]
    provenance: dict[str, Any]
    composed: bool
    colour: str
    measured: dict[str, Activations]
    stored: tuple[str, int] | None = None

    def drawn(self, fingerprints: Callable[[str], str]) -> DrawnImage:
        """Return the image as generators return it; ``fingerprints`` are those of layers."""
        measured = {(fingerprints(layer), layer): row for layer, row in self.measured.items()}
        return DrawnImage(
            self.png.tobytes(), self.provenance, composed=self.composed, colour=self.colour, measured=measured,
            stored=self.stored,
        )  # fmt: skip


class Hands:
    """The methods of a worker; two of them may be called at the same time."""

    _generator: Generator
    _target: Target
    _shared: SharedImages | None = None

    def begin(self, recipe: Recipe, place: str) -> Description:
        """Open generator and target, and say what they are.

        Raises:
            LineError: they cannot be opened; the message names the place.
        """
        _use_device(recipe.settings["device"])
        try:
            self._shared = recipe.shared
            if self._shared:
                self._shared.check()
            self._generator, self._target = recipe.open()
            description = self._describe(place)
            # A worker without memory for the weights is none.
            if isinstance(self._generator, TextToImage):
                self._generator.load()
            return description
        except LineError as error:
            error.message = f"the worker on {place} cannot start: {error.message}"
            raise
        except Exception as error:
            raise BackendError(f"the worker on {place} cannot start: {reason_of(error)}") from error

    def generate(self, requests: Sequence[ImageRequest], layers: Sequence[str]) -> list[SentImage]:
        """Generate images and measure them at ``layers``; see ``Generator.synthesize``."""
        batch = max(1, self._generator.batch_size)
        images: list[DrawnImage] = []
        for start in range(0, len(requests), batch):
            images += checked_images(self._generator, requests[start : start + batch])
        rows = self._measured(images, layers)
        measured = [{layer: found[place] for layer, found in rows.items()} for place in range(len(images))]
        return list(parallel_map(lambda pair: self._sent(*pair), zip(images, measured, strict=True)))

    def _sent(self, image: DrawnImage, measured: dict[str, Activations]) -> SentImage:
        """Return an image as it travels; its file is written here where the folder of images is shared."""
        # The driver generates one of a single colour again.
        stored = self._shared.write(image.png) if self._shared and not image.colour else None
        file = np.frombuffer(b"" if stored else image.png, np.uint8)
        return SentImage(file, dict(image.provenance), image.composed, image.colour or "", measured, stored)

    def activate(self, images: Sequence[ImageData], layers: Sequence[str]) -> dict[str, Activations]:
        """See ``Target.activate``."""
        return one_line_errors(
            "the target", lambda: self._target.activate(images, layers), "free some, or take a smaller batch"
        )

    def suggest(self, concepts: Sequence[str], limit: int) -> list[str]:
        """See ``Generator.suggest``."""
        return self._generator.suggest(concepts, limit)

    def check_classes(self) -> None:
        """See ``HookedTarget.check_classes``."""
        check = getattr(self._target, "check_classes", None)
        if check is not None:
            check()

    def _measured(self, images: Sequence[DrawnImage], layers: Sequence[str]) -> dict[str, Activations]:
        """Return activations of images that can be scored; nothing if one of them cannot be measured.

        The driver measures those that it needs then, and says which one fails.
        """
        if not layers or any(image.colour for image in images):
            return {}
        pixels = [image.png if image.pixels is None else image.pixels for image in images]
        try:
            return activate(self._target, pixels, ["an image"] * len(images), layers)
        except (LineError, DrainedError):
            return {}

    def _describe(self, place: str) -> Description:
        generator, target = self._generator, self._target
        layers = target.layers()
        identity = getattr(generator, "identity", None)
        names = {layer.path: names for layer in layers if (names := target.unit_names(layer.path))}
        parts = Parts(
            generator=generator.fingerprint,
            generator_batch=generator.batch_size,
            generator_identity=identity() if identity else None,
            target=target.fingerprint,
            target_batch=target.batch_size,
            layers=layers,
            unit_names=names,
            spec=getattr(target, "spec", ""),
            note=getattr(target, "note", ""),
            doubts=tuple(getattr(target, "doubts", ())),
            machine=machine(),
        )
        return Description(place, _identity(parts), parts)


def _identity(parts: Parts) -> dict[str, str]:
    """Return what must be the same for all workers, so that no image depends on which one made it."""
    arithmetic = parts.machine["torch"] or {}
    return {
        "source of line-neurons": source_hash()[:16],
        **{f"version of {name}": found for name, found in installed_versions().items() if name not in _UNUSED},
        "generator": parts.generator,
        "target": parts.target,
        # On a CPU the last bits of a sum depend on it.
        **({} if arithmetic.get("gpus") else {"number of threads": str(arithmetic.get("threads", ""))}),
    }


def _use_device(name: str) -> None:
    """Make a GPU the current one, or else every process would take memory of the first."""
    if name.startswith("cuda:"):
        import torch

        if torch.cuda.is_available() and int(name.partition(":")[2] or 0) < torch.cuda.device_count():
            torch.cuda.set_device(name)
