"""Part ``gpu``: images a second of Stable Diffusion XL in a batch, compared with the same generator alone."""

from __future__ import annotations

import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import DrawnImage, ImageRequest, Progress
from line_neurons.agent.prompts import image_requests
from line_neurons.eval.benchmarks.busy_generator import run_warm
from line_neurons.eval.benchmarks.instant import InstantModel, instant_components
from line_neurons.eval.benchmarks.metering import Figure, Figures, MeteredGenerator, MeteredModel
from line_neurons.eval.benchmarks.real_components import closing, store_folder

if TYPE_CHECKING:
    import torch


def add_arguments(parser: ArgumentParser) -> None:
    """The part's options."""
    parser.add_argument("--units", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--images", type=int, default=5, help="images of a concept")
    parser.add_argument("--board", type=int, default=5, help="concepts on an initial scoreboard")
    parser.add_argument("--max-concurrent-units", type=int, default=8)
    parser.add_argument("--llm-parallel", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8, help="images in a batch")
    parser.add_argument("--steps", type=int, default=25, help="denoising steps")
    parser.add_argument("--size", type=int, help="side in pixels; the architecture's own by default")
    parser.add_argument("--repeat", type=int, default=3, help="batches of the generator alone")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, which run without a GPU")
    parser.add_argument("--store", type=Path, help="keep the store in this folder, which must be new")


def measure(options: Namespace) -> Figures:
    """Measure the generator alone, then in a batch.

    Raises:
        UsageError: the full architecture is requested without a GPU.
    """
    from line_neurons.tools.devices import find_device

    device = find_device(options.device)
    if device.type != "cuda" and not options.tiny:
        raise UsageError(
            f"the full architecture needs a GPU with CUDA, and the device is {device}", "try it with --tiny"
        )
    generator = RandomWeights(
        "tiny" if options.tiny else "sdxl",
        device,
        steps=options.steps,
        size=options.size,
        batch_size=options.batch,
    )
    alone = rate_alone(generator, options.repeat)
    yield f"{generator.fingerprint}; instant target; language model of 200 ms, {options.llm_parallel} at once"
    yield Figure("images a second of the generator alone", alone, options.repeat, f"batches of {options.batch}")
    metered_generator, metered_model = MeteredGenerator(generator), MeteredModel(InstantModel(seconds=0.2))
    with store_folder(options.store) as store:
        components = instant_components(
            store, metered_model, metered_generator,
            iterations=options.iterations, images=options.images, top=options.board,
            random=0, max_concurrent_units=options.max_concurrent_units, llm_parallel=options.llm_parallel,
        )  # fmt: skip
        with closing(components):
            yield from run_warm(components, metered_generator, metered_model, options.units, images_alone=alone)


def rate_alone(generator: RandomWeights, repeat: int) -> float:
    """Return images a second of full batches, the median of several after one that is not counted."""
    durations = []
    for index in range(repeat + 1):
        began = time.perf_counter()
        generator.synthesize(image_requests(f"thing {index}", generator.batch_size, 0))
        durations.append(time.perf_counter() - began)
    return generator.batch_size / statistics.median(durations[1:])


@dataclass
class RandomWeights:
    """Generates PNG files with an architecture of Stable Diffusion XL on random weights.

    Args:
        architecture: ``sdxl`` or ``tiny``.
        size: side in pixels; None for the architecture's own.
        batch_size: images at once; every batch is filled up to it.
    """

    architecture: str
    device: torch.device
    steps: int
    size: int | None = None
    batch_size: int = 8

    @cached_property
    def fingerprint(self) -> str:
        """Architecture, device and settings."""
        import torch

        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return f"{self.architecture} on random weights, {name}, {self.steps} steps, batches of {self.batch_size}"

    @cached_property
    def _pipe(self) -> Any:
        import torch

        from line_neurons.agent.diffusion_settings import DiffusionSettings
        from line_neurons.eval.benchmarks.text_to_image import ARCHITECTURES, build
        from line_neurons.tools.generators.pipeline import place

        dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        pipe = build(ARCHITECTURES[self.architecture], self.device, dtype)
        place(pipe, self.device, DiffusionSettings())
        return pipe

    def synthesize(self, requests: Sequence[ImageRequest], progress: Progress | None = None) -> list[DrawnImage]:
        """See ``ports.Generator.synthesize``; only the seed of a request has an effect."""
        import numpy as np

        from line_neurons.eval.benchmarks.text_to_image import ARCHITECTURES, draw, embeddings

        architecture = ARCHITECTURES[self.architecture]
        images = []
        for start in range(0, len(requests), self.batch_size):
            seeds = [request.seed for request in requests[start : start + self.batch_size]]
            filled = seeds + seeds[-1:] * (self.batch_size - len(seeds))
            text = embeddings(architecture, self.batch_size)
            pixels = draw(self._pipe, *text, filled, self.steps, self.size or architecture.size)
            for image in pixels[: len(seeds)].permute(0, 2, 3, 1).numpy():
                images.append(DrawnImage(b"", pixels=np.ascontiguousarray(image)))
        return images

    def suggest(self, concepts: Sequence[str], limit: int) -> list[str]:
        """See ``ports.Generator.suggest``."""
        return []
