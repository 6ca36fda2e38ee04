"""Part ``steps``: speed and memory of the graphs with instant components."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from dataclasses import asdict, dataclass
from pathlib import Path

from line_neurons.agent.errors import BackendError
from line_neurons.eval.benchmarks.instant import LAYER, InstantModel, instant_components
from line_neurons.eval.benchmarks.metering import Clock, Figure, Figures
from line_neurons.eval.benchmarks.real_components import closing, units_of
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.graphs.runs.runner import Progress


@dataclass(frozen=True)
class LoopSpeed:
    """Speed and memory of a batch with instant components.

    Args:
        nodes: nodes that ended: supersteps of all graphs.
        steps: iterations and summaries.
        peak: most memory of the process, in MB.
        early: the most until a tenth of the units was finished.
        store: size of the store, in MB.
    """

    units: int
    seconds: float
    nodes: int
    steps: int
    peak: float
    early: float
    store: float
    images: int


def add_arguments(parser: ArgumentParser) -> None:
    """The part's options."""
    parser.add_argument(
        "--units", type=lambda text: [int(part) for part in text.split(",")], default=[200, 2000],
        help="numbers of units, with commas between; a process and a store for each",
    )  # fmt: skip
    parser.add_argument("--max-concurrent-units", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument(
        "--words", type=int, default=2000, help="words that the proposer knows; 0: always new ones"
    )


def measure(options: Namespace) -> Figures:
    """Run each number of units in a process of its own."""
    words = f"{options.words:,} words" if options.words else "a new word each time"
    yield (
        f"instant generator, target and control set; proposer of {words}; {options.iterations} iterations,"
        f" {options.max_concurrent_units} units in flight; a process and a new store for each number of units"
    )
    peaks = {}
    for units in options.units:
        went = _in_a_process(units, options)
        peaks[units] = went.peak
        yield Figure(
            "graph steps a second", went.nodes / went.seconds, units, aim="at least 150",
            detail=f"{went.nodes:,} nodes in {went.seconds:.4g} s",
        )  # fmt: skip
        yield Figure("loop steps a second", went.steps / went.seconds, units, detail="five nodes each")
        yield Figure(
            "most memory", went.peak, units, unit="MB",
            detail=f"{went.early:.4g} MB until a tenth of the units was finished",
        )  # fmt: skip
        yield Figure("store", went.store, units, unit="MB", detail=f"{went.images:,} images")
    least, most = min(peaks), max(peaks)
    if least != most:
        yield Figure(
            f"memory of {most:,} units, of that of {least:,}", peaks[most] / peaks[least], most, aim="flat"
        )


def run_instant(units: int, store: Path, *, iterations: int, max_concurrent_units: int, words: int) -> LoopSpeed:
    """Label units with instant parts."""
    components = instant_components(
        store, InstantModel(words), iterations=iterations, max_concurrent_units=max_concurrent_units, revisit=True
    )
    clock = Clock(units)
    early = 0.0

    def watch(progress: Progress) -> None:
        nonlocal early
        clock(progress)
        if 10 * progress.finished <= units:
            early = peak_memory()

    with closing(components):
        run = start(components, LAYER, units_of(units))
        began = time.perf_counter()
        work(components, run, watch)
        seconds = time.perf_counter() - began
        finished = components.runs.states(run.id).get("finished", 0)
        drawn = components.cache.stats.generated
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) / 1e6
    return LoopSpeed(
        finished,
        seconds,
        sum(clock.nodes.values()),
        clock.nodes.get("update", 0),
        peak_memory(),
        early,
        size,
        drawn,
    )


def peak_memory() -> float:
    """The most memory that this process had so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _in_a_process(units: int, options: Namespace) -> LoopSpeed:
    given = [str(value) for value in (units, options.iterations, options.max_concurrent_units, options.words)]
    done = subprocess.run([sys.executable, "-m", __spec__.name, *given], check=False, stdout=subprocess.PIPE)
    if done.returncode:
        raise BackendError(f"the process of {units} units ended with status {done.returncode}", "see above")
    return LoopSpeed(**json.loads(done.stdout))


def main() -> None:
    """What the process of one number of units does."""
    units, iterations, max_concurrent_units, words = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="line-benchmark-") as folder:
        went = run_instant(
            units, Path(folder), iterations=iterations, max_concurrent_units=max_concurrent_units, words=words
        )
    print(json.dumps(asdict(went)))


if __name__ == "__main__":
    main()
