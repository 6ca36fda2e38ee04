"""Keep a restart away from what earlier searches of a unit found, by the images that excite the unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.concepts import class_concept, concept_key
from line_neurons.graphs.loop.scoring import whole_activations
from line_neurons.graphs.loop.state import Deps, LineState
from line_neurons.tools.facets.vectors import LayerVectors, mean_vector, related_cosine

if TYPE_CHECKING:
    from line_neurons.tools.facets.vectors import Vectors
    from line_neurons.tools.store.records import Trial


def stays_away(deps: Deps, restart: int) -> bool:
    """Return whether a search has to stay away from images that earlier ones found."""
    return bool(restart) and deps.settings.restart_by == "images"


class FoundImages:
    """The images of the labels that earlier searches of a unit found.

    A concept is like a found one where the cosine of their mean vectors exceeds that of 95 % of all pairs of
    control classes; without these, of pairs of concepts that the earlier searches scored.

    Args:
        deps: what the nodes work with.
        unit: the unit, which the vectors leave out.
        earlier: what the earlier searches scored.
        found: their labels.
    """

    def __init__(self, deps: Deps, unit: int, earlier: Sequence[Trial], found: Sequence[str]) -> None:
        self._deps, self._unit = deps, unit
        self._scored = {concept_key(trial.concept): trial for trial in earlier if trial.concept and trial.images}
        self._control = deps.control_vectors()
        labels = dict.fromkeys(key for label in found if (key := concept_key(label)) in self._scored)
        self._labels = [str(self._scored[key].concept) for key in labels]
        if self._control is not None:
            self._layer, self._related = self._control.layer, self._control.related
        else:
            images = [image for trial in self._scored.values() for image in trial.images]
            self._layer, self._related = LayerVectors(whole_activations(self._deps, images)), 1.0
        self._found = [self.vector(self._scored[key].images) for key in labels]
        if self._related == 1.0:
            known = np.stack([self.vector(trial.images) for trial in self._scored.values()])
            self._related = related_cosine(known)

    def vector(self, images: Sequence[str]) -> Vectors:
        """Return the mean vector of images of the cache, [n_units]."""
        return mean_vector(self._layer.of(whole_activations(self._deps, images), self._unit))

    def like(self, vector: Vectors) -> str | None:
        """Return the found label that excites the unit by the same images as a mean vector; None if none does."""
        cosines = [float(found @ vector) for found in self._found]
        place = int(np.argmax(cosines)) if cosines else 0
        return self._labels[place] if cosines and cosines[place] > self._related else None

    def like_images(self, images: Sequence[str]) -> str | None:
        """Return the found label that excites the unit by images like these; None if none does."""
        return self.like(self.vector(images))

    def others(self) -> dict[str, float]:
        """Return the concepts that the earlier searches scored and that are like no found label, best first."""
        away = [trial for trial in self._scored.values() if self.like_images(trial.images) is None]
        ordered = sorted(away, key=lambda trial: (-(trial.score or 0.0), str(trial.concept)))
        return {str(trial.concept): trial.score or 0.0 for trial in ordered}

    def control_classes(self) -> set[str]:
        """Return the keys of the control classes that are like a found label."""
        if self._control is None:
            return set()
        return {
            concept_key(class_concept(name))
            for index, name in enumerate(self._control.control.classes)
            if self.like(self._control.of_class(index, self._unit)) is not None
        }


def found_images(deps: Deps, state: LineState, begin: int) -> FoundImages:
    """Return the images that the searches before step ``begin`` found."""
    trials = deps.runs.trials(state["run"], state["unit"])
    earlier = [trial for trial in trials if trial.score is not None and trial.step < begin]
    return FoundImages(deps, state["unit"], earlier, state.get("found", []))


def same_images(concept: str, found: str) -> str:
    """Say to the language model why a concept does not come on the board of a restart."""
    return f'"{concept}" excites the unit by the same images as "{found}".'
