"""Images of one colour, a target whose three units see red, green and blue, and a generator of colours."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from line_neurons.agent.errors import NotDrawableError
from line_neurons.agent.ports import ControlChunk, DrawnImage, LayerInfo
from line_neurons.agent.settings import Settings
from line_neurons.eval.baselines.task import BaselineTask
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.control_sets import PrecomputedControl
from support.fakes import ScriptedModel

LAYER = "pixels"
COLOURS = {
    "rose": (250, 10, 60), "brick": (180, 60, 40), "leaf": (20, 200, 40), "moss": (60, 140, 30),
    "sky": (90, 160, 250), "ink": (10, 10, 120), "snow": (240, 240, 240), "coal": (10, 10, 10),
}  # fmt: skip


def png(colour: tuple[int, int, int], spot: tuple[int, int, int] | None = None) -> bytes:
    """An image of one colour, with a spot of another in its upper left quarter."""
    image = Image.new("RGB", (32, 32), colour)
    if spot:
        image.paste(spot, (0, 0, 16, 16))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class PixelTarget:
    """Units are the means of the three channels."""

    names: tuple[str, ...] | None = None
    fingerprint: str = "pixels"
    batch_size: int = 64
    passes: int = 0

    def layers(self):
        return [LayerInfo(LAYER, "mean", (3,), 3)]

    def unit_names(self, layer):
        return self.names

    def activate(self, images, layers, progress=None):
        self.passes += len(images)
        decoded = [np.asarray(Image.open(io.BytesIO(image)).convert("RGB")) for image in images]
        rows = [one.reshape(-1, 3).mean(0) for one in decoded]
        return dict.fromkeys(layers, np.array(rows, np.float32).reshape(len(images), 3))


@dataclass
class ColourGenerator:
    """Draws the concepts of ``COLOURS``, a little darker with each seed."""

    fingerprint: str = "colours"
    batch_size: int = 1
    drawn: list = field(default_factory=list)

    def synthesize(self, requests, progress=None):
        for request in requests:
            if request.concept not in COLOURS:
                raise NotDrawableError(request.concept, [])
        self.drawn += requests
        return [DrawnImage(png(self._colour(request)), composed=True) for request in requests]

    def suggest(self, concepts, limit):
        return []

    @staticmethod
    def _colour(request):
        return tuple(max(0, channel - request.seed % 5) for channel in COLOURS[request.concept])


@dataclass
class ColourControl:
    """An image of each colour, two to a part."""

    images: dict[str, bytes]
    fingerprint: str = "colour control"

    def classes(self):
        return tuple(sorted(self.images))

    def chunks(self, start=0):
        names = self.classes()
        for first in range(2 * start, len(names), 2):
            part = range(first, min(first + 2, len(names)))
            yield ControlChunk(tuple(self.images[names[label]] for label in part), tuple(part))

    @property
    def total(self):
        return -(-len(self.images) // 2)

    @property
    def size(self):
        return len(self.images)


@pytest.fixture
def colour_task(tmp_path) -> Callable[..., BaselineTask]:
    """A task over the colours; settings by name, ``model`` answers the questions."""

    def make(
        units: Sequence[int] = (0, 1, 2),
        *,
        images: dict[str, bytes] | None = None,
        model: ScriptedModel | None = None,
        target: PixelTarget | None = None,
        excluded: dict[int, tuple[str, ...]] | None = None,
        **settings: object,
    ) -> BaselineTask:
        components = Components(
            "own:pixels", Settings(store=tmp_path / "store", **{"control": "colours", **settings})
        )
        components = components.with_(
            language_model=model or ScriptedModel(()),
            generator=ColourGenerator(),
            target=target or PixelTarget(),
            control_set=ColourControl(images or {name: png(colour) for name, colour in COLOURS.items()}),
        )
        return BaselineTask(components, LAYER, tuple(units), excluded or {})

    return make


@pytest.fixture
def measured_task(tmp_path) -> Callable[..., BaselineTask]:
    """A task over activations from a file: no image, no model."""

    def make(activations, labels=None, classes=(), units=None, excluded=None, **settings: object) -> BaselineTask:
        path = tmp_path / "probe.npz"
        named = {} if labels is None else {"labels": labels, "classes": np.array(classes)}
        np.savez(path, activations=activations, **named)
        components = Components(
            "own:measured", Settings(store=tmp_path / "store", **{"control": str(path), **settings})
        )
        width = np.shape(activations)[1]

        class Target(PixelTarget):
            def layers(self):
                return [LayerInfo(LAYER, "given", (width,), width)]

        components = components.with_(target=Target(), control_set=PrecomputedControl(path))
        return BaselineTask(components, LAYER, tuple(units or range(width)), excluded or {})

    return make
