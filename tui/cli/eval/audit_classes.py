"""The classes that ``line audit`` audits, with their features, and the run that labels these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control
from line_neurons.agent.settings import Settings
from line_neurons.eval.audit.importance import (
    ClassFeatures,
    Head,
    NoFeaturesError,
    class_features,
    find_head,
)
from line_neurons.eval.cosy.runner import open_layer
from line_neurons.eval.reports.histories import result_settings
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import recorded_settings, start
from line_neurons.graphs.runs.reopening import reopen
from line_neurons.tools.component_names import check_names
from line_neurons.tools.image_bank.opening import uses_image_bank
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import has_runs
from line_neurons.tools.targets.base import layer_fingerprint
from line_neurons.tools.targets.unit_selectors import parse_units
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.invocation import command_line
from line_neurons.tui.cli.jobs import batch_settings, work_on
from line_neurons.tui.cli.progress import ProgressReporter
from line_neurons.tui.formatting import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ALL = "all"
_SHOWN = 5


@dataclass(frozen=True)
class Classifier:
    """A classifier with what its control set says of its classes.

    Args:
        control: activations of the features on the control set.
        features: the same, float32 [n_images, n_features].
    """

    components: Components
    head: Head
    control: Control
    features: NDArray[np.float32]
    names: Sequence[str]

    @cached_property
    def predictions(self) -> NDArray[np.int64]:
        """The class that each control image is predicted as, int64 [n_images]."""
        return self.head.predictions(self.features)

    def class_features(self, index: int, top: int) -> ClassFeatures:
        """Return the most important features of a class; see ``importance.class_features``."""
        return class_features(
            self.head, self.control, self.features, self.predictions, index, self.names[index], top
        )


@dataclass(frozen=True)
class AuditedClasses:
    """Classes with their features, and the run with the labels of these."""

    classifier: Classifier
    classes: tuple[ClassFeatures, ...]
    run: Run


def _classifier(components: Components, layer: str = "") -> Classifier:
    """Measure the features of a classifier on its control set.

    Raises:
        UsageError: it has no linear class layer on pooled features, no class names or no control set.
    """
    head = find_head(components.target, layer)
    names = components.target.unit_names(head.layer)
    if names is None:
        raise UsageError(
            f"the classes of {components.model} have no names, and an audit compares labels with them",
            "return them with the model: (module, transform, class names)",
        )
    if not uses_image_bank(components.settings.generator):
        # Photographs of it may be edited: their logits are measured in the same pass.
        components.layers.add(head.layer)
    control = components.control(head.features)
    if control is None:
        raise UsageError(
            "importance is measured on a control set, and there is none", "name one with --control, such as bank"
        )
    return Classifier(components, head, control, control.dense(), names)


def _select(classifier: Classifier, selectors: Sequence[str], top: int) -> tuple[ClassFeatures, ...]:
    """Return the classes that selectors name; of ``all`` those without images or features are left out.

    Raises:
        UsageError: a class is unknown, or one that is named has no images or features.
    """
    seed, layer = classifier.components.settings.seed, classifier.head.layer
    indices = parse_units(selectors, len(classifier.names), classifier.names, seed=seed, layer=layer)
    found, left = [], []
    for index in indices:
        try:
            found.append(classifier.class_features(index, top))
        except NoFeaturesError as error:
            if _ALL not in selectors:
                raise
            left.append((index, error))
    if left and not found:
        raise left[0][1]
    if left:
        names = ", ".join(classifier.names[index] for index, _ in left[:_SHOWN])
        more = ", ..." if len(left) > _SHOWN else ""
        terminal.note(f"{len(left):,} classes left out, of which the control set has no image: {names}{more}")
    return tuple(found)


def of_model(
    spec: str, settings: Settings, selectors: Sequence[str], top: int, reporter: ProgressReporter
) -> AuditedClasses:
    """Find the features of the classes of a model, and label them by a run, or take those of an earlier one.

    Raises:
        LineError: an argument is invalid, or a component failed.
        Exit: it was interrupted; status 130.
    """
    if not selectors:
        raise UsageError("no class is named", f"name classes of {spec} by name or number, or {_ALL}")
    check_names(settings, spec)
    settings = batch_settings(settings)
    components = Components(spec, settings, reporter.report_preparation)
    classifier = _classifier(components)
    classes = _select(classifier, selectors, top)
    units = list(dict.fromkeys(feature.unit for found in classes for feature in found.features))
    run = _earlier_run(components, classifier.head.features, units)
    if run is None:
        searching = Components(spec, settings, reporter.report_preparation, distributed=True)
        run = start(searching, classifier.head.features, [str(unit) for unit in units], command=command_line())
        terminal.note(f"run {run.id} labels {counted(len(units), 'feature')} of {classifier.head.features}")
    elif run.concluded:
        terminal.note(f"the features have labels of run {run.id}")
        return AuditedClasses(classifier, classes, run)
    else:
        searching = reopen(run, settings.store, settings.assets, reporter.report_preparation)
    try:
        work_on([(searching, run)], reporter, command=command_line())
    finally:
        searching.close()
    return AuditedClasses(classifier, classes, components.runs.run(run.id))


def _earlier_run(components: Components, layer: str, units: Sequence[int]) -> Run | None:
    """Return the newest run of the same search over these units, or over more."""
    if not has_runs(components.store):
        return None
    wanted = result_settings(recorded_settings(components.settings))
    fingerprint = layer_fingerprint(components.target, layer)
    for run in components.runs.runs():
        if (
            (run.model, run.layer) == (components.spec, layer)
            and run.fingerprints.get("target") == fingerprint
            and result_settings(run.settings) == wanted
            and {unit.unit for unit in components.runs.units(run.id)} >= set(units)
        ):
            return run
    return None


def of_run(
    name: str,
    settings: Settings,
    changes: Mapping[str, Any],
    selectors: Sequence[str],
    top: int,
    reporter: ProgressReporter,
    *,
    trust: bool,
) -> AuditedClasses:
    """Open a run over the features of a classifier.

    Raises:
        LineError: it is over another layer, has no labels, or a component failed.
    """
    components = open_layer(
        [name], settings, changes, on_progress=reporter.report_preparation, trust=trust
    ).components
    run = components.runs.run(name)
    classifier = _classifier(components, run.layer)
    if selectors:
        return AuditedClasses(classifier, _select(classifier, selectors, top), run)
    labelled = {unit.unit for unit in components.runs.units(run.id) if unit.label}
    classes = []
    for index in range(len(classifier.names)):
        try:
            found = classifier.class_features(index, top)
        except NoFeaturesError:
            continue
        if {feature.unit for feature in found.features} <= labelled:
            classes.append(found)
    if not classes:
        raise UsageError(
            f"run {run.id} has not all of the {top} top features of any class",
            "name classes after the run, lower --top, or label them all: line audit MODEL CLASS",
        )
    return AuditedClasses(classifier, tuple(classes), run)
