"""What a class loses when a feature's label is edited out of its images, and gains when it is put into others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import NotDrawableError
from line_neurons.agent.seeds import derive_rng
from line_neurons.eval.edits.checks import OK
from line_neurons.eval.edits.runner import EditTask, evaluate_edits
from line_neurons.eval.edits.subjects import Subject, own_images
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.tools.editors.composed import ComposedEditor
from line_neurons.tools.image_bank.generator import ImageBankGenerator
from line_neurons.tools.image_bank.plans import NotComposableError
from line_neurons.tools.store.removal.runs import AUDIT_MARK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import EditKind
    from line_neurons.eval.audit.importance import ClassFeatures
    from line_neurons.graphs.runs.components import OnProgress
    from line_neurons.tools.store.results.edits import EditArm, EditResult, EditResults

_EDIT_NUMBERS = {
    "pictures": "images", "ok": "verified", "effect": "", "low": "low", "high": "high", "z": "z", "p": "p",
    "drop": "drop", "control_drop": "control drop",
}  # fmt: skip
"""Numbers of a unit's edits, and what follows ``lean`` or ``insert`` in their names here."""
LEAN, INSERT = "lean", "insert"
PREFIXES: Mapping[EditKind, str] = {"remove": LEAN, "insert": INSERT}


class Edits:
    """Edits of the images of classes, measured at the class layer.

    Args:
        task: editor, verifier, number of images; its layer is the class layer.
        names: for each class the names that the image bank may know it by, best first.
        source: of the labels, for the record.
        on_progress: reports long work; its exceptions end the work.
    """

    def __init__(
        self,
        task: EditTask,
        names: Mapping[int, Sequence[str]],
        results: EditResults,
        source: str,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._task = task
        self._names = names
        self._results = results
        self._source = source
        self._progress = on_progress

    @property
    def generator(self) -> ImageBankGenerator | None:
        """The image bank that composes the images; None where they are photographs."""
        generator = self._task.evaluated.components.generator if self._task.editor.exact else None
        return generator if isinstance(generator, ImageBankGenerator) else None

    def shows_class(self, found: ClassFeatures, label: str) -> bool:
        """Return whether the image bank shows a label by images of the class: they are one thing to it."""
        generator = self.generator
        if generator is None:
            return False
        with suppress(NotDrawableError):
            known = {name.casefold() for name in self._names[found.index]}
            concept = shown_together(generator, self._task.editor, self._names[found.index], label)
            return concept.casefold() in known
        return False

    def subjects(self, found: ClassFeatures, label: str, activations: NDArray[np.float32]) -> list[Subject]:
        """Return images of a class that may show a feature's label.

        Composed ones show it beside the class's thing or behind it; of photographs those with the highest
        activation of the feature count.

        Args:
            activations: float32 [n_images], the feature's on the control set.

        Raises:
            NotDrawableError: the image bank cannot show the class as a cut-out, or the label.
        """
        if (generator := self.generator) is not None:
            concept = shown_together(generator, self._task.editor, self._names[found.index], label)
            return own_images(self._task.evaluated.components, concept, self._task.count, self._task.seed)
        return self._photographs(found.strongest(activations, self._task.count), activations)

    def _photographs(self, rows: Sequence[int], activations: NDArray[np.float32]) -> list[Subject]:
        ranked = self._task.ranked
        assert ranked is not None
        files = ranked.read(set(rows))
        return [Subject(files[row], f"control image {row}", activation=float(activations[row])) for row in rows]

    def measure(
        self,
        how: EditKind,
        found: ClassFeatures,
        feature: int,
        label: str,
        subjects: Sequence[Subject],
        other: str = "",
    ) -> dict[str, Any]:
        """Edit images, and return what the class's logit and probability lose, or gain, by name.

        Args:
            how: ``remove`` or ``insert``.
            feature: its unit in the features layer.
            label: what is taken out or put in.
            other: what is put in in the control edit of ``insert``.
        """
        task = replace(self._task, how=how)
        chosen = Label(found.index, label)
        labels = Labels(
            "line", task.evaluated.components.shown_model, task.evaluated.layer, (chosen,),
            f"{self._source}{AUDIT_MARK} feature {feature})",
        )  # fmt: skip
        others = {found.index: other} if other else {}
        result = evaluate_edits(
            task, labels, [chosen], {found.index: subjects}, others, self._results, self._progress
        )
        prefix = PREFIXES[how]
        numbers = result.units[0].numbers
        return {
            **{f"{prefix} {name}".strip(): numbers.get(key) for key, name in _EDIT_NUMBERS.items()},
            f"{prefix} probability": self._probability(result, how, found.index),
            f"{prefix} reason": _reason(result),
        }

    def _probability(self, result: EditResult, how: EditKind, index: int) -> float:
        """Return the mean change of the class's probability against the control edit, over verified images."""
        arms: dict[int, dict[str, EditArm]] = {}
        for arm in result.arms:
            if arm.image:
                arms.setdefault(arm.place, {})[arm.arm] = arm
        pairs = [
            (next(own[arm] for arm in ("elsewhere", "unchanged", "original") if arm in own), own["concept"])
            for own in arms.values()
            if "concept" in own and own["concept"].verdict == OK
        ]
        if not pairs:
            return nan
        components = self._task.evaluated.components
        images = [arm.image for pair in pairs for arm in pair]
        logits = components.cache.activations(images, components.target, self._task.evaluated.layer)
        scaled = logits.astype(np.float64) - np.logaddexp.reduce(logits.astype(np.float64), axis=1, keepdims=True)
        control, concept = np.exp(scaled[:, index]).reshape(-1, 2).T
        return float((control - concept).mean()) * (-1 if how == "insert" else 1)

    @cached_property
    def _offered(self) -> list[str]:
        """The captions that can be put into an image, in one order."""
        generator = self.generator
        captions = generator.captions() if generator is not None else []
        return [caption for caption in captions if self._task.editor.offers(caption)]

    def other_classes(self, found: ClassFeatures, label: str, logits: NDArray[np.float64]) -> list[Subject]:
        """Return images of other classes, in none of which the class or the label is shown."""
        count, seed = self._task.count, self._task.seed
        rng = derive_rng("insert", seed, found.index)
        if self.generator is None:
            rows = np.flatnonzero(logits.argmax(1) != found.index).tolist()
            drawn = rng.sample(rows, min(count, len(rows)))
            return self._photographs(drawn, logits[:, found.index].astype(np.float32))
        barred = {concept_key(name) for name in (*self._names[found.index], label)}
        words = [word for word in self._offered if concept_key(word) not in barred]
        components = self._task.evaluated.components
        return [
            subject for word in rng.sample(words, min(count, len(words)))
            for subject in own_images(components, word, 1, seed)
        ]  # fmt: skip

    def other_concept(self, found: ClassFeatures, label: str) -> str:
        """Return another concept of the same kind, a place or a thing, for the control edit of ``insert``."""
        editor = self._task.editor
        barred = {concept_key(name) for name in (*self._names[found.index], label)}
        rng = derive_rng("insert-control", self._task.seed, found.index, label)
        if isinstance(editor, ComposedEditor) and (scene := editor.scene_of(label)):
            assert self.generator is not None
            words = [place for place in self.generator.places if place != scene]
        else:
            words = self._offered
        words = [word for word in words if concept_key(word) not in barred]
        return rng.choice(words) if words else ""


def shown_together(generator: ImageBankGenerator, editor: Any, names: Sequence[str], label: str) -> str:
    """Return the concept of images that show a class's thing, and a label beside it or behind it.

    Args:
        names: of the class, best first.

    Raises:
        NotDrawableError: the bank has no cut-out of the class, or cannot show both.
    """
    name = next((known for known in names if editor.offers(known)), None)
    if name is None:
        raise NotComposableError(names[0], "it has no cut-out of it", [])
    if editor.scene_of(label):
        return f"{name} in the {label}"
    own, wanted = (
        {source.entry.caption for thing in generator.plan(concept).things for source in thing.sources}
        for concept in (name, label)
    )
    return name if own & wanted else f"{name} and {label}"


def _reason(result: EditResult) -> str:
    """Say why no edit is verified; empty if one is."""
    if any(arm.verdict == OK for arm in result.arms):
        return ""
    first = next((arm for arm in result.arms if arm.arm == "concept"), None)
    return "there are no images" if first is None else ": ".join(filter(None, (first.verdict, first.detail)))
