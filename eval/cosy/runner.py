"""Evaluate labels of runs and files by CoSy, and write the scores to the store."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from line_neurons.agent.errors import NotDrawableError, UsageError
from line_neurons.agent.ports import Control, ControlSet
from line_neurons.agent.settings import Settings, revised
from line_neurons.eval.cosy.images import ConceptImages, FolderImages, GeneratedImages
from line_neurons.eval.cosy.protocol import (
    CONCEPT_BATCH,
    CONTROL_BATCH,
    Mode,
    check_multiple_of_three,
    emulate_short_batch,
    judge,
    missing_score,
)
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.eval.labels.library import find_labels, is_file, open_runs, split_source
from line_neurons.eval.labels.names import file_stem, matches_target, target_of
from line_neurons.graphs.runs.code_trust import record_trust, require_trust
from line_neurons.graphs.runs.components import Components, OnProgress
from line_neurons.graphs.runs.unit_selection import measured_statistics
from line_neurons.tools.control_sets import PrecomputedControl, control_activations
from line_neurons.tools.control_sets.unit_statistics import of_units
from line_neurons.tools.parallel import ordered_map
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.results.evaluations import CosyScore, Evaluation, Evaluations, Result
from line_neurons.tools.store.runs import default_store
from line_neurons.tools.targets.base import find_layer, layer_fingerprint
from line_neurons.tools.targets.unit_selectors import parse_units

if TYPE_CHECKING:
    from line_neurons.agent.ports import Activations
    from line_neurons.tools.targets.hooked_target import HookedTarget

COLUMNS = ("neuron", "concept", "AUC", "U1", "p", "MAD")

_COSY_NAMES = {
    "invert": "INVERT",
    "clip-dissect": "CLIP-Dissect",
    "milan": "MILAN",
    "falcon": "FALCON",
    "line": "LINE",
}


@dataclass(frozen=True)
class EvaluatedLayer:
    """Labels of one layer, with the components to evaluate them.

    Args:
        components: target, cache and settings; those of the run for labels of a run.
        labels: of each method.
    """

    components: Components
    layer: str
    labels: tuple[Labels, ...]

    def select_units(self, selectors: Sequence[str] | None, seed: int) -> list[int] | None:
        """Return the units that selectors name; None where there are none, which stands for all.

        Selectors of how units respond, such as ``alive:random:5``, select among the units that have labels.

        Raises:
            UsageError: see ``parse_units``; or there is no control set, and a selector needs one.
        """
        if not selectors:
            return None
        target = self.components.target
        info = find_layer(target.layers(), self.layer, self.components.model)
        labelled = {label.unit for labels in self.labels for label in labels.labels}
        measured = measured_statistics(self.components, self.layer)
        return parse_units(
            selectors,
            info.units,
            target.unit_names(self.layer),
            seed=seed,
            layer=self.layer,
            statistics=lambda: of_units(measured(), labelled),
        )


def open_layer(
    names: Sequence[str],
    settings: Settings,
    changes: Mapping[str, Any],
    *,
    model: str | None = None,
    layer: str | None = None,
    units_from: int | None = None,
    mode: Mode = "fixed",
    facets: bool = False,
    on_progress: OnProgress | None = None,
    trust: bool = False,
) -> EvaluatedLayer:
    """Read labels and open the components that evaluate them.

    Args:
        names: runs of the store, entries of its library, or files of labels, each optionally after its method:
            ``random=labels.csv``.
        settings: locations of store and asset packs, and the settings for labels that are of no run.
        changes: settings that override those of a run.
        model: the target of files whose name does not contain it; without a prefix, CoSy's name of a model.
        layer: the layer of such files.
        units_from: number of the first unit of files; see ``formats.read_labels``.
        mode: ``strict`` prepares images for torchvision's models as the reference code does.
        facets: read all labels of a unit; see ``formats.read_labels``.
        trust: run the custom code that a run names, whoever started it.

    Raises:
        UsageError: there is no such run or file, the labels are of several models or layers or of unknown ones, a
            label's unit is not in the layer, or the target is not the run's.
    """
    labels, runs = _read_sources(names, settings.store or default_store(), layer, units_from, facets=facets)
    if runs:
        components = _components_of(runs, settings, changes, on_progress, trust)
        path = runs[0].layer
    else:
        spec, path = target_of(model or labels[0].model, layer or labels[0].layer)
        for what, value in {"model": spec, "layer": path}.items():
            if not value:
                raise UsageError(f"{labels[0].source} does not name its {what}", f"name it with --{what}")
        components = Components(spec, settings, on_progress)
    info = find_layer(components.target.layers(), path, components.model)
    for labelled in labels:
        if not model:
            _refuse_other_layer(labelled, components.shown_model, path)
        _refuse_outside(labelled, path, info.units)
    if mode == "strict" and components.model.startswith("torchvision:"):
        from line_neurons.tools.targets.transforms import COSY_TRANSFORM, cosy_transform

        components = components.with_(
            target=cast("HookedTarget", components.target).with_transform(cosy_transform, COSY_TRANSFORM)
        )
    components.target.activate([], [path])
    return EvaluatedLayer(components, path, tuple(labels))


def _read_sources(
    names: Sequence[str], store: Path, layer: str | None, units_from: int | None, *, facets: bool
) -> tuple[list[Labels], list[Run]]:
    """Read labels, and the records of those that are runs."""
    labels: list[Labels] = []
    runs: list[Run] = []
    for name in names:
        labelled = find_labels(name, store, layer, units_from, facets=facets)
        labels.append(labelled)
        if not is_file(split_source(name)[1]) and "/" not in labelled.source:
            runs.append(open_runs(store).run(labelled.source))
    _refuse_twice(labels)
    return labels, runs


def _refuse_other_layer(labels: Labels, target: str, layer: str) -> None:
    if labels.model and labels.layer and not matches_target(labels.model, labels.layer, target, layer):
        raise UsageError(
            f"the labels of {labels.source} are of {file_stem(labels.model, labels.layer)}, not of "
            f"{file_stem(target, layer)}",
            "evaluate the labels of one layer at a time; name that of a file with --model and --layer",
        )


def _refuse_outside(labels: Labels, layer: str, units: int) -> None:
    """Check that every label is of a unit of the layer.

    Raises:
        UsageError: one is not; or the units of a file count from 1.
    """
    numbers = {label.unit for label in labels.labels}
    if 0 not in numbers and max(numbers) == units:
        raise UsageError(
            f"{labels.source} has a label for unit {units} and none for unit 0: it counts units from 1",
            f"add --units-from 1, to `line import` if it was imported; layer {layer} has the units 0-{units - 1}",
        )
    if outside := next((label.unit for label in labels.labels if label.unit >= units), None):
        raise UsageError(
            f"{labels.source} has a label for unit {outside}", f"layer {layer} has the units 0-{units - 1}"
        )


def evaluate_labels(
    evaluated: EvaluatedLayer,
    labels: Labels,
    chosen: Sequence[Label],
    images: ConceptImages,
    control: tuple[str, ControlSet | PrecomputedControl],
    results: Evaluations,
    *,
    mode: Mode = "fixed",
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Result:
    """Evaluate labels of a method concept by concept; each result is written to the store at once.

    Cached images and activations of other methods and of an interrupted evaluation are reused.

    Args:
        chosen: the labels to evaluate; see ``protocol.select_labels``.
        control: the control set after its name.
        mode: see ``protocol``.
        seed: the images', for the record.
        on_progress: reports long work; its exceptions end the work.

    Raises:
        UsageError: ``strict`` mode does not fit these labels.
        BackendError: a component failed.
        StoreError: the store cannot be used.
    """
    concepts = list(dict.fromkeys(label.concept for label in chosen))
    if mode == "strict" and not isinstance(images, FolderImages):
        check_multiple_of_three(len(concepts))
    control_name, source = control
    units = sorted({label.unit for label in chosen})
    columns = _control(evaluated, source, on_progress).columns(units)
    if mode == "strict":
        columns = emulate_short_batch(columns, CONTROL_BATCH)
    base = dict(zip(units, columns.T, strict=True))
    components = evaluated.components
    evaluation = Evaluation(
        method=labels.method,
        source=labels.source,
        model=components.shown_model,
        layer=evaluated.layer,
        images=images.name,
        control=control_name,
        mode=mode,
        seed=seed,
        count=images.count,
        target=layer_fingerprint(components.target, evaluated.layer),
        images_id=images.fingerprint,
        control_id=source.fingerprint,
    )
    scores: dict[tuple[int, int], CosyScore] = {}

    def evaluate(numbered: tuple[int, str]) -> list[CosyScore]:
        place, concept = numbered
        own = [label for label in chosen if label.concept == concept]
        return _evaluate_concept(own, concept, place, images, base, mode, on_progress)

    for place, part in enumerate(_in_order(evaluate, list(enumerate(concepts)), images)):
        results.put(evaluation, part)
        scores |= {(score.unit, score.facet): score for score in part}
        if on_progress:
            on_progress(f"CoSy {labels.method}", place + 1, len(concepts))
    return Result(evaluation, tuple(scores[label.unit, label.facet] for label in chosen), time.time())


def cosy_csv(scores: Sequence[CosyScore]) -> bytes:
    """Write scores as CoSy's code does; those of a concept that cannot be generated are empty."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(COLUMNS)
    for score in scores:
        numbers = ("",) * 4 if score.missing else (score.auc, score.u1, score.p, score.mad)
        writer.writerow([score.unit, score.concept, *numbers])
    return written.getvalue().encode()


def cosy_file_name(labels: Labels, model: str, layer: str) -> str:
    """Return the name of CoSy's file of results, ``evaluation_INVERT_resnet18-avgpool.csv``."""
    method = _COSY_NAMES.get(labels.method) or re.sub(r"[^\w.]+", "-", labels.method.replace("_", "-")).strip("-")
    return f"evaluation_{method}_{file_stem(model, layer)}.csv"


def common_units(results: Sequence[Result]) -> set[int]:
    """Return the units with a score from every method."""
    with_numbers = [{score.unit for score in result.scores if not score.missing} for result in results]
    return set.intersection(*with_numbers) if with_numbers else set()


def facet_numbers(scores: Sequence[CosyScore], measure: str) -> dict[int, tuple[float, float, float]]:
    """Return what the labels of each unit come to: the first one's number, the best and the mean.

    Labels without images do not count; a unit of which the first label has none is left out. ``measure`` is
    ``auc`` or ``mad``.
    """
    by_unit: dict[int, list[tuple[int, float]]] = {}
    for score in scores:
        if not score.missing:
            by_unit.setdefault(score.unit, []).append((score.facet, float(getattr(score, measure))))
    return {
        unit: (
            numbers[0][1],
            max(value for _, value in numbers),
            sum(value for _, value in numbers) / len(numbers),
        )
        for unit, numbers in ((unit, sorted(several)) for unit, several in by_unit.items())
        if numbers[0][0] == 0
    }


def _in_order(
    evaluate: Callable[[tuple[int, str]], list[CosyScore]], concepts: list[tuple[int, str]], images: ConceptImages
) -> Iterator[list[CosyScore]]:
    """Yield the scores of concepts, in order; as many are evaluated at the same time as keep workers busy."""
    parallel = images.parallel if isinstance(images, GeneratedImages) else 1
    if parallel == 1:
        yield from map(evaluate, concepts)
        return
    with ThreadPoolExecutor(parallel, thread_name_prefix="line CoSy") as threads:
        yield from ordered_map(threads, evaluate, concepts, parallel)


def _evaluate_concept(
    own: Sequence[Label],
    concept: str,
    place: int,
    images: ConceptImages,
    base: Mapping[int, Activations],
    mode: Mode,
    on_progress: OnProgress | None,
) -> list[CosyScore]:
    def report(done: int, total: int) -> None:
        if on_progress:
            on_progress("generating images", done, total)

    try:
        rows = images.activations(concept, place, report)
    except NotDrawableError as error:
        return [missing_score(label, str(error)) for label in own]
    if mode == "strict":
        rows = emulate_short_batch(rows, CONCEPT_BATCH)
    return [judge(label, base[label.unit], rows[:, label.unit], mode) for label in own]


def _control(
    evaluated: EvaluatedLayer, source: ControlSet | PrecomputedControl, on_progress: OnProgress | None
) -> Control:
    components, layer = evaluated.components, evaluated.layer
    if isinstance(source, PrecomputedControl):
        return source.control(find_layer(components.target.layers(), layer, components.model).units, layer)

    def counted(done: int, total: int) -> None:
        if on_progress:
            on_progress("control set images", done, total)

    return control_activations(components.cache, components.target, [layer], source, counted)[layer]


def _components_of(
    runs: Sequence[Run],
    settings: Settings,
    changes: Mapping[str, Any],
    on_progress: OnProgress | None,
    trust: bool,
) -> Components:
    """Open the components of the first of some runs of one target; their language model is not used."""
    run = runs[0]
    places = {"store": settings.store, "assets": settings.assets}
    components = Components(run.model, revised({**run.settings, **places}, changes), on_progress, {run.layer})
    if trust:
        record_trust(components.runs, run)
    require_trust(components.runs, run, {"llm": ""})
    now = layer_fingerprint(components.target, run.layer)
    for other in runs:
        if other.layer != run.layer:
            raise UsageError(
                f"run {other.id} is of layer {other.layer!r:.60}, and {run.id} of {run.layer!r:.60}",
                "evaluate the labels of one layer at a time",
            )
        if (before := other.fingerprints.get("target", now)) != now:
            raise UsageError(
                f"the target of run {other.id} was {before!r:.150}, and now it is {now!r:.150}",
                "evaluate runs of one target together, with the versions that they started with",
            )
    return components


def _refuse_twice(labels: Sequence[Labels]) -> None:
    named = [labelled.method for labelled in labels]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise UsageError(f"two methods are called {twice!r:.60}", "rename one: METHOD=FILE")
