"""Part ``patience``: what patience and restarts save and cost, compared with a finished run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.eval.benchmarks.generated_images import count
from line_neurons.eval.benchmarks.metering import Clock, Figure, Figures
from line_neurons.eval.benchmarks.real_components import closing, near_words
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.graphs.runs.reopening import reopen
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.runs import RunStore, default_store


@dataclass(frozen=True)
class Effort:
    """The cost of the loops of some units.

    Args:
        images: images of all concepts that the units scored, each unit for itself.
        distinct: images of the distinct concepts, which are generated.
    """

    images: int
    distinct: int
    requests: int


def add_arguments(parser: ArgumentParser) -> None:
    """The part's options."""
    parser.add_argument("run", help="a finished run without patience")
    parser.add_argument("--store", type=Path, help="the store that it is in")
    parser.add_argument("--assets", type=Path)
    parser.add_argument(
        "--patience", type=lambda text: [int(part) for part in text.split(",")], default=[2, 3, 5],
        help="values to try, with commas between",
    )  # fmt: skip
    parser.add_argument("--restarts", type=int, default=0)
    parser.add_argument("--max-iterations", type=int)


def measure(options: Namespace) -> Figures:
    """Label the units of the run again with each patience, in the same store."""
    store = options.store or default_store()
    runs = RunStore(store, read_only=True)
    run = runs.run(options.run)
    runs.close()
    spec = str(run.fingerprints["language_model"])

    def opened(changes: dict[str, Any]) -> Components:
        if not spec.startswith("near words"):
            return reopen(run, store, options.assets, changes=changes)
        # The record names another proposer, since the command does not know this one.
        components = reopen(run, store, options.assets, changes={**changes, "llm": run.settings["llm"]})
        return components.with_(language_model=near_words(f"near:{spec.partition('=')[2]}"))

    yield (
        f"{run.id}: {run.model}, {run.layer}; language model {spec}; {run.settings['iterations']} iterations. Each"
        " variant labels the same units again in the same store, so that what it shares with the run is not"
        " computed again; counted is what it takes in a store of its own. Labels are those after a revisit, if the"
        " run has one."
    )
    for patience in options.patience:
        changes = {"patience": patience, "restarts": options.restarts, "max_iterations": options.max_iterations}
        with closing(opened(changes)) as components:
            yield from compare(components, run)


def compare(components: Components, run: Run) -> Figures:
    """Label the units of a run with other settings, and compare.

    Args:
        components: components with the other settings, around the run's store.

    Raises:
        UsageError: the run has patience or is not finished.
    """
    settings = components.settings
    if run.settings.get("patience") or run.settings.get("restarts") or run.status != "finished":
        raise UsageError(
            f"the run {run.id} has patience or restarts, or is not finished", "name a finished one without them"
        )
    before = components.runs.units(run.id)
    again = start(components, run.layer, [str(unit.unit) for unit in before])
    work(components, again, Clock(len(before)))
    after = {unit.unit: unit for unit in components.runs.units(again.id)}
    pairs = [(unit, after[unit.unit]) for unit in before]
    further = f", up to {settings.max_iterations} iterations" if settings.max_iterations else ""
    name = f"patience {settings.patience}, restarts {settings.restarts}{further}"
    old, new = effort(components.runs, run.id, before), effort(components.runs, again.id, before)
    for what, one, other in (
        ("images, generated once for all units", new.distinct, old.distinct),
        ("images, each unit for itself", new.images, old.images),
        ("requests", new.requests, old.requests),
    ):
        yield Figure(
            f"{name}: {what}, of those without", one / max(other, 1), len(pairs), detail=f"{one:,} of {other:,}"
        )
    yield from _quality(name, pairs)


def effort(runs: RunStore, run: str, units: Sequence[Unit]) -> Effort:
    """Return the cost of the loops of units, by their histories."""
    counted = count(runs, run, [unit.unit for unit in units])
    requests = 0
    for unit in units:
        # The entry of a stalled step repeats its last request.
        steps = runs.steps(run, unit.unit)
        requests += sum(step.seed is not None and step.outcome != "stalled" for step in steps)
    return Effort(counted.images, counted.distinct, requests)


def _quality(name: str, pairs: Sequence[tuple[Unit, Unit]]) -> Figures:
    labelled = [(old, new) for old, new in pairs if old.score is not None and new.score is not None]
    given_up = [(old.score or 0.0) - (new.score or 0.0) for old, new in labelled]
    whole = sum(old.score or 0.0 for old, _ in labelled)
    changed = sum(old.label != new.label for old, new in labelled)
    n = len(labelled)
    yield Figure(
        f"{name}: score given up, of the labels' score", sum(given_up) / whole if whole else 0.0, n,
        detail=f"mean {sum(given_up) / max(n, 1):.4g}, most {max(given_up, default=0.0):.4g}, "
        f"least {min(given_up, default=0.0):.4g}",
    )  # fmt: skip
    yield Figure(f"{name}: labels that changed", changed / max(n, 1), n, detail=f"{changed}")
