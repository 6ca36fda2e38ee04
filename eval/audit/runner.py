"""Audit the features of classes one after the other; each is written to the store at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import nan
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import MissingPartError, NotDrawableError
from line_neurons.agent.ports import EditKind
from line_neurons.eval.audit.importance import ClassFeatures, Feature, Head
from line_neurons.eval.audit.inside import composed_regions, inside, salient_regions
from line_neurons.eval.audit.lean import PREFIXES, Edits
from line_neurons.eval.audit.verdicts import relation_of
from line_neurons.tools.images.saliency import SaliencyModel
from line_neurons.tools.store.results.audits import Audit, AuditedFeature, AuditResults

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from line_neurons.eval.edits.subjects import Subject
    from line_neurons.eval.reports.label_quality import TrueClass, Truth
    from line_neurons.graphs.runs.components import Components, OnProgress
    from line_neurons.tools.store.records import Unit

REGION_IMAGES = 6
"""Images in which it is measured how much of a feature's map is inside the class's region."""


@dataclass(frozen=True)
class AuditTask:
    """What is audited, and with what.

    Args:
        features: float32 [n_images, n_features] on the control set.
        units: the units of the run with the features' labels, by index.
        truth: the classes' senses in WordNet.
        edits: edits of the classes' images; None: nothing is edited.
    """

    audit: Audit
    components: Components
    head: Head
    features: NDArray[np.float32]
    classes: Sequence[ClassFeatures]
    units: Mapping[int, Unit]
    truth: Truth
    edits: Edits | None
    kinds: Sequence[EditKind]

    @cached_property
    def saliency(self) -> SaliencyModel | None:
        """What finds the salient part of photographs; None where it is not installed."""
        model = SaliencyModel(self.components.assets)
        try:
            model.check()
        except MissingPartError:
            return None
        return model

    @cached_property
    def logits(self) -> NDArray[np.float64]:
        """Logits of the control set, [n_images, n_classes]."""
        return self.head.logits(self.features)


def audit_features(
    task: AuditTask, results: AuditResults, on_progress: OnProgress | None = None
) -> list[AuditedFeature]:
    """Audit every feature of every class; what the store has of the same audit and label is read from there.

    Returns:
        features by class and rank. Their numbers: ``rank``, ``importance``, ``share``, ``images`` and ``basis`` of
        the importance; ``score`` and ``auc`` of the label; ``relation``; ``inside`` and ``region``; ``lean`` and
        ``insert`` with ``low``, ``high``, ``p``, ``drop``, ``control drop``, ``probability``, ``images``,
        ``verified`` and ``reason``.

    Raises:
        BackendError: a component failed.
        StoreError: the store cannot be used.
    """
    known = results.features(task.audit)
    true = {one.unit: one for one in task.truth.classes}
    total = sum(len(found.features) for found in task.classes)
    rows: list[AuditedFeature] = []
    for found in task.classes:
        for feature in found.features:
            if on_progress:
                on_progress("auditing features", len(rows), total)
            row = known.get((found.index, feature.unit))
            unit = task.units.get(feature.unit)
            label = (unit.label if unit else None) or ""
            if row is None or row.label != label:
                numbers = {
                    **_importance(found, feature),
                    **_label(task, found, unit, label, true[found.index]),
                    **_evidence(task, found, feature, label),
                }
                row = AuditedFeature(found.index, feature.unit, label, numbers)
                results.put(task.audit, row)
            rows.append(row)
    if on_progress:
        on_progress("auditing features", total, total)
    return rows


def _importance(found: ClassFeatures, feature: Feature) -> dict[str, Any]:
    return {
        "class": found.name, "images": len(found.rows), "basis": found.basis, "rank": feature.rank,
        "importance": feature.importance, "share": feature.share,
    }  # fmt: skip


def _label(
    task: AuditTask, found: ClassFeatures, unit: Unit | None, label: str, true: TrueClass
) -> dict[str, Any]:
    relation = relation_of(task.truth, label, true)
    if relation in {"sibling", "other", "compound"} and task.edits and task.edits.shows_class(found, label):
        relation = "same images"
    return {
        "score": unit.score if unit else None,
        "auc": unit.auc if unit else None,
        "relation": relation,
    }


def _evidence(task: AuditTask, found: ClassFeatures, feature: Feature, label: str) -> dict[str, Any]:
    """Return what maps and edits say of a feature; without a label, what the map says."""
    numbers: dict[str, Any] = {"inside": nan, "region": ""}
    if task.edits is None:
        return numbers
    column = task.features[:, feature.unit]
    reasons = {f"{PREFIXES[how]} reason": "" for how in task.kinds}
    if not label:
        return numbers | dict.fromkeys(reasons, "the feature has no label")
    subjects: list[Subject] = []

    def images_of_class() -> list[Subject]:
        if not subjects:
            assert task.edits is not None
            subjects.extend(task.edits.subjects(found, label, column))
        return subjects

    work: dict[EditKind, Callable[[Edits], dict[str, Any]]] = {
        "remove": lambda edits: edits.measure("remove", found, feature.unit, label, images_of_class()),
        "insert": lambda edits: edits.measure(
            "insert", found, feature.unit, label, edits.other_classes(found, label, task.logits),
            edits.other_concept(found, label),
        ),
    }  # fmt: skip
    for how in task.kinds:
        try:
            numbers |= work[how](task.edits)
        except NotDrawableError as error:
            numbers[f"{PREFIXES[how]} reason"] = str(error)
    with suppress(NotDrawableError):
        numbers |= _inside(task, feature, label, images_of_class())
    return numbers


def _inside(task: AuditTask, feature: Feature, label: str, subjects: Sequence[Subject]) -> dict[str, Any]:
    assert task.edits is not None
    if (generator := task.edits.generator) is not None:
        region, images = "composed", composed_regions(generator, subjects[:REGION_IMAGES])
    elif task.saliency is not None:
        region, images = "salient", salient_regions(task.saliency, label, subjects[:REGION_IMAGES])
    else:
        return {}
    share = inside(task.components.target, task.head.features, feature.unit, images)
    return {"inside": share, "region": region if images else ""}
