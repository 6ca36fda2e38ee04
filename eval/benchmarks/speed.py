"""Measure start-up, overhead and reuse: ``python -m line_neurons.eval.benchmarks.speed``.

Prints medians. Start-up is a whole process; the overhead of a step is the graph, the checkpoints and the stores
with instant components; reuse counts images and forward passes of a cached concept.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from line_neurons.eval.benchmarks.instant import LAYER, instant_components
from line_neurons.graphs.runs.lifecycle import start, work


def seconds_of(command: Sequence[str], runs: int = 7) -> float:
    """Return the median wall time of a command's process, after one that is not counted."""

    def once() -> float:
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - began

    once()
    return statistics.median(once() for _ in range(runs))


def step_overhead(store: Path, iterations: int = 100) -> float:
    """Return the median seconds of a step (five nodes, each with its checkpoint) with instant components."""
    components = instant_components(store, iterations=iterations, summary=False)
    ends: list[float] = []

    def watch(progress: Any) -> None:
        if progress.node == "update":
            ends.append(time.perf_counter())

    work(components, start(components, LAYER, ["0"]), watch)
    return statistics.median(after - before for before, after in pairwise(ends))


def cost_of_a_known_concept(store: Path) -> tuple[int, int]:
    """Return generated images and forward passes of a second unit whose concepts are all cached."""
    first = instant_components(store, iterations=0, summary=False, top=20, random=0)
    work(first, start(first, LAYER, ["0"]))
    second = instant_components(store, iterations=0, summary=False, top=20, random=0)
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
                lambda: "{} images, {} forward passes (aim 0, 0)".format(
                    *cost_of_a_known_concept(Path(folder) / "bank")
                ),
            ),
        ]
        for name, measure in lines:
            print(f"{name}: {measure()}")


if __name__ == "__main__":
    main()
