"""Measure sets of images of each unit; each set is written to the store as soon as it is measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from line_neurons.eval.edits.calibration import Calibration, calibration_of
from line_neurons.eval.edits.verifiers import Verifier
from line_neurons.eval.visual import measures
from line_neurons.eval.visual.second import SecondNetwork
from line_neurons.eval.visual.sets import ImageSets, NoImagesError, sample_name
from line_neurons.tools.control_sets import control_activations
from line_neurons.tools.control_sets.image_list import ImageList
from line_neurons.tools.editors.canvas import pixels_of, to_canvas
from line_neurons.tools.images.views import fixed_views
from line_neurons.tools.scorers import auc
from line_neurons.tools.store.records import Unit
from line_neurons.tools.store.results.values import finite
from line_neurons.tools.store.results.visual import (
    NATURAL,
    ImageSet,
    SetImage,
    VisualEvaluation,
    VisualResult,
    VisualResults,
)
from line_neurons.tools.targets.base import layer_fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Control
    from line_neurons.eval.baselines.image_text import EncoderTarget
    from line_neurons.graphs.runs.components import OnProgress

NUMBERS = (
    "activation", "relative", "shaken", "robust", "transfer", "auc", "spectrum", "inside", "distance", "vendi",
    "cmmd", "consistent",
)  # fmt: skip
"""The measures of a set, in order; see ``docs/what-excites-it.md``."""


@dataclass(frozen=True)
class VisualTask:
    """What sets of images are measured with.

    Args:
        control: activations on the control set; None without one.
        sample: images of the control set; empty without any.
        second: the second network; None without one.
        verifier: judges whether a label is in an image; None: nobody does.
        encoder: an image-text encoder as a target; None without one.
    """

    sets: ImageSets
    control: Control | None
    sample: tuple[bytes, ...] = ()
    second: SecondNetwork | None = None
    verifier: Verifier | None = None
    encoder: EncoderTarget | None = None
    _calibrations: dict[str, Calibration] = field(default_factory=dict)

    @cached_property
    def evaluation(self) -> VisualEvaluation:
        """What identifies the evaluation."""
        sets = self.sets
        components, run = sets.components, sets.run
        return VisualEvaluation(
            source=run.id,
            model=components.shown_model,
            layer=run.layer,
            side=sets.side,
            count=sets.count,
            seed=sets.seed,
            target=layer_fingerprint(components.target, run.layer),
            control_id=components.control_set.fingerprint if components.control_set else "none",
            second=self.second.name if self.second else "",
            second_id=self.second.fingerprint if self.second else "",
            verifier_id=self.verifier.fingerprint if self.verifier else "",
            encoder_id=self.encoder.fingerprint if self.encoder else "",
        )

    @cached_property
    def spectra(self) -> NDArray[np.float64]:
        """Power spectra of the control images on the canvas."""
        side = self.sets.side
        return np.stack([measures.spectrum(pixels_of(to_canvas(image, side))) for image in self.sample])

    @cached_property
    def encoded_sample(self) -> NDArray[np.float32]:
        """Embeddings of the control images."""
        assert self.encoder
        layer = self.encoder.layers()[0].path
        cache = self.sets.components.cache
        return control_activations(cache, self.encoder, [layer], ImageList(self.sample, "calibration"))[
            layer
        ].dense()

    def calibration(self, concept: str) -> Calibration:
        """Return the verifier's threshold for a concept."""
        sets = self.sets
        if self.verifier is None:
            return Calibration(nan, reason="there is no verifier")
        if sets.ranked is None:
            return Calibration(nan, reason="there are no control images")
        if concept not in self._calibrations:
            self._calibrations[concept] = calibration_of(
                self.verifier, concept, sets.components, sets.ranked, sets.seed
            )
        return self._calibrations[concept]


def evaluate_sets(
    task: VisualTask, units: Sequence[Unit], results: VisualResults, on_progress: OnProgress | None = None
) -> VisualResult:
    """Make and measure the sets of units; those that the store has of the same images are not measured again.

    Args:
        units: units with a label.
        on_progress: reports long work; its exceptions end the work.

    Raises:
        BackendError: a component failed.
        UsageError: a file of a folder is no image.
        StoreError: the store cannot be used.
    """
    found: list[ImageSet] = []
    names = task.sets.names
    total = len(units) * len(names)
    for unit in units:
        known = results.sets(task.evaluation, unit.unit)
        natural: NDArray[np.float32] | None = None
        # The strongest control images are the scale of the others.
        for name in sorted(names, key=lambda name: name != NATURAL):
            if on_progress:
                on_progress(f"measuring images of unit {unit.unit}", len(found), total)
            try:
                images = task.sets.images(name, unit, on_progress)
            except NoImagesError as error:
                one = ImageSet(unit.unit, unit.label or "", name, (), {}, str(error))
            else:
                if name == NATURAL and task.second:
                    natural = task.second.measured([image.image for image in images])[1]
                one = _measured(task, unit, name, images, natural, known.get(name))
            if one != known.get(name):
                results.put(task.evaluation, one)
            found.append(one)
        ordered = sorted(found[-len(names) :], key=lambda one: names.index(one.name))
        found[-len(names) :] = ordered
    if on_progress:
        on_progress("measuring images", total, total)
    return VisualResult(task.evaluation, tuple(found), time.time())


def _measured(
    task: VisualTask,
    unit: Unit,
    name: str,
    images: Sequence[SetImage],
    natural: NDArray[np.float32] | None,
    known: ImageSet | None,
) -> ImageSet:
    ids = [image.image for image in images]
    if known and known.label == unit.label and [image.image for image in known.images] == ids and known.numbers:
        return known
    numbers, shown = _own_numbers(task, unit.unit, images)
    if task.sample:
        pixels = [pixels_of(task.sets.png(image)) for image in ids]
        spectra = np.stack([measures.spectrum(one) for one in pixels])
        numbers["spectrum"] = float(measures.spectrum_ranks(spectra, task.spectra).mean())
    if task.second:
        numbers |= _second_numbers(task, task.second, unit.unit, ids, natural)
    if task.encoder:
        layer = task.encoder.layers()[0].path
        rows = task.sets.components.cache.activations(ids, task.encoder, layer)
        numbers["cmmd"] = measures.clip_mmd(rows, task.encoded_sample)
    concept = unit.label or ""
    if task.verifier:
        calibration = task.calibration(concept)
        if calibration.reason:
            numbers["verifier_reason"] = calibration.reason
        else:
            numbers["consistent"] = float((task.verifier.scores(concept, ids) >= calibration.threshold).mean())
    return ImageSet(unit.unit, concept, name, tuple(shown), finite(numbers))


def _own_numbers(task: VisualTask, unit: int, images: Sequence[SetImage]) -> tuple[dict[str, Any], list[SetImage]]:
    """Return what the unit itself says of images, and the images with their activations."""
    components, layer = task.sets.components, task.sets.run.layer
    files = [task.sets.png(image.image) for image in images]
    views = [view for file in files for view in fixed_views(pixels_of(file))]
    own = components.target.activate(files, [layer])[layer][:, unit].astype(np.float64)
    seen = components.target.activate(views, [layer])[layer][:, unit].astype(np.float64)
    shaken = seen.reshape(len(images), -1).mean(1)
    mean = float(own.mean())
    numbers: dict[str, Any] = {"n": len(images), "activation": mean, "shaken": float(shaken.mean())}
    # A share of nothing, or of less, says nothing.
    numbers["robust"] = float(shaken.mean()) / mean if mean > 0 else nan
    if task.control is not None:
        column = task.control.column(unit).astype(np.float64)
        rise = float(column.max() - column.mean())
        numbers["relative"] = (mean - float(column.mean())) / rise if rise > 0 else nan
        numbers["auc"] = float(auc(own.astype(np.float32), column.astype(np.float32)))
    shown = [
        replace(image, activation=float(a), shaken=float(s))
        for image, a, s in zip(images, own, shaken, strict=True)
    ]
    return numbers, shown


def _second_numbers(
    task: VisualTask,
    second: SecondNetwork,
    unit: int,
    images: Sequence[str],
    natural: NDArray[np.float32] | None,
) -> Mapping[str, Any]:
    features, outputs = second.measured(images)
    numbers = {"distance": measures.mean_distance(features), "vendi": measures.vendi_score(features)}
    if second.sample:
        names = [sample_name(task.sets.png(image)) for image in images]
        numbers["inside"] = second.control.inside(features, names)
        same = second.class_of(task.sets.components.target, task.sets.run.layer, unit)
        if same is not None:
            numbers["transfer"] = second.relative(outputs, natural, same)
    return numbers
