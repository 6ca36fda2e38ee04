"""Part ``images``: images that a batch generates, of those that the reference generates for the same units."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from line_neurons.eval.benchmarks.metering import Clock, Figure, Figures
from line_neurons.eval.benchmarks.real_components import (
    OpenComponents,
    add_options,
    closing,
    component_opener,
    metered,
    store_folder,
    units_of,
)
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.store.runs import RunStore

AIMS = {50: 0.6, 200: 0.4, 2000: 0.2}


@dataclass(frozen=True)
class ImageCounts:
    """Counts over the histories of some units.

    Args:
        images: images of all concepts that the units scored, each unit for itself.
        proposed: scored concepts that the language model proposed.
        fresh: those of them that no earlier unit had scored.
    """

    units: int
    images: int
    distinct: int
    proposed: int
    fresh: int


def count(runs: RunStore, run: str, units: Sequence[int]) -> ImageCounts:
    """Count the images in the histories of units; those of a revisit need no generation."""
    seen: set[tuple[str, int]] = set()
    images = distinct = proposed = fresh = 0
    for unit in units:
        scored: dict[str, int] = {}
        for step in runs.steps(run, unit):
            if step.outcome != "scored" or step.kind == "revisit" or step.concept is None:
                continue
            key = step.concept, scored.get(step.concept, 0)
            scored[step.concept] = key[1] + 1
            new = key not in seen
            seen.add(key)
            images += len(step.images)
            distinct += new * len(step.images)
            proposed += step.kind != "initial"
            fresh += new and step.kind != "initial"
    return ImageCounts(len(units), images, distinct, proposed, fresh)


def add_arguments(parser: ArgumentParser) -> None:
    """The part's options."""
    add_options(parser, llm="near")
    parser.add_argument(
        "--units", type=lambda text: [int(part) for part in text.split(",")], default=[50, 200],
        help="numbers of units, with commas between; one batch of the most is run",
    )  # fmt: skip


def measure(options: Namespace) -> Figures:
    """Run one batch and count."""
    with store_folder(options.store) as store:
        yield from compare(component_opener(options), options.layer, options.units, store)


def compare(opened: OpenComponents, layer: str, sizes: Sequence[int], store: Path) -> Figures:
    """Run a batch of the most units, and count for each number of units.

    The first units alone and the reference are counted from the histories: their loops are the same in a batch of
    their own.
    """
    components, generator, model = metered(opened(store))
    with closing(components):
        run = start(components, layer, units_of(max(sizes)))
        settings = components.settings
        pool = f"from a pool of {settings.random_pool}" if settings.random_pool else "from all classes"
        yield (
            f"{components.model}, {layer}; proposer {model.fingerprint}; boards of {settings.top} best and"
            f" {settings.random} others {pool}; {settings.iterations} iterations, {settings.images} images a"
            " concept. The reference generates every concept that a unit scored, of the initial scoreboard too;"
            " counted from the histories of this batch, with the same seeds."
        )
        clock = Clock(max(sizes))
        began = time.perf_counter()
        work(components, run, clock)
        seconds = time.perf_counter() - began
        units = components.runs.units(run.id)
        if failed := sum(unit.status not in DONE for unit in units):
            yield f"{failed} of {len(units)} units did not finish and count as far as they came"
        for size in sorted(sizes):
            found = count(components.runs, run.id, [unit.unit for unit in units[:size]])
            whole = size == len(units)
            drawn = generator.images if whole else found.distinct
            how = "generated" if whole else "of distinct concepts"
            yield Figure(
                f"images of {size} units, of the reference's", drawn / found.images, size,
                aim=f"at most {AIMS[size]}" if size in AIMS else "",
                detail=f"{drawn:,} {how} of {found.images:,}",
            )  # fmt: skip
            yield Figure(
                f"proposals of {size} units that no unit had scored before",
                found.fresh / max(found.proposed, 1), found.proposed, "proposals",
            )  # fmt: skip
            if whole and drawn != found.distinct:
                yield f"the histories have {found.distinct:,} distinct images, and {drawn:,} were generated"
        yield Figure("time of the batch", seconds, len(units), unit="s", detail=f"{model.requests:,} requests")
