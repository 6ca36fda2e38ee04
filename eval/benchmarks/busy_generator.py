"""Part ``busy``: the share of time in which a generator of fixed latency works in a warm batch."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from line_neurons.eval.benchmarks.instant import LAYER, InstantModel, SlowGenerator, instant_components
from line_neurons.eval.benchmarks.metering import (
    Clock,
    Figure,
    Figures,
    MeteredGenerator,
    MeteredModel,
    Span,
    covered,
)
from line_neurons.eval.benchmarks.real_components import closing, store_folder, units_of
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import start, work


def add_arguments(parser: ArgumentParser) -> None:
    """The part's options."""
    parser.add_argument("--units", type=int, default=100)
    parser.add_argument("--max-concurrent-units", type=int, default=24)
    parser.add_argument("--llm-parallel", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--batch-timeout", type=float, default=0.05)
    parser.add_argument("--store", type=Path, help="keep the store in this folder, which must be new")


def measure(options: Namespace) -> Figures:
    """Run a batch around a slow generator and a slow language model."""
    generator = MeteredGenerator(SlowGenerator())
    model = MeteredModel(InstantModel(seconds=0.2))
    with store_folder(options.store) as store:
        components = instant_components(
            store, model, generator, iterations=options.iterations,
            max_concurrent_units=options.max_concurrent_units, llm_parallel=options.llm_parallel,
            batch_timeout=options.batch_timeout,
        )  # fmt: skip
        yield (
            f"generator: 50 ms for an image, 80 ms for {generator.batch_size} at once; language model: 200 ms, a"
            f" new concept each time, {options.llm_parallel} requests at once; target: instant;"
            f" {options.max_concurrent_units} units in flight. Warm: from a fifth to four fifths of the units."
        )
        with closing(components):
            yield from run_warm(components, generator, model, options.units)


def run_warm(
    components: Components,
    generator: MeteredGenerator,
    model: MeteredModel,
    units: int,
    *,
    images_alone: float = 0.0,
) -> Figures:
    """Run a batch of instant components around a generator, and report the warm part of the run.

    Args:
        images_alone: images a second of the generator alone; 0 if that was not measured.
    """
    clock = Clock(units)
    work(components, start(components, LAYER, units_of(units)), clock)
    window = clock.warm_window
    seconds = window[1] - window[0]
    images = generator.images_in(window)
    calls = _ended_in(generator.spans, window)
    yield Figure(
        "share of time in which the generator works", covered(generator.spans, window), units,
        aim="at least 0.95", detail=f"in {seconds:.4g} s",
    )  # fmt: skip
    yield Figure(
        "images in a batch", images / max(calls, 1), calls, "batches", detail=f"of {generator.batch_size}"
    )
    rate = images / seconds if seconds else 0.0
    yield Figure("images a second", rate, images, "images")
    if images_alone:
        yield Figure(
            "images a second in the batch, of the generator's alone", rate / images_alone,
            images, "images", detail=f"{images_alone:.4g} a second alone",
        )  # fmt: skip
    requests = _ended_in(model.spans, window)
    yield Figure("requests a second", requests / seconds if seconds else 0.0, requests, "requests")


def _ended_in(spans: Sequence[Span], window: Span) -> int:
    return sum(window[0] < end <= window[1] for _, end in spans)
