"""Part ``wall``: the time of a batch, compared with one unit after the other and everything generated again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.agent.ports import LanguageModel, Prompt, Proposal
from line_neurons.eval.benchmarks.metering import Clock, Figure, Figures
from line_neurons.eval.benchmarks.real_components import (
    OpenComponents,
    add_options,
    closing,
    component_opener,
    copied,
    metered,
    settings_of_options,
    store_folder,
    units_of,
    warm_up,
    with_store,
    without_reply_cache,
)
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.language_models.llama_cpp import CACHED_PREFIXES

_EQUAL = 1e-6
# The reference's own keeps the last prompt, as servers of language models with one slot do.
_KEEPS = {"nothing": "nothing between requests", "each": "what prompts share for each kind, as the batch's does"}
# Packs that the parts read while they work; the language models are read by loading them.
_READ = ("photos", "stamps", "backgrounds")


@dataclass
class Timing:
    """The time and work of one of the two ways.

    Args:
        seconds: wall time of the loops alone.
        loading: wall time until models were loaded and warm.
        labels: label and score of each finished unit.
    """

    seconds: float = 0.0
    loading: float = 0.0
    units: int = 0
    requests: int = 0
    images: int = 0
    labels: dict[int, tuple[str, float]] = field(default_factory=dict)

    def add_run(self, components: Components, run: str) -> None:
        """Add the labels of a run."""
        for unit in components.runs.units(run):
            self.units += 1
            if unit.label is not None and unit.score is not None:
                self.labels[unit.unit] = (unit.label, unit.score)

    @property
    def each(self) -> float:
        """Seconds for a unit."""
        return self.seconds / self.units


@dataclass
class StatelessModel:
    """A language model that keeps no state of what prompts share; each prompt is computed as a whole."""

    model: LanguageModel

    @property
    def fingerprint(self) -> str:
        """See ``ports.LanguageModel.fingerprint``."""
        return self.model.fingerprint

    def propose(self, prompt: Prompt, *, seed: int, temperature: float) -> Proposal:
        """See ``ports.LanguageModel.propose``."""
        return self.model.propose(replace(prompt, shared=0), seed=seed, temperature=temperature)


def add_arguments(parser: ArgumentParser) -> None:
    """The part's options."""
    add_options(parser, llm="embedded")
    parser.add_argument("--units", type=int, default=50, help="number of units, from the first of the layer")
    parser.add_argument(
        "--reference-units", type=int, help="number of units of the reference; its time is scaled; default: all"
    )
    parser.add_argument(
        "--reference-threads", choices=["all", "same"], default="all",
        help="all: its language model may use all cores for its one request; same: set up as the batch's is, "
        "so that answers agree to the bit",
    )  # fmt: skip
    for keeps, text in _KEEPS.items():
        parser.add_argument(
            f"--keeping-{keeps}", type=int, default=0, metavar="UNITS",
            help=f"number of units for a reference with a language model that keeps {text}",
        )  # fmt: skip
    parser.add_argument(
        "--processes", type=int, default=0, metavar="UNITS",
        help="number of units for a process each",
    )  # fmt: skip
    parser.add_argument("--first", choices=["reference", "batch"], default="reference")


def measure(options: Namespace) -> Figures:
    """Measure both sides."""
    reference = options.units if options.reference_units is None else options.reference_units
    with store_folder(options.store) as folder:
        batch = yield from compare(
            component_opener(options), options.layer, options.units, folder,
            reference_units=min(reference, options.units), same_threads=options.reference_threads == "same",
            keeping={keeps: min(vars(options)[f"keeping_{keeps}"], options.units) for keeps in _KEEPS},
            batch_first=options.first == "batch",
        )  # fmt: skip
        if options.processes:
            yield from _processes(options, folder, batch)


def compare(
    opened: OpenComponents,
    layer: str,
    units: int,
    folder: Path,
    *,
    reference_units: int,
    same_threads: bool = False,
    keeping: Mapping[str, int] = MappingProxyType({}),
    batch_first: bool = False,
) -> Generator[Figure | str, None, Timing]:
    """Compare the batch with the reference, in one process with loaded models for both.

    Args:
        folder: where the stores are made; ``template`` in it has the control activations.
        reference_units: number of units of the reference, whose time is scaled; 0 leaves it out.
        same_threads: the reference's language model is set up as the batch's.
        keeping: number of units for further references whose embedded language model keeps ``nothing`` between
            requests, or, as the batch's does, what prompts share for ``each`` kind of them.
        batch_first: the batch is measured before the reference.

    Returns:
        the timing of the batch.
    """
    template = folder / "template"
    with closing(opened(template)) as components:
        settings = components.settings
        _read_files(components.assets)
        components.control(layer)
    parallel = settings.llm_parallel if same_threads else 1
    yield (
        f"{components.model}, {layer}; language model {components.language_model.fingerprint};"
        f" {settings.iterations} iterations, {settings.images} images a concept, seed {settings.seed}, random pool"
        f" {settings.random_pool}; {settings.max_concurrent_units} units in flight,"
        f" {settings.llm_parallel} requests at once. Reference: one unit at a time in a new store each, so"
        " every image, activation and reply again;"
        " models, control activations and embeddings of the bank's names loaded before; its language model is set"
        f" up for {parallel} requests at once, sent one at a time, and keeps the state of the last prompt."
        f" First: {'batch' if batch_first else 'reference'}."
    )
    sides: dict[str, Timing] = {}
    for way in ("batch", "reference") if batch_first else ("reference", "batch"):
        if way == "batch":
            sides[way] = run_batch(opened, layer, units, copied(template, folder / "batch"))
        elif reference_units:
            sides[way] = run_reference(opened, layer, reference_units, folder, parallel)
    yield from _compared(sides["batch"], sides.get("reference"))
    for keeps, count in keeping.items():
        if count:
            other = run_reference(opened, layer, count, folder, parallel, keeps=keeps)
            yield Figure(
                f"wall time of the batch, of a reference's that keeps {_KEEPS[keeps]}",
                sides["batch"].each / other.each, units, detail=f"{other.each:.4g} s a unit, measured on {count}",
            )  # fmt: skip
    return sides["batch"]


def run_batch(opened: OpenComponents, layer: str, units: int, store: Path) -> Timing:
    """Label the units in one batch around a store."""
    side = Timing()
    opening_began = time.perf_counter()
    components, generator, model = metered(opened(store))
    with closing(components):
        warm_up(components, layer)
        side.loading = time.perf_counter() - opening_began
        before = generator.images, model.requests
        run = start(components, layer, units_of(units))
        began = time.perf_counter()
        work(components, run, Clock(units))
        side.seconds = time.perf_counter() - began
        side.images, side.requests = generator.images - before[0], model.requests - before[1]
        side.add_run(components, run.id)
    return side


def run_reference(
    opened: OpenComponents, layer: str, units: int, folder: Path, llm_parallel: int, *, keeps: str = "last"
) -> Timing:
    """Label the units one by one, each around a store with the template's control activations only."""
    side = Timing()
    alone = {"max_concurrent_units": 1, "revisit": False, "llm_parallel": llm_parallel}
    plain = opened(copied(folder / "template", folder / "reference"))
    stateful_model = without_reply_cache(plain, llm_parallel, kept=1 if keeps == "last" else CACHED_PREFIXES)
    loaded, generator, model = metered(
        plain.with_(language_model=StatelessModel(stateful_model) if keeps == "nothing" else stateful_model)
    )
    with closing(loaded):
        warm_up(loaded, layer)
        before = generator.images, model.requests
        for unit in range(units):
            store = copied(folder / "template", folder / f"unit-{unit}")
            with closing(with_store(loaded, store, **alone)) as components:
                run = start(components, layer, [str(unit)])
                began = time.perf_counter()
                work(components, run)
                side.seconds += time.perf_counter() - began
                side.add_run(components, run.id)
            shutil.rmtree(store)
            print(f"{unit + 1} of {units} units of the reference", file=sys.stderr, flush=True)
        side.images, side.requests = generator.images - before[0], model.requests - before[1]
    shutil.rmtree(folder / "reference")
    return side


def _compared(batch: Timing, reference: Timing | None) -> Figures:
    yield Figure("wall time of the batch", batch.seconds, batch.units, unit="s", detail=_work_of(batch))
    if reference is None:
        return
    scaled = reference.each * batch.units
    note = "" if reference.units == batch.units else f", scaled from {reference.seconds:.4g} s"
    yield Figure(
        f"wall time of the reference{note}", scaled, reference.units, unit="s", detail=_work_of(reference)
    )
    yield Figure(
        "wall time of the batch, of the reference's", batch.seconds / scaled, batch.units, aim="at most 0.6"
    )
    yield from labels_compared(batch.labels, reference.labels)


def labels_compared(batch: dict[int, tuple[str, float]], reference: dict[int, tuple[str, float]]) -> Figures:
    """Compare the scores of labels in the batch and in the reference, over the units that have both."""
    both = sorted(batch.keys() & reference.keys())
    gains = [batch[unit][1] - reference[unit][1] for unit in both]
    near = [_EQUAL * max(1.0, abs(reference[unit][1])) for unit in both]
    better = sum(gain > least for gain, least in zip(gains, near, strict=True))
    worse = sum(gain < -least for gain, least in zip(gains, near, strict=True))
    yield Figure("labels that score better in the batch", better, len(both))
    yield Figure("labels that score the same", len(both) - better - worse, len(both))
    yield Figure(
        "labels that score worse in the batch", worse, len(both), aim="0",
        detail=f"least gain {min(gains, default=0.0):.4g}, mean gain {sum(gains) / max(len(gains), 1):.4g}",
    )  # fmt: skip


def _work_of(side: Timing) -> str:
    return f"{side.requests:,} requests, {side.images:,} images"


def _processes(options: Namespace, folder: Path, batch: Timing) -> Figures:
    """Compare the batch with a process of ``line explain`` for each unit."""
    if options.llm.startswith("near"):
        raise UsageError("the command has no proposer near", "name another with --llm")
    command = [str(Path(sys.executable).with_name("line")), "explain", options.model, options.layer]
    whole = (batch.loading + batch.seconds) / batch.units
    for given, template in (
        ("that starts with the control activations", folder / "template"),
        ("that starts empty", None),
    ):
        each = []
        for unit in range(min(options.processes, options.units)):
            store = folder / f"process-{unit}"
            if template:
                copied(template, store)
            alone = {"max_concurrent_units": 1, "llm_parallel": 1, "revisit": False}
            each.append(_process([*command, str(unit)], options, store, **alone))
            shutil.rmtree(store)
        yield Figure(
            f"wall time of the batch, of one process of line explain for each unit around a store {given}",
            whole / (sum(each) / len(each)), batch.units, aim="at most 0.3",
            detail=f"{whole:.4g} s a unit with {batch.loading:.4g} s in all for loading, and"
            f" {sum(each) / len(each):.4g} s measured on {len(each)} processes",
        )  # fmt: skip


def _process(command: Sequence[str], options: Namespace, store: Path, **changes: object) -> float:
    """Return the seconds of a process of the command, which reads its settings from the environment."""
    settings = {**settings_of_options(options), "llm": options.llm, "store": store, **changes}
    environment = {f"LINE_{name.upper()}": str(value) for name, value in settings.items()}
    began = time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, **environment}, check=False, capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BackendError(f"line {command[1]} ended with status {done.returncode}: {last}")
    return time.perf_counter() - began


def _read_files(assets: Path) -> None:
    """Read the images of the packs once, so that no measured run reads them from the disk first."""
    for pack in _READ:
        for path in (assets / pack).rglob("*"):
            if path.is_file():
                path.read_bytes()
