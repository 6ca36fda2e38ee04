"""Part ``path``: images a second from the generator's pixels to kept activations, with an instant generator.

It also runs on its own, with an earlier version of the package on the path, to compare the two.
"""

from __future__ import annotations

import hashlib
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from line_neurons.agent.ports import DrawnImage, ImageRequest, LanguageModel, Progress
from line_neurons.agent.prompts import image_requests
from line_neurons.eval.benchmarks.metering import Figure, Figures, show
from line_neurons.tools.batching import batched_components
from line_neurons.tools.cache.activation_cache import Cache
from line_neurons.tools.targets.custom import bundle_from_module
from line_neurons.tools.targets.hooked_target import HookedTarget

LAYER = "0"


def add_arguments(parser: ArgumentParser) -> None:
    """The part's options."""
    parser.add_argument("--sizes", default="1024,512", help="sides in pixels, with commas between")
    parser.add_argument("--concepts", type=int, default=24)
    parser.add_argument("--images", type=int, default=5, help="images of a concept")
    parser.add_argument("--callers", type=int, default=8, help="units at a time")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument(
        "--encoded", action="store_true", help="encode in the generator, as all versions before this part did"
    )
    parser.add_argument(
        "--folder", type=Path, help="where stores are made; the system's temporary folder by default"
    )


def measure(options: Namespace) -> Figures:
    """Time each stage alone, then the whole path."""
    for size in map(int, options.sizes.split(",")):
        yield from _stages(size, options.folder)
        for _ in range(options.repeat):
            yield from _whole(size, options)


@dataclass
class ArrayGenerator:
    """Gives arrays that look like photographs to an encoder, at once.

    Args:
        size: side in pixels.
        encoded: make the files here, in the thread that would drive the device.
        spent: seconds of CPU that its thread has spent, in and between its calls.
    """

    size: int
    encoded: bool = False
    batch_size: int = 5
    spent: float = 0.0
    _began: dict[int, float] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """See ``ports.Generator``."""
        return f"arrays of {self.size}"

    def synthesize(self, requests: Sequence[ImageRequest], progress: Progress | None = None) -> list[DrawnImage]:
        """See ``ports.Generator.synthesize``."""
        began = self._began.setdefault(threading.get_ident(), time.thread_time())
        found = []
        for request in requests:
            pixels = photograph(self.size, request.seed)
            found.append(DrawnImage(encode(pixels) if self.encoded else b"", pixels=pixels))
        self.spent = time.thread_time() - began
        return found

    def suggest(self, concepts: Sequence[str], limit: int) -> list[str]:
        """See ``ports.Generator.suggest``."""
        return []


def photograph(size: int, seed: int) -> NDArray[np.uint8]:
    """Return smooth colours with grain, uint8 [size, size, 3]; about as large as a photograph when encoded."""
    rows = np.roll(_grain(size), seed * 7919, axis=0)
    rows[0, 0] = seed % 256, seed // 256 % 256, seed // 65536 % 256
    return rows


_GRAINS: dict[int, NDArray[np.uint8]] = {}


def _grain(size: int) -> NDArray[np.uint8]:
    if size not in _GRAINS:
        rng = np.random.default_rng(0)
        colours = Image.fromarray(rng.integers(40, 215, (8, 8, 3), np.uint8))
        coarse = colours.resize((size, size), Image.Resampling.BICUBIC)
        noise = rng.normal(0, 3, (size, size, 3))
        _GRAINS[size] = np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)
    return _GRAINS[size]


def encode(pixels: NDArray[np.uint8], **options: object) -> bytes:
    """Encode as the cache does, or with other options of Pillow."""
    file = BytesIO()
    chosen = {"format": "PNG", "compress_level": 1, **options}
    Image.fromarray(pixels).save(file, **chosen)  # type: ignore[arg-type]
    return file.getvalue()


def _stages(size: int, folder: Path | None) -> Figures:
    pixels = [photograph(size, seed) for seed in range(6)]
    files = [encode(image) for image in pixels]
    target = _target()
    target.layers()
    encodings: dict[str, Callable[[NDArray[np.uint8]], bytes]] = {
        "PNG, level 1, as kept": encode,
        "PNG, not compressed": lambda image: encode(image, compress_level=0),
        "WebP without loss": lambda image: encode(image, format="WEBP", lossless=True, method=0, quality=0),
    }
    for name, made in encodings.items():
        sizes = sum(len(made(image)) for image in pixels) / len(pixels) / 1e6
        yield Figure(
            f"{size} px, encoding as {name}", _cpu(made, pixels), len(pixels), "images", "ms of CPU", "",
            f"{sizes:.2f} MB",
        )  # fmt: skip
    yield Figure(
        f"{size} px, SHA-256", _cpu(lambda file: hashlib.sha256(file).digest(), files), len(files), "images",
        "ms of CPU",
    )  # fmt: skip
    with TemporaryDirectory(dir=folder) as store, closing(Cache(Path(store))) as cache:
        numbered = list(enumerate(files))
        yield Figure(
            f"{size} px, file written", _cpu(lambda one: cache._files.write(f"{one[0]:064x}", one[1]), numbered),
            len(files), "images", "ms of CPU",
        )  # fmt: skip
    yield Figure(
        f"{size} px, prepared for the target and measured",
        _cpu(lambda image: target.activate([image] * 5, [LAYER]), pixels) / 5,
        len(files) * 5, "images", "ms of CPU",
    )  # fmt: skip


def _cpu(work: Callable[[Any], object], items: Sequence[Any]) -> float:
    """Return milliseconds of CPU for an item, of all threads."""
    began = time.process_time()
    for item in items:
        work(item)
    return 1000 * (time.process_time() - began) / len(items)


def _target() -> HookedTarget:
    """Return a target with the usual preprocessing and a model that takes no time."""
    import torch

    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1))
    return HookedTarget(bundle_from_module(model, "imagenet"), device="cpu")


def _whole(size: int, options: Namespace) -> Figures:
    generator, target = ArrayGenerator(size, options.encoded, options.images), _target()
    target.layers()
    images = options.concepts * options.images
    with TemporaryDirectory(dir=options.folder) as store, closing(Cache(Path(store))) as cache:
        model: LanguageModel = None  # type: ignore[assignment]
        with (
            batched_components(
                generator,
                target,
                model,
                callers=lambda: options.callers,
                parallel=1,
                wait=0.05,
                check=lambda: None,
            ) as shared,
            ThreadPoolExecutor(options.callers) as units,
        ):

            def unit(number: int) -> None:
                requests = image_requests(f"thing {number}", options.images, number)
                ids = cache.images(requests, shared.generator)
                cache.activations(ids, shared.target, LAYER, generator=shared.generator)

            began, cpu = time.perf_counter(), time.process_time()
            list(units.map(unit, range(options.concepts)))
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    detail = f"{options.callers} units at a time"
    yield Figure(f"{size} px, whole path", images / wall, images, "images", "images a second", "", detail)
    yield Figure(f"{size} px, whole path", 1000 * cpu / images, images, "images", "ms of CPU an image")
    yield Figure(
        f"{size} px, of these in the generator's thread", 1000 * generator.spent / images, images, "images",
        "ms of CPU an image",
    )  # fmt: skip


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    add_arguments(parser)
    show(measure(parser.parse_args()), None)
