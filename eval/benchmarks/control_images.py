"""Part ``control``: images a second of a control set, beside torchvision's ImageFolder and a DataLoader."""

from __future__ import annotations

import os
import resource
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from line_neurons.eval.benchmarks.image_path import LAYER, photograph
from line_neurons.eval.benchmarks.metering import Figure, Figures
from line_neurons.tools.cache.activation_cache import Cache
from line_neurons.tools.control_sets import control_activations, open_control_set
from line_neurons.tools.parallel import workers
from line_neurons.tools.targets.custom import bundle_from_module
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.transforms import imagenet_transform


def add_arguments(parser: ArgumentParser) -> None:
    """The part's options."""
    parser.add_argument("--images", type=int, default=2000, help="JPEG files of 500 x 375 that are made")
    parser.add_argument("--folder", type=Path, help="class folders to measure instead")
    parser.add_argument("--workers", type=int, default=workers(), help="of the DataLoader; as many as our threads")
    parser.add_argument("--repeat", type=int, default=2)


def measure(options: Namespace) -> Figures:
    """Prepare all images and pass them to a model that takes no time, in turns with a DataLoader."""
    with TemporaryDirectory(prefix="line-benchmark-") as folder:
        images = options.folder or _made(Path(folder) / "images", options.images)
        identified, ours, theirs = [], [], []
        # The first use of torch takes longer than a hundred images.
        _target().activate([photograph(64, 0)], [LAYER])
        for number in range(options.repeat):
            control: Any = open_control_set(str(images))
            identified.append(_timed(partial(_identified, control)))
            ours.append(_timed(partial(_ours, control, Path(folder) / f"store {number}")))
            theirs.append(_timed(partial(_loaded, images, options.workers)))
    for name, found in (
        ("the set's fingerprint, of the contents of all files", identified),
        ("control activations", ours),
        (f"ImageFolder, DataLoader of {options.workers} workers", theirs),
    ):
        for count, wall, cpu in found:
            yield Figure(name, count / wall, count, "images", "images a second")
            yield Figure(name, 1000 * cpu / count, count, "images", "ms of CPU an image")
    # In turns, so that other work on the machine slows both.
    ratios = [(mine[0] / mine[1]) / (its[0] / its[1]) for mine, its in zip(ours, theirs, strict=True)]
    median = statistics.median(ratios)
    yield Figure("images a second, relative to the DataLoader's", median, len(ratios), "pairs", aim="1")
    yield Figure(
        "peak memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, len(ours), "passes", "MB"
    )


def _made(folder: Path, images: int) -> Path:
    for number in range(images):
        # Fifty of a class count.
        place = folder / f"class {number // 50:04}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(500, number)[:375]).save(place / f"{number}.jpg", quality=90)
    return folder


def _timed(work: Callable[[], int]) -> tuple[int, float, float]:
    """Return what was counted, the seconds and the seconds of CPU, also of processes that ended."""
    wall, cpu = time.perf_counter(), os.times()
    count = work()
    now = os.times()
    return count, time.perf_counter() - wall, sum(now[:4]) - sum(cpu[:4])


def _identified(control: Any) -> int:
    assert control.fingerprint
    return len(control._files)


def _target() -> HookedTarget:
    import torch

    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1))
    return HookedTarget(bundle_from_module(model, "imagenet"), device="cpu", batch_size=32)


def _ours(control: Any, store: Path) -> int:
    target = _target()
    with closing(Cache(store)) as cache:
        return len(control_activations(cache, target, [LAYER], control)[LAYER].labels)


def _loaded(images: Path, processes: int) -> int:
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    count, pool = 0, torch.nn.AdaptiveAvgPool2d(1)
    loader: Any = DataLoader(ImageFolder(str(images), imagenet_transform), batch_size=32, num_workers=processes)
    for batch, _ in loader:
        count += len(np.asarray(pool(batch)))
    return count
