"""A small image bank, a target of planted units, and editors with known faults, for tests of edits."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from line_neurons.agent.errors import UneditableError
from line_neurons.agent.ports import DrawnImage, LayerInfo
from line_neurons.eval.cosy.runner import EvaluatedLayer
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.tools.image_bank.control import BankControl
from line_neurons.tools.image_bank.folder import folder_bank
from line_neurons.tools.image_bank.generator import BankSettings, ImageBankGenerator
from line_neurons.tools.images.png import encode_png
from support.fakes import LAYER, ScriptedModel, scripted_components

COLOURS = {"tomato": (220, 20, 20), "pebble": (128, 128, 128), "lime": (20, 200, 40)}
SIZE = 64


class WordEncoder:
    """Every text has a direction of its own: only equal texts are similar."""

    fingerprint = "words:1"

    def encode(self, texts):
        rows = [np.random.default_rng(sum(map(ord, text))).standard_normal(64) for text in texts]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


def edit_bank(folder: Path):
    """Cut-outs of one colour each, a photograph and a meadow."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["file,caption,also,broader,kind,scene,split"]
    for name, colour in COLOURS.items():
        image = Image.new("RGBA", (80, 80))
        ImageDraw.Draw(image).ellipse((4, 4, 75, 75), fill=(*colour, 255))
        image.save(folder / f"{name}.png")
        rows.append(f"{name}.png,{name},,,cutout,,search")
    Image.new("RGB", (90, 80), (90, 80, 160)).save(folder / "sea.png")
    rows.append("sea.png,sea,,,photo,,search")
    noise = np.random.default_rng(0).integers(60, 120, (80, 120, 3), np.uint8)
    Image.fromarray(noise).save(folder / "meadow.png")
    rows.append("meadow.png,grass,,,background,meadow,shared")
    (folder / "captions.csv").write_text("\n".join(rows))
    return folder_bank(folder)


class ColourTarget:
    """Three planted units: mean redness of the middle, mean greenness of the middle, brightness of the border."""

    fingerprint = "colours"
    batch_size = 8

    def __init__(self):
        self.passes = 0

    def layers(self):
        return [LayerInfo(LAYER, "Linear", (3,), 3)]

    def unit_names(self, layer):
        return None

    def activate(self, images, layers, progress=None):
        self.passes += len(images)
        rows = np.array([self._units(image) for image in images], np.float32).reshape(len(images), 3)
        return dict.fromkeys(layers, rows)

    @staticmethod
    def _units(image):
        pixels = pixels_of(image)
        edge = len(pixels) // 4
        middle = pixels[edge:-edge, edge:-edge]
        red, green, blue = middle[..., 0], middle[..., 1], middle[..., 2]
        return (
            (red - np.maximum(green, blue)).clip(0).mean(),
            (green - np.maximum(red, blue)).clip(0).mean(),
            pixels[:2].mean(),
        )


def pixels_of(image) -> np.ndarray:
    """Pixels of an encoded image as float64, 0 to 255."""
    decoded = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else Image.fromarray(image)
    return np.asarray(decoded.convert("RGB"), np.float64)


def edit_parts(root: Path, labels: dict[int, str], **settings) -> EvaluatedLayer:
    """The labels of the planted units, with components that compose and measure."""
    bank = edit_bank(root / "bank")
    generator = ImageBankGenerator(bank, WordEncoder(), settings=BankSettings(size=SIZE))
    components = scripted_components(
        root / "store", ScriptedModel([]), generator=generator, target=ColourTarget(), **settings
    )
    components = components.with_(control_set=BankControl(bank, [*COLOURS, "sea"], m=4, size=SIZE))
    chosen = tuple(Label(unit, concept) for unit, concept in labels.items())
    return EvaluatedLayer(components, LAYER, (Labels("planted", "scripted:model", LAYER, chosen, "planted"),))


@dataclass
class FaultyEditor:
    """Changes an image by a function of its pixels; counts its edits."""

    change: object
    fingerprint: str = "faulty:1"
    side: int = 128
    kinds: frozenset = frozenset({"remove", "unchanged"})
    exact: bool = False
    edits: list = field(default_factory=list)

    def offers(self, concept):
        return True

    def edit(self, request):
        self.edits.append((request.kind, request.concept, request.name))
        pixels = pixels_of(request.image)
        if request.kind != "unchanged":
            pixels = self.change(pixels)
        if pixels is None:
            raise UneditableError(request.concept, "no room")
        return DrawnImage(encode_png(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)))
