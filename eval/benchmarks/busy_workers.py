"""Part ``workers``: how busy workers of fixed latency are, and what they cost the driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from line_neurons.agent.errors import BackendError
from line_neurons.agent.ports import ImageRequest
from line_neurons.agent.settings import Settings
from line_neurons.eval.benchmarks.graph_steps import peak_memory
from line_neurons.eval.benchmarks.instant import (
    LAYER,
    InstantControl,
    InstantGenerator,
    InstantModel,
    InstantTarget,
    spelt,
)
from line_neurons.eval.benchmarks.metering import Clock, Figure, Figures, Span, covered
from line_neurons.eval.benchmarks.real_components import closing, units_of
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.graphs.runs.runner import Progress
from line_neurons.tools.engines.engine import Engine
from line_neurons.tools.engines.hands import Hands, SentImage

ITERATIONS = 2


@dataclass(frozen=True)
class WorkerSpeed:
    """How a batch with workers went, in its warm part.

    Args:
        busy: mean share of time in which a worker generates, in [0, 1].
        cores: CPU seconds a second of the driver's process, in which the workers sleep.
        peak: most memory of the process, in MB.
    """

    workers: int
    busy: float
    images: float
    cores: float
    peak: float
    seconds: float


class SleepingHands(Hands):
    """What a worker does that sleeps for each image, one batch at a time as a GPU does."""

    def __init__(self, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._padding = np.random.default_rng(0).bytes(size)
        self._device = threading.Lock()
        self.spans: list[Span] = []
        self.ends: list[tuple[float, int]] = []

    def generate(self, requests: Sequence[ImageRequest], layers: Sequence[str]) -> list[SentImage]:
        """See ``Hands.generate``."""
        with self._device:
            began = time.perf_counter()
            time.sleep(self._seconds * len(requests))
            ended = time.perf_counter()
            self.spans.append((began, ended))
            self.ends.append((ended, len(requests)))
        files = [spelt(json.dumps([request.prompt, request.seed]), self._padding) for request in requests]
        rows = self._target.activate(files, layers)
        return [
            SentImage(
                np.frombuffer(file, np.uint8), {}, False, "", {layer: found[at] for layer, found in rows.items()}
            )
            for at, file in enumerate(files)
        ]


@dataclass
class SleepingWorker:
    """A worker in threads of this process."""

    place: str
    hands: SleepingHands
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2))

    def begin(self) -> Future[Any]:
        """See ``Worker.begin``."""
        opened = (InstantGenerator(), InstantTarget())
        parts = SimpleNamespace(settings={"device": "cpu"}, shared=None, open=lambda: opened)
        return self.threads.submit(self.hands.begin, parts, self.place)  # type: ignore[arg-type]

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """See ``Worker.call``."""
        return self.threads.submit(getattr(self.hands, method), *arguments)

    def stop(self) -> None:
        """See ``Worker.stop``."""
        self.threads.shutdown(wait=False, cancel_futures=True)


@dataclass
class SleepingCluster:
    """Starts workers that sleep."""

    count: int
    seconds: float
    size: int
    hands: list[SleepingHands] = field(default_factory=list)

    def wanted(self) -> int:
        """See ``Cluster.wanted``."""
        return self.count

    def start(self) -> SleepingWorker:
        """See ``Cluster.start``."""
        self.hands.append(SleepingHands(self.seconds, self.size))
        return SleepingWorker(f"worker {len(self.hands)}", self.hands[-1])

    def waits_for(self) -> str:
        """See ``Cluster.waits_for``."""
        return "threads"


def add_arguments(parser: ArgumentParser) -> None:
    """The part's options."""
    parser.add_argument(
        "--workers", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 4, 8, 16, 32, 64],
        help="numbers of workers, with commas between; a process and a store for each",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=1.0, help="time of an image")
    parser.add_argument("--bytes", type=int, default=1_400_000, help="size of an image's file")
    parser.add_argument("--units", type=int, default=12, help="units for each worker, at least 20 in all")
    parser.add_argument(
        "--generator", metavar="SPEC",
        help="instead: worker processes of this generator and MobileNetV2, a core each; the ratio to one worker",
    )  # fmt: skip
    parser.add_argument("--size", type=int, help="side of the images of a text-to-image model")
    parser.add_argument("--steps", type=int, help="denoising steps of a text-to-image model")


def measure(options: Namespace) -> Figures:
    """Run a batch with each number of workers in a process of its own."""
    if options.generator:
        yield from _real_workers(options)
        return
    yield (
        f"workers sleep {options.seconds:g} s for an image of {options.bytes:,} bytes; language model and target:"
        " instant, a new concept each time; four units in flight for each worker, at least 16. Warm: from a fifth"
        " to four fifths of the units."
    )
    for workers in options.workers:
        went = _in_a_process(workers, options)
        yield Figure(
            "share of time in which a worker generates", went.busy, workers, "workers",
            aim="at least 0.95", detail=f"in {went.seconds:.4g} s",
        )  # fmt: skip
        yield Figure("images a second", went.images, workers, "workers")
        yield Figure("cores of the driver", went.cores, workers, "workers")
        yield Figure("most memory", went.peak, workers, "workers", unit="MB")


def run_workers(workers: int, store: Path, *, seconds: float, size: int, units: int) -> WorkerSpeed:
    """Label units with workers that sleep."""
    cluster = SleepingCluster(workers, seconds, size)
    given: dict[str, Any] = {
        "store": store,
        "devices": ",".join(["cpu"] * workers),
        "iterations": ITERATIONS,
        "max_concurrent_units": max(16, 4 * workers),
        "llm_parallel": 8,
    }
    settings = Settings(**given)
    components = Components("instant:model", settings, distributed=True)
    engine = Engine(lambda: cluster, components.layers, settings.images, lambda event: None)
    components = components.with_(engine=engine, language_model=InstantModel(), control_set=InstantControl())
    clock, used = Clock(units), list[tuple[float, float]]()

    def watch(progress: Progress) -> None:
        clock(progress)
        used.append((time.perf_counter(), time.process_time()))

    with closing(components):
        work(components, start(components, LAYER, units_of(units)), watch)
    window = clock.warm_window
    length = window[1] - window[0]
    inside = [one for one in used if window[0] <= one[0] <= window[1]]
    images = sum(count for hands in cluster.hands for at, count in hands.ends if window[0] < at <= window[1])
    return WorkerSpeed(
        workers,
        sum(covered(hands.spans, window) for hands in cluster.hands) / workers,
        images / length,
        (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0]),
        peak_memory(),
        length,
    )


def _real_workers(options: Namespace) -> Figures:
    yield (
        f"worker processes of {options.generator} and torchvision:mobilenet_v2, one core each; random words, new"
        " images only, no control set; from the first unit's start to the last one's end, workers started before."
    )
    # Worker processes inherit it.
    os.environ["OMP_NUM_THREADS"] = "1"
    alone: float | None = None
    for workers in options.workers:
        with tempfile.TemporaryDirectory(prefix="line-benchmark-") as folder:
            diffusion = {"size": options.size, "steps": options.steps}
            rate, images = run_real_workers(workers, Path(folder), options.generator, diffusion, options.units)
        alone = alone or rate
        detail = f"{images} images"
        yield Figure("images a second", rate, workers, "workers", detail=detail)
        yield Figure(f"times as many as {options.workers[0]}", rate / alone, workers, "workers", detail=detail)


def run_real_workers(
    workers: int, store: Path, generator: str, diffusion: dict[str, int | None], units: int
) -> tuple[float, int]:
    """Label units with worker processes on the CPU; return images a second and the number of images."""
    given: dict[str, Any] = {
        "store": store,
        "devices": ",".join(["cpu"] * workers),
        "generator": generator,
        "diffusion": diffusion,
        "control": "none",
        "init": "vocabulary",
        "llm": "random",
        "hints": 0,
        "top": 2,
        "random": 2,
        "images": 2,
        "iterations": ITERATIONS,
        "max_concurrent_units": 8,
    }
    components = Components("torchvision:mobilenet_v2", Settings(**given), distributed=True)
    with closing(components):
        run = start(components, "classifier.1", units_of(units))
        began = time.perf_counter()
        work(components, run)
        seconds = time.perf_counter() - began
        images = sum(1 for path in (store / "images").rglob("*") if path.is_file())
    return images / seconds, images


def _in_a_process(workers: int, options: Namespace) -> WorkerSpeed:
    units = max(20, options.units * workers)
    given = [str(value) for value in (workers, options.seconds, options.bytes, units)]
    done = subprocess.run([sys.executable, "-m", __spec__.name, *given], check=False, stdout=subprocess.PIPE)
    if done.returncode:
        raise BackendError(f"the process of {workers} workers ended with status {done.returncode}", "see above")
    return WorkerSpeed(**json.loads(done.stdout))


def main() -> None:
    """What the process of one number of workers does."""
    workers, seconds, size, units = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="line-benchmark-") as folder:
        went = run_workers(int(workers), Path(folder), seconds=float(seconds), size=int(size), units=int(units))
    print(json.dumps(asdict(went)))


if __name__ == "__main__":
    main()
