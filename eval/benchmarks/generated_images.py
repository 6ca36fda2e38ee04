"""Part ``images``: images that a batch draws, of those that the reference draws for the same units."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from line_neurons.eval.benchmarks.metering import Clock, Figure, Figures
from line_neurons.eval.benchmarks.real_parts import (
    OpenComponents,
    add_options,
    closing,
    metered,
    opening,
    units_of,
    workplace,
)
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.store.runs import RunStore

AIMS = {50: 0.6, 200: 0.4, 2000: 0.2}


@dataclass(frozen=True)
class Counted:
    """What the histories of some units say.

    Args:
        units: how many finished units were counted.
        images: images of all concepts that the units scored, each unit for itself.
        distinct: images of the distinct ones among them.
        proposed: concepts that the language model proposed and that were scored.
        fresh: those of them that no unit before had scored, in the order of the units.
    """

    units: int
    images: int
    distinct: int
    proposed: int
    fresh: int


def count(runs: RunStore, run: str, units: Sequence[int]) -> Counted:
    """Count the images in the histories of units; those of a revisit are none that had to be drawn."""
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
    return Counted(len(units), images, distinct, proposed, fresh)


def add_arguments(parser: ArgumentParser) -> None:
    """The part's options."""
    add_options(parser, llm="near")
    parser.add_argument(
        "--units", type=lambda text: [int(part) for part in text.split(",")], default=[50, 200],
        help="numbers of units, with commas between; one batch of the most is run",
    )  # fmt: skip


def measure(options: Namespace) -> Figures:
    """Run one batch and count."""
    with workplace(options.store) as store:
        yield from compare(opening(options), options.layer, options.units, store)


def compare(opened: OpenComponents, layer: str, sizes: Sequence[int], store: Path) -> Figures:
    """Run a batch of the most units, and count for each number of units.

    The images of the first units alone are counted from their histories: their loops are the same in a batch of
    their own. So are the reference's: it scores what they scored, and draws each anew.

    Args:
        opened: opens the parts.
        layer: dotted path of the layer.
        sizes: numbers of units.
        store: folder of the run.
    """
    components, generator, model = metered(opened(store))
    with closing(components):
        run = start(components, layer, units_of(max(sizes)))
        settings = components.settings
        pool = f"from a pool of {settings.random_pool}" if settings.random_pool else "from all classes"
        yield (
            f"{components.model}, {layer}; proposer {model.fingerprint}; boards of {settings.top} best and"
            f" {settings.random} others {pool}; {settings.iterations} iterations, {settings.images} images a"
            " concept. The reference draws every concept that a unit scored anew, the first board's too; counted"
            " from the histories of this batch, whose loops have the same seeds."
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
            how = "drawn" if whole else "of distinct concepts"
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
                yield f"the histories have {found.distinct:,} distinct images, and {drawn:,} were drawn"
        yield Figure("time of the batch", seconds, len(units), unit="s", detail=f"{model.questions:,} questions")
