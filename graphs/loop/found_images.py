"""Keep a further search of a unit to its own images: away from those that earlier ones found, or to a facet's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.concepts import class_concept, concept_key
from line_neurons.graphs.loop.scoring import whole_activations
from line_neurons.graphs.loop.state import Deps, LineState
from line_neurons.tools.facets.vectors import LayerVectors, mean_vector, related_cosine

if TYPE_CHECKING:
    from line_neurons.tools.facets.control_vectors import ControlVectors
    from line_neurons.tools.facets.divided_unit import DividedUnit
    from line_neurons.tools.facets.vectors import Vectors
    from line_neurons.tools.store.records import Trial


class OtherImages(ABC):
    """Images that a further search of a unit has to stay away from.

    Args:
        unit: the unit, which the vectors leave out.
        control: the control set in it; None without one.
    """

    def __init__(
        self, deps: Deps, unit: int, earlier: Sequence[Trial], layer: LayerVectors, control: ControlVectors | None
    ) -> None:
        self._deps, self._unit, self._layer, self._control = deps, unit, layer, control
        self._scored = scored_concepts(earlier)

    def vector(self, images: Sequence[str]) -> Vectors:
        """Return the mean vector of images of the cache, [n_units]."""
        return mean_vector(self._layer.of(whole_activations(self._deps, images), self._unit))

    @abstractmethod
    def like(self, vector: Vectors) -> str | None:
        """Return what a mean vector has the images of; None where they are of this search."""

    def like_images(self, images: Sequence[str]) -> str | None:
        """Return what else excites the unit by images like these; None where they are of this search."""
        return self.like(self.vector(images))

    def others(self) -> dict[str, float]:
        """Return the concepts that the earlier searches scored with images of this one, best first."""
        away = [trial for trial in self._scored.values() if self.like_images(trial.images) is None]
        ordered = sorted(away, key=lambda trial: (-(trial.score or 0.0), str(trial.concept)))
        return {str(trial.concept): trial.score or 0.0 for trial in ordered}

    def control_classes(self) -> set[str]:
        """Return the keys of the control classes that the search has to stay away from."""
        if self._control is None:
            return set()
        return {
            concept_key(class_concept(name))
            for index, name in enumerate(self._control.control.classes)
            if self.like(self._control.of_class(index, self._unit)) is not None
        }


class FoundImages(OtherImages):
    """The images of the labels that earlier searches of a unit found.

    A concept is like a found one where the cosine of their mean vectors exceeds that of 95 % of all pairs of
    control classes; without these, of pairs of concepts that the earlier searches scored.

    Args:
        unit: the unit, which the vectors leave out.
    """

    def __init__(self, deps: Deps, unit: int, earlier: Sequence[Trial], found: Sequence[str]) -> None:
        control, scored = deps.control_vectors(), scored_concepts(earlier)
        if control is not None:
            layer, self._related = control.layer, control.related
        else:
            images = [image for trial in scored.values() for image in trial.images]
            layer, self._related = LayerVectors(whole_activations(deps, images)), 1.0
        super().__init__(deps, unit, earlier, layer, control)
        labels = dict.fromkeys(key for label in found if (key := concept_key(label)) in scored)
        self._labels = [str(scored[key].concept) for key in labels]
        self._found = [self.vector(scored[key].images) for key in labels]
        if self._related == 1.0:
            known = np.stack([self.vector(trial.images) for trial in scored.values()])
            self._related = related_cosine(known)

    def like(self, vector: Vectors) -> str | None:
        """Return the found label that excites the unit by the same images as a mean vector; None if none does."""
        cosines = [float(found @ vector) for found in self._found]
        place = int(np.argmax(cosines)) if cosines else 0
        return self._labels[place] if cosines and cosines[place] > self._related else None


class FacetImages(OtherImages):
    """The images of the facets of a unit other than the one that a search is for.

    Args:
        space: the control set in the space of the layer.
        found: labels of the earlier searches, best first of those of one facet.
    """

    def __init__(
        self,
        deps: Deps,
        divided: DividedUnit,
        facet: int,
        space: ControlVectors,
        earlier: Sequence[Trial],
        found: Sequence[str],
    ) -> None:
        super().__init__(deps, divided.unit, earlier, space.layer, space)
        self._divided, self._facet = divided, facet
        self._names = {
            number: class_concept(divided.names_of(number)[0]) for number in range(len(divided.split.facets))
        }
        for label in reversed(found):
            if (key := concept_key(label)) in self._scored:
                trial = self._scored[key]
                self._names[divided.facet_of(self.vector(trial.images))] = str(trial.concept)

    def like(self, vector: Vectors) -> str | None:
        """Return the label or the strongest source of the nearest facet; None where that is the search's."""
        nearest = self._divided.facet_of(vector)
        return None if nearest == self._facet else self._names[nearest]


def scored_concepts(trials: Sequence[Trial]) -> dict[str, Trial]:
    """Return the last trial of each scored concept that has images, by its key."""
    return {concept_key(trial.concept): trial for trial in trials if trial.concept and trial.images}


def earlier_trials(deps: Deps, state: LineState, begin: int) -> list[Trial]:
    """Return what the unit was scored on before step ``begin``."""
    trials = deps.runs.trials(state["run"], state["unit"])
    return [trial for trial in trials if trial.score is not None and trial.step < begin]


def found_images(deps: Deps, state: LineState, begin: int) -> FoundImages:
    """Return the images that the searches before step ``begin`` found."""
    return FoundImages(deps, state["unit"], earlier_trials(deps, state, begin), state.get("found", []))


def same_images(concept: str, found: str) -> str:
    """Say to the language model why a concept does not come on the board of a restart."""
    return f'"{concept}" excites the unit by the same images as "{found}".'
