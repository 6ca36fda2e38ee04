"""Start-up, overhead and reuse, measured: ``python -m line_neurons.eval.benchmarks.speed``.

Prints medians. Start-up is a whole process; the overhead of a step is the graph, the checkpoints and the stores
with parts that answer at once; reuse counts pictures and forward passes of a concept that the bank has.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from line_neurons.agent.ports import ControlChunk, DrawnImage, ImageRequest, LayerInfo, Progress, Prompt, Proposal
from line_neurons.agent.seeds import derive_seed
from line_neurons.agent.settings import Settings
from line_neurons.graphs.assembly import Parts
from line_neurons.graphs.runs import start, work

if TYPE_CHECKING:
    from line_neurons.agent.ports import Picture

LAYER = "head"
UNITS = 1000


@dataclass
class InstantModel:
    """Proposes a new word at once."""

    fingerprint: str = "instant model"

    def propose(self, prompt: Prompt, *, seed: int, temperature: float) -> Proposal:
        """See ``ports.LanguageModel.propose``."""
        return Proposal("At once.", f"thing {seed}", "{}")


@dataclass
class InstantGenerator:
    """Draws the request itself, as JSON."""

    fingerprint: str = "instant generator"
    batch_size: int = 8
    drawn: int = 0

    def synthesize(self, requests: Sequence[ImageRequest], progress: Progress | None = None) -> list[DrawnImage]:
        """See ``ports.Generator.synthesize``."""
        self.drawn += len(requests)
        return [DrawnImage(json.dumps([one.prompt, one.seed]).encode()) for one in requests]

    def suggest(self, concepts: Sequence[str], limit: int) -> list[str]:
        """See ``ports.Generator.suggest``."""
        return []


@dataclass
class InstantTarget:
    """A layer of a thousand units whose activations are made up from the pictures' bytes."""

    fingerprint: str = "instant target"
    batch_size: int = 32
    passes: int = 0

    def layers(self) -> list[LayerInfo]:
        """See ``ports.Target.layers``."""
        return [LayerInfo(LAYER, "Linear", (UNITS,), UNITS)]

    def unit_names(self, layer: str) -> Sequence[str] | None:
        """See ``ports.Target.unit_names``."""
        return None

    def activate(self, images: Sequence[Picture], layers: Sequence[str], progress: Progress | None = None) -> Any:
        """See ``ports.Target.activate``."""
        self.passes += len(images)
        rows = [np.random.default_rng(derive_seed(bytes(image).hex())).random(UNITS) for image in images]
        return dict.fromkeys(layers, np.array(rows, np.float32))


@dataclass
class InstantControl:
    """Twenty classes of one picture."""

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


def instant_parts(store: Path, **settings: Any) -> Parts:
    """Real settings, bank, run store and checkpoints around instant parts."""
    parts = Parts("instant:model", Settings(store=store, **settings))
    vars(parts).update(
        language_model=InstantModel(),
        generator=InstantGenerator(),
        target=InstantTarget(),
        control_set=InstantControl(),
    )
    return parts


def seconds_of(command: Sequence[str], runs: int = 7) -> float:
    """Median wall time of a command's process, after one that is not counted."""

    def once() -> float:
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - began

    once()
    return statistics.median(once() for _ in range(runs))


def step_overhead(store: Path, iterations: int = 100) -> float:
    """Median seconds of a step (five nodes, each with its checkpoint) with instant parts."""
    parts = instant_parts(store, iterations=iterations, summary=False)
    ends: list[float] = []

    def watch(progress: Any) -> None:
        if progress.node == "update":
            ends.append(time.perf_counter())

    work(parts, start(parts, LAYER, ["0"]), watch)
    return statistics.median(after - before for before, after in pairwise(ends))


def cost_of_a_known_concept(store: Path) -> tuple[int, int]:
    """Pictures drawn and forward passes for a second unit whose concepts are all in the bank."""
    first = instant_parts(store, iterations=0, summary=False, top=20, random=0)
    work(first, start(first, LAYER, ["0"]))
    second = instant_parts(store, iterations=0, summary=False, top=20, random=0)
    work(second, start(second, LAYER, ["1"]))
    return second.generator.drawn, second.target.passes  # type: ignore[attr-defined]


def main() -> None:
    """Measure and print."""
    command = str(Path(sys.executable).with_name("line"))
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "runs"
        overhead = step_overhead(store)
        lines: list[tuple[str, Callable[[], str]]] = [
            ("line --help", lambda: f"{seconds_of([command, '--help']):.3f} s (aim 0.4)"),
            ("line runs", lambda: f"{seconds_of([command, 'runs', '--store', str(store)]):.3f} s (aim 0.6)"),
            ("python alone", lambda: f"{seconds_of([sys.executable, '-c', 'pass']):.3f} s"),
            ("a step's overhead", lambda: f"{1000 * overhead:.1f} ms (aim 15)"),
            (
                "a concept in the bank",
                lambda: "{} pictures, {} forward passes (aim 0, 0)".format(
                    *cost_of_a_known_concept(Path(folder) / "bank")
                ),
            ),
        ]
        for name, measure in lines:
            print(f"{name}: {measure()}")


if __name__ == "__main__":
    main()
