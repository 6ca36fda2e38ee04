"""The task of a baseline: units of a layer, probe images, words, and excluded concepts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.concepts import class_concept, concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.tools.control_sets import PrecomputedControl
from line_neurons.tools.vocabulary import read_words

if TYPE_CHECKING:
    from langgraph.runtime import RunControl
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations, Control, ControlSet, Progress
    from line_neurons.graphs.runs.components import Components


@dataclass(frozen=True)
class BaselineTask:
    """Units to label.

    The probe images are those of the control set; of the image bank they are the search images, so that no
    baseline uses held-out ones.

    Args:
        components: model and settings; ``settings.seed`` decides every random choice.
        units: indices of the units, each once.
        excluded: concepts that a unit may not be labelled with, by unit.
        source: the run whose units these are, for the record; or empty.
        drain: requests a stop where nothing is lost.
    """

    components: Components
    layer: str
    units: tuple[int, ...]
    excluded: Mapping[int, Collection[str]] = field(default_factory=dict)
    source: str = ""
    drain: RunControl | None = None

    def progress_for(self, what: str) -> Progress | None:
        """Return the callback for long work; it raises ``DrainedError`` where a stop was requested."""
        return self.components.progress_for(what, self.drain)

    @cached_property
    def control(self) -> Control:
        """The activations of the whole layer on the probe images.

        Raises:
            UsageError: there is no control set.
        """
        found = self.components.control(self.layer, self.drain)
        if found is None:
            raise UsageError("this method needs probe images", "name them with --control")
        return found

    @property
    def activations(self) -> Activations:
        """Those of the task's units on the probe images, float32 [n_images, len(units)]."""
        return self.control.columns(list(self.units))

    def images(self) -> ControlSet:
        """Return the probe images.

        Raises:
            UsageError: there are only activations on them.
        """
        source = self.components.control_set
        if source is None or isinstance(source, PrecomputedControl):
            raise UsageError(
                f"the control set {self.components.settings.control} has activations and no images",
                "name images with --control",
            )
        return source

    @cached_property
    def captions(self) -> tuple[str, ...]:
        """The name of each class of the probe images, as a concept.

        Raises:
            UsageError: the images have no classes.
        """
        return tuple(class_concept(name) for name in self._named(self.control.classes))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The vocabulary: the word list of the settings, else the classes of the probe images."""
        if self.components.settings.vocabulary is not None:
            return read_words(self.components.settings.vocabulary)
        source = self.components.control_set
        names = self._named(source.classes() if source else ())
        return tuple(sorted({concept for name in names if (concept := class_concept(name))}))

    def _named(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        if not classes:
            raise UsageError(
                f"the images of the control set {self.components.settings.control} have no classes",
                "name images in class folders with --control",
            )
        return classes

    def allowed(self, words: Sequence[str]) -> NDArray[np.bool_]:
        """Return which words each unit may be labelled with, bool [len(units), len(words)].

        Raises:
            UsageError: no word is left for a unit.
        """
        keys = [concept_key(word) for word in words]
        everywhere = self.components.settings.exclude
        found = np.ones((len(self.units), len(words)), bool)
        for place, unit in enumerate(self.units):
            out = {concept_key(one) for one in (*everywhere, *self.excluded.get(unit, ()))}
            found[place] = [key not in out for key in keys]
            if not found[place].any():
                raise UsageError(f"no word is left for unit {unit}", "name a larger vocabulary, or exclude less")
        return found

    def as_labels(
        self,
        method: str,
        labels: Iterable[Label],
        unlabelled: Iterable[tuple[int, str]] = (),
        tied: Iterable[int] = (),
    ) -> Labels:
        """Return labels with their source, the units without a label, and those with a tie.

        Raises:
            UsageError: no unit has a label.
        """
        found, without = tuple(labels), tuple(unlabelled)
        if without and not found:
            raise UsageError(
                f"no unit has a label: {without[0][1]}", "name other units, or other images with --control"
            )
        return Labels(
            method,
            self.components.shown_model,
            self.layer,
            found,
            self.source or method,
            unlabelled=without,
            tied=tuple(tied),
        )

    def best(self, method: str, scores: NDArray[np.float64], words: Sequence[str]) -> Labels:
        """Return the word with the highest score for each unit; none where all allowed words score the same.

        Of several words with the highest score the first counts, and the unit is reported as tied.

        Args:
            scores: [len(units), len(words)]; scores of words that are not allowed are ignored, and a label whose
                score is not finite has none.
        """
        lowest = np.finfo(np.float64).min
        allowed = self.allowed(words)
        known = np.where(allowed, np.nan_to_num(scores, nan=lowest), -np.inf)
        chosen = known.argmax(1)
        best = scores[np.arange(len(chosen)), chosen]
        as_high, several = (known == known.max(1, keepdims=True)).sum(1), allowed.sum(1)
        labels, without, tied = [], [], []
        for place, (unit, word, score) in enumerate(zip(self.units, chosen, best, strict=True)):
            if as_high[place] == several[place] > 1:
                without.append((unit, f"all {several[place]:,} words score the same"))
                continue
            labels.append(Label(unit, words[word], float(score) if np.isfinite(score) else None))
            if as_high[place] > 1:
                tied.append(unit)
        return self.as_labels(method, labels, without, tied)
