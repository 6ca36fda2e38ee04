"""Edit images of labels picture by picture, check each edit, and measure what the units do."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import nan

import numpy as np

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import (
    AbsentConceptError,
    BackendError,
    MissingEditError,
    NotDrawableError,
    StoreError,
)
from line_neurons.agent.ports import Control, EditKind, Editor, EditRequest
from line_neurons.agent.seeds import derive_rng, derive_seed
from line_neurons.eval.cosy.runner import EvaluatedLayer
from line_neurons.eval.edits import checks
from line_neurons.eval.edits.calibration import Calibration, calibration_of
from line_neurons.eval.edits.checks import Noise, check_edit, judge_presence, noise_of, registered, small
from line_neurons.eval.edits.numbers import Measured, own_first_units, unit_numbers
from line_neurons.eval.edits.subjects import RankedImages, Subject
from line_neurons.eval.edits.verifiers import KNOWN, Verifier
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.graphs.runs.components import OnProgress
from line_neurons.tools.control_sets.unit_statistics import unit_deviations
from line_neurons.tools.editors.edited_images import EditedImages
from line_neurons.tools.store.results.edits import EditArm, EditedUnit, EditEvaluation, EditResult, EditResults
from line_neurons.tools.targets.base import layer_fingerprint

MAX_FAILURES = 10
"""So many failures of the editor in a row end the work."""
MOST_RIVALS = 20
"""Other labels that a verifier looks for, to find another thing to take out."""
MOST_RATIO = 2.0
"""Ratio of the changed shares of two edits up to which they are of the same size."""


@dataclass(frozen=True)
class EditTask:
    """What images are edited with.

    Args:
        verifier: judges whether a concept is there; None: nobody does, or an exact editor knows.
        how: ``remove``, ``replace`` or ``insert``.
        count: images of each unit.
        control: activations on the control set; None without one.
        ranked: images of the control set, for calibration; None without any.
    """

    evaluated: EvaluatedLayer
    editor: Editor
    editor_name: str
    verifier: Verifier | None
    subjects_name: str
    how: EditKind
    count: int
    seed: int
    control: Control | None
    ranked: RankedImages | None
    _calibrations: dict[str, Calibration] = field(default_factory=dict)

    @cached_property
    def images(self) -> EditedImages:
        """The edited images."""
        return EditedImages(self.evaluated.components.cache, self.editor)

    def evaluation(self, labels: Labels) -> EditEvaluation:
        """Return what identifies the edits of some labels."""
        components = self.evaluated.components
        verifier = self.verifier.name if self.verifier else KNOWN if self.editor.exact else "none"
        return EditEvaluation(
            method=labels.method,
            source=labels.source,
            model=components.shown_model,
            layer=self.evaluated.layer,
            editor=self.editor_name,
            verifier=verifier,
            subjects=self.subjects_name,
            how=self.how,
            count=self.count,
            seed=self.seed,
            target=layer_fingerprint(components.target, self.evaluated.layer),
            editor_id=self.editor.fingerprint,
            verifier_id=self.verifier.fingerprint if self.verifier else "",
            control_id=components.control_set.fingerprint if components.control_set else "",
        )

    def calibration(self, concept: str) -> Calibration:
        """Return the verifier's threshold for a concept."""
        if self.verifier is None:
            return Calibration(nan, reason="there is no verifier")
        if self.ranked is None:
            return Calibration(nan, reason="there are no control images")
        if concept not in self._calibrations:
            self._calibrations[concept] = calibration_of(
                self.verifier, concept, self.evaluated.components, self.ranked, self.seed
            )
        return self._calibrations[concept]


def evaluate_edits(
    task: EditTask,
    labels: Labels,
    chosen: Sequence[Label],
    subjects: Mapping[int, Sequence[Subject]],
    others: Mapping[int, str],
    results: EditResults,
    on_progress: OnProgress | None = None,
) -> EditResult:
    """Edit the images of each unit; each image's results are written to the store at once.

    Edits and activations of an interrupted evaluation are found in the cache, so that the same call ends with the
    same results and no image is edited twice.

    Args:
        others: for each unit what takes the concept's place (``replace``), or is added in the control edit
            (``insert``).
        on_progress: reports long work; its exceptions end the work.

    Raises:
        BackendError: a component failed; the editor ten times in a row.
        StoreError: the store cannot be used.
    """
    evaluation = task.evaluation(labels)
    deviations = unit_deviations(task.control) if task.control else None
    total = sum(len(subjects[label.unit]) for label in chosen)
    done = failures = 0
    arms: list[EditArm] = []
    effects = {}
    units: list[EditedUnit] = []
    concepts = list(dict.fromkeys(label.concept for label in chosen))
    for label in chosen:
        measured: list[Measured] = []
        for place, subject in enumerate(subjects[label.unit]):
            if on_progress:
                on_progress(f"editing images ({task.editor_name})", done, total)
            work = _Picture(task, label, place, subject, others.get(label.unit, ""), concepts)
            part, vectors = work.edit()
            failed = next((arm for arm in part if arm.verdict == checks.FAILED), None)
            failures = failures + 1 if failed else 0
            if failed and failures >= MAX_FAILURES:
                raise BackendError(
                    f"the editor {task.editor_name} failed {failures} times in a row: {failed.detail}",
                    "see the editor's requirements; the same command continues where it stopped",
                )
            results.put(evaluation, part)
            measured.append(Measured(part, vectors))
            arms += part
            done += 1
        numbers, effect = unit_numbers(measured, label.unit, task.how, task.control, deviations, task.seed)
        calibration = None if task.editor.exact else task.calibration(label.concept)
        if calibration:
            numbers |= {
                "verifier_auc": calibration.auc, "verifier_classes": calibration.classes,
                "verifier_reason": calibration.reason,
            }  # fmt: skip
        if effect is not None:
            effects[label.unit] = effect
        units.append(EditedUnit(label.unit, label.concept, numbers))
        results.put_unit(evaluation, units[-1])
    first = own_first_units(effects)
    units = [replace(unit, numbers={**unit.numbers, "own_first": first.get(unit.unit)}) for unit in units]
    for unit in units:
        results.put_unit(evaluation, unit)
    if on_progress:
        on_progress(f"editing images ({task.editor_name})", total, total)
    return EditResult(evaluation, tuple(units), tuple(arms), time.time())


class _Picture:
    """The arms of one image and unit."""

    def __init__(
        self, task: EditTask, label: Label, place: int, subject: Subject, other: str, concepts: Sequence[str]
    ) -> None:
        self._task = task
        self._label = label
        self._subject = subject
        self._other = other
        self._concepts = concepts
        self._images = task.images
        self._original = self._images.canvas(subject.image)
        self._arm = EditArm(label.unit, place, "original", subject.sha256, subject.name, image=self._original)

    def edit(self) -> tuple[list[EditArm], dict[str, np.ndarray]]:
        """Make and check the edits; return the arms, and the activations of the layer by arm."""
        kinds = self._task.editor.kinds
        found = [replace(self._arm, detail=_before(self._subject))]
        unchanged = self._made("unchanged", "unchanged") if "unchanged" in kinds else None
        concept = self._made("concept", self._task.how)
        is_edited = bool(concept.image) and concept.verdict != checks.NOT_THERE
        if is_edited:
            concept = self._checked(concept, unchanged)
        found += [arm for arm in (unchanged,) if arm and arm.image]
        found.append(concept)
        control = self._control(concept, unchanged) if is_edited else None
        # A verdict is on the edit alone.
        found += [replace(control, verdict="")] if control else []
        return self._measured(found)

    def _control(self, concept: EditArm, unchanged: EditArm | None) -> EditArm | None:
        """Make the control edit; one without an image says why there is none."""
        kinds = self._task.editor.kinds
        if self._task.how == "insert":
            return self._sized(self._made("elsewhere", "insert", self._other)) if self._other else None
        if "elsewhere" in kinds:
            return self._sized(self._made("elsewhere", "elsewhere"))
        return self._rival(concept, unchanged)

    def _rival(self, concept: EditArm, unchanged: EditArm | None) -> EditArm | None:
        """Take another thing out that the verifier sees: the control of editors that take an instruction."""
        rival = self._likeliest()
        if rival is None:
            return None
        arm = self._made("elsewhere", "remove", rival)
        if not arm.image:
            return arm
        arm = self._framed(arm, unchanged)
        reason = arm.verdict
        if not reason and not 1 / MOST_RATIO <= arm.share / max(concept.share, 1e-9) <= MOST_RATIO:
            reason = f"it changed {arm.share:.1%} of the image, and the edit {concept.share:.1%}"
        if not reason and not self._is_seen(self._label.concept, arm.image):
            reason = f"it took {self._label.concept!r:.60} out, too"
        return replace(arm, image="", detail=f"no control: {reason}") if reason else arm

    def _likeliest(self) -> str | None:
        """Return the other label that the verifier sees in the image most clearly; None if it sees none."""
        task, mine = self._task, concept_key(self._label.concept)
        others = [concept for concept in self._concepts if concept_key(concept) != mine]
        rng = derive_rng("rivals", task.seed)
        rivals = rng.sample(others, MOST_RIVALS) if len(others) > MOST_RIVALS else others
        margins = {
            rival: self._score(rival, self._original) - task.calibration(rival).threshold
            for rival in rivals
            if task.verifier and not task.calibration(rival).reason
        }
        seen = [rival for rival, margin in margins.items() if margin >= 0]
        return max(seen, key=lambda rival: margins[rival], default=None)

    def _is_seen(self, concept: str, image: str) -> bool:
        """Return whether the verifier sees a concept; True where it cannot tell."""
        calibration = self._task.calibration(concept)
        return bool(calibration.reason) or self._score(concept, image) >= calibration.threshold

    def _score(self, concept: str, image: str) -> float:
        assert self._task.verifier
        return float(self._task.verifier.scores(concept, [image])[0])

    def _made(self, arm: str, kind: EditKind, concept: str | None = None) -> EditArm:
        """Make an edit; without an image if there can be none, with the reason."""
        words = self._label.concept if concept is None else concept
        other = self._other if kind == "replace" else ""
        row = replace(self._arm, arm=arm, kind=kind, concept=words, other=other, image="")
        seed = derive_seed("edit", self._task.seed, self._subject.sha256)
        request = EditRequest(
            self._images.file(self._original), kind, words, other, seed, self._subject.request, self._subject.name
        )
        try:
            return replace(row, image=self._images.edit(request))
        except AbsentConceptError as error:
            return replace(row, image=self._original, verdict=checks.NOT_THERE, detail=str(error))
        except MissingEditError as error:
            return replace(row, verdict=checks.MISSING, detail=str(error))
        except NotDrawableError as error:
            return replace(row, verdict=checks.REFUSED, detail=str(error))
        except StoreError:
            raise
        except BackendError as error:
            return replace(row, verdict=checks.FAILED, detail=str(error))

    def _checked(self, arm: EditArm, unchanged: EditArm | None) -> EditArm:
        """Return the edit with its verdict."""
        arm = self._framed(arm, unchanged)
        if self._task.editor.exact:
            verdict = checks.NOTHING_CHANGED if arm.verdict == checks.NOTHING_CHANGED else checks.OK
            return replace(arm, shift=0.0, scale=1.0, verdict=verdict)
        return arm if arm.verdict else self._verified(arm)

    def _framed(self, arm: EditArm, unchanged: EditArm | None) -> EditArm:
        """Return an edit with what it did to the pixels; one that is shifted a little is shifted back first."""
        image = small(self._images.file(self._original))
        noise = Noise()
        if unchanged and unchanged.image:
            noise = noise_of(image, small(self._images.file(unchanged.image)))
        check = check_edit(image, small(self._images.file(arm.image)), noise)
        frame, detail = check.frame, ""
        if check.is_near and not self._task.editor.exact:
            png = self._images.file(arm.image)
            moved = self._images.derived("registered", arm.image, arm.concept, lambda: registered(png, frame))
            arm = replace(arm, image=moved)
            check = check_edit(image, small(self._images.file(moved)), noise)
            detail = "registered"
        return replace(
            arm, share=check.share, psnr=check.psnr, shift=frame.shift, scale=frame.scale, verdict=check.verdict,
            detail=detail,
        )  # fmt: skip

    def _verified(self, arm: EditArm) -> EditArm:
        calibration = self._task.calibration(self._label.concept)
        if calibration.reason or self._task.verifier is None:
            return replace(arm, verdict=checks.UNVERIFIED, detail=calibration.reason)
        scores = self._task.verifier.scores(self._label.concept, [self._original, arm.image])
        before, after = (float(score) for score in scores)
        verdict = judge_presence(self._task.how, before, after, calibration.threshold)
        return replace(arm, before=before, after=after, verdict=verdict)

    def _sized(self, arm: EditArm) -> EditArm:
        """Return a control edit with the share that it changed."""
        if not arm.image:
            return arm
        image, edited = (small(self._images.file(name)) for name in (self._original, arm.image))
        check = check_edit(image, edited, Noise())
        return replace(arm, share=check.share, psnr=check.psnr)

    def _measured(self, arms: Sequence[EditArm]) -> tuple[list[EditArm], dict[str, np.ndarray]]:
        evaluated = self._task.evaluated
        components = evaluated.components
        there = [arm for arm in arms if arm.image]
        rows = components.cache.activations([arm.image for arm in there], components.target, evaluated.layer)
        vectors = {arm.arm: row for arm, row in zip(there, rows, strict=True)}
        unit = self._label.unit
        measured = [replace(arm, activation=float(vectors[arm.arm][unit])) if arm.image else arm for arm in arms]
        return measured, vectors


def _before(subject: Subject) -> str:
    """Describe the activation on the file, before it was brought to the canvas."""
    return "" if subject.activation != subject.activation else f"activation of the file {subject.activation:.4g}"
