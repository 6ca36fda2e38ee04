"""Small banks of drawn images, and an encoder that knows words by their letters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from line_neurons.tools.assets.location import assets_root
from line_neurons.tools.image_bank.bank import Bank
from line_neurons.tools.image_bank.folder import folder_bank
from line_neurons.tools.image_bank.text_encoder import Embeddings, SentenceEncoder
from support.model_pack import write_renderable_pack

ROWS = """file,caption,also,broader,kind,scene,split
dog1.png,dog,hound,animal,cutout,,search
dog2.png,dog,hound,animal,cutout,,search
dog3.png,dog,hound,animal,cutout,,heldout
cat.png,cat,,animal,photo,,search
ball.png,ball,,,cutout,,search
apple.png,green apple,,fruit,cutout,,search
woods.jpg,pine trees,,,background,forest,shared
shore.jpg,sand and waves,,,background,beach,search
"""


class LetterEncoder:
    """Embeds a text by the words and letter triples in it; counts how often it is asked."""

    fingerprint = "letters:1"

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, texts: list[str]) -> Embeddings:
        self.calls += 1
        return np.stack([self._vector(text) for text in texts])

    @staticmethod
    def _vector(text: str) -> Embeddings:
        vector = np.zeros(512, np.float32)
        for word in text.split():
            for part in (word, *(f"^{word}$"[i : i + 3] for i in range(len(word)))):
                vector[int.from_bytes(hashlib.sha256(part.encode()).digest()[:2]) % 512] += 1
        return vector / max(float(np.linalg.norm(vector)), 1e-6)


def draw_cutout(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (90, 70)) -> None:
    image = Image.new("RGBA", size)
    ImageDraw.Draw(image).ellipse((4, 4, size[0] - 5, size[1] - 5), fill=(*colour, 255))
    image.save(path)


def draw_photo(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (120, 80)) -> None:
    image = Image.new("RGB", size, colour)
    ImageDraw.Draw(image).rectangle((20, 20, size[0] // 2, size[1] - 10), fill="white")
    image.save(path)


@pytest.fixture
def encoder() -> LetterEncoder:
    return LetterEncoder()


@pytest.fixture(scope="session")
def bank_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank")
    for number, name in enumerate(("dog1", "dog2", "dog3", "ball", "apple")):
        draw_cutout(folder / f"{name}.png", (40 * number + 30, 200 - 30 * number, 90), (90 + 5 * number, 70))
    draw_photo(folder / "cat.png", (150, 90, 60))
    draw_photo(folder / "woods.jpg", (20, 90, 30), (200, 120))
    draw_photo(folder / "shore.jpg", (220, 200, 140), (200, 120))
    (folder / "captions.csv").write_text(ROWS)
    return folder


@pytest.fixture(scope="session")
def bank(bank_folder: Path) -> Bank:
    return folder_bank(bank_folder)


@pytest.fixture(scope="session")
def renderable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_renderable_pack(tmp_path_factory.mktemp("renderable"))


@pytest.fixture
def cutout_file() -> Callable[..., None]:
    return draw_cutout


@pytest.fixture
def photo_file() -> Callable[..., None]:
    return draw_photo


@pytest.fixture(scope="session")
def assets() -> Path:
    """The installed assets of the demo; tests that need them are skipped where they are not."""
    root = assets_root()
    missing = [pack for pack in ("minilm", "stamps", "photos", "backgrounds") if not (root / pack).is_dir()]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed in {root} (line assets install demo)")
    return root


@pytest.fixture(scope="session")
def sentence_encoder(assets: Path) -> SentenceEncoder:
    return SentenceEncoder(assets / "minilm")
