"""Real images of plain colours, and a target whose three units are their mean colour."""

import hashlib
import weakref
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from line_neurons.agent.ports import ControlChunk, LayerInfo
from line_neurons.tools.cache.activation_cache import Cache


class MeanColour:
    """Notes each call as (number of images, layers); the second layer is the first one's negative."""

    fingerprint = "mean-colour:1"

    def __init__(self):
        self.calls = []

    def layers(self):
        return [LayerInfo(name, "mean", (3,), 3) for name in ("layer", "positive", "negative")]

    def activate(self, images, layers, progress=None):
        assert images
        self.calls.append((len(images), tuple(layers)))
        rows = [np.asarray(Image.open(BytesIO(image)).convert("RGB")).mean((0, 1)) for image in images]
        colours = np.array(rows, np.float32)
        return {layer: -colours if layer == "negative" else colours for layer in layers}


class ListedControl:
    """A control set of given chunks; notes what was read, and what still lived when the next was read."""

    def __init__(self, chunks, classes=(), total=None):
        self.given = chunks
        self._classes = classes
        self.total = total
        self.size = None if total is None else sum(len(images) for images, _, _ in chunks)
        self.read = []
        self.most_alive = 0
        self._made = []
        self.fingerprint = "listed:" + hashlib.sha256(repr((chunks, classes)).encode()).hexdigest()

    def classes(self):
        return self._classes

    def chunks(self, start=0):
        for number in range(start, len(self.given)):
            images, labels, skipped = self.given[number]
            self.read.append(number)
            alive = sum(chunk() is not None for chunk in self._made)
            self.most_alive = max(self.most_alive, alive)
            chunk = ControlChunk(images, labels, skipped)
            self._made.append(weakref.ref(chunk))
            yield chunk
            del chunk


def encoded(colour, kind="PNG", size=(20, 20)):
    buffer = BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def paint(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".png": "PNG", ".webp": "WEBP"}.get(path.suffix.lower(), "JPEG")
    path.write_bytes(encoded(colour, kind))


@pytest.fixture
def new_target():
    return MeanColour


@pytest.fixture
def listed():
    return ListedControl


@pytest.fixture(name="encoded", scope="session")
def encoded_image():
    return encoded


@pytest.fixture(name="paint", scope="session")
def painted_file():
    return paint


@pytest.fixture
def bank(tmp_path):
    return Cache(tmp_path / "store")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "control"
    for level in range(3):
        paint(root / "tabby_cat" / f"{level}.png", (level, 0, 0))
        paint(root / "bee" / f"{level}.JPG", (0, level * 9, 0))
    paint(root / "owl" / "a.webp", (0, 0, 9))
    (root / "bee" / "notes.txt").write_text("not an image")
    (root / "empty").mkdir()
    (root / ".cache").mkdir()
    return root
