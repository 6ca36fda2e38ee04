"""Components that reply at once or after a fixed time, to measure the loop around them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from line_neurons.agent.ports import ControlChunk, DrawnImage, ImageRequest, LayerInfo, Progress, Prompt, Proposal
from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.components import Components

if TYPE_CHECKING:
    from line_neurons.agent.ports import Generator, ImageData, LanguageModel

LAYER = "head"
UNITS = 2048


@dataclass
class InstantModel:
    """Proposes a word, decided by the seed alone.

    Args:
        words: size of its vocabulary; 0: a new word for every request.
    """

    words: int = 0
    seconds: float = 0.0
    fingerprint: str = "instant model"

    def propose(self, prompt: Prompt, *, seed: int, temperature: float) -> Proposal:
        """See ``ports.LanguageModel.propose``."""
        if self.seconds:
            time.sleep(self.seconds)
        return Proposal("At once.", f"thing {seed % self.words if self.words else seed}", "{}")


@dataclass
class InstantGenerator:
    """Writes the request itself, as JSON in the pixels of one row."""

    fingerprint: str = "instant generator"
    batch_size: int = 8
    drawn: int = 0

    def synthesize(self, requests: Sequence[ImageRequest], progress: Progress | None = None) -> list[DrawnImage]:
        """See ``ports.Generator.synthesize``."""
        self.drawn += len(requests)
        return [DrawnImage(spelt(json.dumps([request.prompt, request.seed]))) for request in requests]

    def suggest(self, concepts: Sequence[str], limit: int) -> list[str]:
        """See ``ports.Generator.suggest``."""
        return []


def spelt(text: str, padding: bytes = b"") -> bytes:
    """Return a PNG file with a text as its pixels; a private chunk may bring it to the size of a photograph."""
    file, more = BytesIO(), PngInfo()
    if padding:
        more.add(b"paDd", padding)
    pixels = np.frombuffer(text.encode(), np.uint8)[None]
    Image.fromarray(pixels).save(file, "PNG", compress_level=1, pnginfo=more)
    return file.getvalue()


@dataclass
class SlowGenerator(InstantGenerator):
    """Takes 50 ms for one image and 80 ms for a full batch of eight, linear in between."""

    def synthesize(self, requests: Sequence[ImageRequest], progress: Progress | None = None) -> list[DrawnImage]:
        """See ``ports.Generator.synthesize``."""
        time.sleep(sum(map(latency, batches(len(requests), self.batch_size))))
        return super().synthesize(requests, progress)


def batches(images: int, size: int) -> list[int]:
    """Return the size of each batch; all but the last are full."""
    full, rest = divmod(images, size)
    return [size] * full + ([rest] if rest else [])


def latency(images: int) -> float:
    """Return the seconds of the slow generator for a batch of 1 to 8 images."""
    return 0.05 + 0.03 * (images - 1) / 7


@dataclass
class InstantTarget:
    """A layer whose activations are derived from the hashes of images."""

    fingerprint: str = "instant target"
    batch_size: int = 32
    passes: int = 0

    def layers(self) -> list[LayerInfo]:
        """See ``ports.Target.layers``."""
        return [LayerInfo(LAYER, "Linear", (UNITS,), UNITS)]

    def unit_names(self, layer: str) -> Sequence[str] | None:
        """See ``ports.Target.unit_names``."""
        return None

    def activate(
        self, images: Sequence[ImageData], layers: Sequence[str], progress: Progress | None = None
    ) -> Any:
        """See ``ports.Target.activate``."""
        self.passes += len(images)
        seeds = [int.from_bytes(hashlib.sha256(bytes(image)).digest()[:8], "big") for image in images]
        rows = [np.random.default_rng(seed).random(UNITS, np.float32) for seed in seeds]
        return dict.fromkeys(layers, np.array(rows, np.float32).reshape(-1, UNITS))


@dataclass
class InstantControl:
    """Twenty classes of one image."""

    fingerprint: str = "instant control"
    names: tuple[str, ...] = field(default_factory=lambda: tuple(f"class {index}" for index in range(20)))

    def classes(self) -> tuple[str, ...]:
        """See ``ports.ControlSet.classes``."""
        return self.names

    def chunks(self, start: int = 0) -> Iterator[ControlChunk]:
        """See ``ports.ControlSet.chunks``."""
        for index, name in enumerate(self.names[start:], start):
            yield ControlChunk((name.encode(),), (index,))

    @property
    def total(self) -> int:
        """See ``ports.ControlSet.total``."""
        return len(self.names)

    @property
    def size(self) -> int:
        """See ``ports.ControlSet.size``."""
        return len(self.names)


def instant_components(
    store: Path, model: LanguageModel | None = None, generator: Generator | None = None, **settings: Any
) -> Components:
    """Return real settings, cache, run store and checkpoints around instant components, or those given."""
    return Components("instant:model", Settings(store=store, **settings)).with_(
        language_model=model or InstantModel(),
        generator=generator or InstantGenerator(),
        target=InstantTarget(),
        control_set=InstantControl(),
    )
