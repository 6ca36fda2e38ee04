"""A further search of a unit for one of its facets: which one, and the images that it has to stay away from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.ports import Control
from line_neurons.graphs.loop.found_images import (
    FacetImages,
    OtherImages,
    earlier_trials,
    found_images,
    scored_concepts,
)
from line_neurons.graphs.loop.scoring import whole_activations
from line_neurons.graphs.loop.state import Deps, LineState
from line_neurons.tools.facets.control_vectors import ControlVectors
from line_neurons.tools.facets.divided_unit import divide
from line_neurons.tools.facets.vectors import mean_vector
from line_neurons.tools.store.records import Trial


def concept_vectors(deps: Deps, concepts: Sequence[tuple[str, Sequence[str]]]) -> ControlVectors:
    """Return concepts with their images as the classes of a control set, in the space of the layer."""
    rows = [whole_activations(deps, images) for _, images in concepts]
    labels = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
    return ControlVectors(Control(tuple(text for text, _ in concepts), labels, np.concatenate(rows)))


def facet_of_search(deps: Deps, state: LineState) -> LineState | None:
    """Choose the facet that a search which begins is for; None where none is left.

    It is the first one that was requested by a source; without a request, the heaviest without the unit's label
    that no search was for.

    Returns:
        What the state has of it; empty for the first search and the restarts of the settings.
    """
    if state.get("restart", 0) <= deps.settings.restarts:
        return {}
    earlier = earlier_trials(deps, state, state.get("step", 0))
    space = _space(deps, earlier)
    divided = divide(space, state["unit"])
    if isinstance(divided, str) or len(divided.split.facets) < 2:
        return None
    facets = [list(divided.names_of(facet)) for facet in range(len(divided.split.facets))]
    searched, requested = list(state.get("searched", [])), list(state.get("facets", []))
    while requested:
        source = requested.pop(0)
        if chosen := next((names for names in facets if source in names), None):
            return {"facet": chosen, "facets": requested, "searched": [*searched, chosen[0]]}
    best = scored_concepts(earlier).get(concept_key(str(state["best"][0])))
    if len(searched) >= deps.settings.facets or best is None:
        return None
    vector = mean_vector(space.layer.of(whole_activations(deps, best.images), state["unit"]))
    known = {*searched, *facets[divided.facet_of(vector)]}
    chosen = next((names for names in facets if not known & {*names}), None)
    return {"facet": chosen, "facets": [], "searched": [*searched, chosen[0]]} if chosen else None


def no_facet_search(state: LineState) -> LineState:
    """Return what ends a unit whose search for a facet cannot begin: what it counted for is taken back."""
    return {"kind": "end", "facets": [], "restart": state["restart"] - 1, "found": state["found"][:-1]}


def images_to_avoid(deps: Deps, state: LineState, begin: int) -> OtherImages | None:
    """Return the images that the search from step ``begin`` on has to stay away from; None where it has not."""
    sources = state.get("facet")
    if not sources:
        by_images = state.get("restart") and deps.settings.restart_by == "images"
        return found_images(deps, state, begin) if by_images else None
    earlier = earlier_trials(deps, state, begin)
    space = _space(deps, earlier)
    divided = divide(space, state["unit"])
    assert not isinstance(divided, str)
    facet = next(number for number in range(len(divided.split.facets)) if sources[0] in divided.names_of(number))
    return FacetImages(deps, divided, facet, space, earlier, state.get("found", []))


def like_avoided(deps: Deps, state: LineState) -> str | None:
    """Return the label or source whose images a scored concept has, not of its search; a typed one never has."""
    if state.get("origin") == "typed":
        return None
    avoided = images_to_avoid(deps, state, state.get("begin", 0))
    return avoided.like_images(state["images"]) if avoided else None


def _space(deps: Deps, earlier: Sequence[Trial]) -> ControlVectors:
    """Return the control set in the space of its layer; without classes, what the unit was scored on."""
    control = deps.control_vectors()
    if control is not None and control.known:
        return control
    return concept_vectors(
        deps, [(str(trial.concept), trial.images) for trial in scored_concepts(earlier).values()]
    )
