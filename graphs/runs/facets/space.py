"""The space in which images of facets are compared: of the layer, of another layer or model, or of names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.activations import compact, joined_activations
from line_neurons.agent.concepts import class_concept
from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control
from line_neurons.graphs.loop.scoring import whole_activations
from line_neurons.tools.facets.control_vectors import ControlVectors, NamedControl
from line_neurons.tools.facets.vectors import mean_vector
from line_neurons.tools.targets.layer_list import LayerList

if TYPE_CHECKING:
    from line_neurons.agent.activations import SparseActivations
    from line_neurons.agent.ports import Activations
    from line_neurons.graphs.loop.state import Deps
    from line_neurons.graphs.runs.components import Components
    from line_neurons.graphs.runs.cross_scores import ImagedConcept
    from line_neurons.tools.facets.vectors import Vectors
    from line_neurons.tools.image_bank.text_encoder import TextEncoder
    from line_neurons.tools.store.records import Run

_CONCEPTS_AT_ONCE = 64
SPACES = ("features", "penultimate", "text")
"""Names of spaces; any other is a vision model."""


@dataclass(frozen=True)
class FacetSpace:
    """How images are compared.

    Args:
        other: measures the images in another layer or by another model; None: in the layer itself.
        encoder: encodes names in place of images; None: images are compared.
    """

    deps: Deps
    other: Deps | None = None
    encoder: TextEncoder | None = None

    def control(self) -> ControlVectors | None:
        """Return the control set in this space; None without one, or where it has no classes."""
        plain = self.deps.control_vectors()
        if plain is None or not plain.known:
            return None
        if self.encoder is not None:
            return self._named(plain.control)
        if self.other is None:
            return plain
        measured = self.other.control()
        if measured is None or len(measured.labels) != len(plain.control.labels):
            raise UsageError(
                "the control set has no images that another layer or model can measure",
                "leave --by away, or start a run with a control set of images",
            )
        return ControlVectors(plain.control, measured.activations)

    def sources(self, concepts: Sequence[ImagedConcept]) -> ControlVectors:
        """Return concepts as the classes of a control set in this space."""
        labels = np.repeat(np.arange(len(concepts)), [len(concept.images) for concept in concepts])
        control = Control(tuple(concept.text for concept in concepts), labels, _activations(self.deps, concepts))
        if self.encoder is not None:
            return self._named(control)
        return ControlVectors(control, None if self.other is None else _activations(self.other, concepts))

    def vectors(self, space: ControlVectors, concepts: Sequence[ImagedConcept]) -> Vectors:
        """Return the mean vector of each concept, float32 [n_concepts, d], with all units."""
        if self.encoder is not None:
            return _encoded(self.encoder, [concept.text for concept in concepts])
        found = np.empty((len(concepts), space.images.shape[1]), np.float32)
        places = iter(range(len(concepts)))
        for part, rows in _chunks(self.other or self.deps, concepts):
            ends = np.cumsum([len(concept.images) for concept in part])
            for own in np.split(rows, ends[:-1]):
                found[next(places)] = mean_vector(space.layer.of(own))
        return found

    def _named(self, control: Control) -> NamedControl:
        assert self.encoder is not None
        return NamedControl(
            control, _encoded(self.encoder, [class_concept(name) or name for name in control.classes])
        )


def _chunks(
    deps: Deps, concepts: Sequence[ImagedConcept]
) -> Iterator[tuple[Sequence[ImagedConcept], Activations]]:
    """Yield some concepts at a time, with all units on their images, float32 [n_images, n_units]."""
    for start in range(0, len(concepts), _CONCEPTS_AT_ONCE):
        part = concepts[start : start + _CONCEPTS_AT_ONCE]
        yield part, whole_activations(deps, [image for concept in part for image in concept.images])


def _activations(deps: Deps, concepts: Sequence[ImagedConcept]) -> Activations | SparseActivations:
    """Return all units on the images of concepts, [n_images, n_units]; sparse of a wide layer."""
    return joined_activations([compact(rows) for _, rows in _chunks(deps, concepts)])


def _encoded(encoder: TextEncoder, texts: Sequence[str]) -> Vectors:
    return np.asarray(encoder.encode(list(texts)), np.float32)


def facet_space(components: Components, run: Run, deps: Deps, by: str) -> FacetSpace:
    """Return the space of a name: ``features``, ``penultimate``, ``text``, or a vision model.

    A vision model compares images by the last layer before its output.

    Raises:
        UsageError: the model cannot be opened, or has a single layer.
        MissingPartError: a package or weights are missing.
    """
    from line_neurons.graphs.runs.components import Components as Opened

    if by == "features":
        return FacetSpace(deps)
    if by == "text":
        return FacetSpace(deps, encoder=components.text_encoder)
    if by == "penultimate":
        layer = last_hidden(components)
        return FacetSpace(deps) if layer == run.layer else FacetSpace(deps, _deps(components, run, layer))
    settings = components.settings.model_copy(
        update={
            "weights": None, "pool": "auto", "tokens": "auto", "sae": None, "sae_input": None,
            "sae_activation": None, "directions": None, "layout": (),
        }
    )  # fmt: skip
    encoder = Opened(by, settings, components.on_progress)
    return FacetSpace(deps, _deps(encoder, run, last_hidden(encoder)))


def _deps(components: Components, run: Run, layer: str) -> Deps:
    components.layers.add(layer)
    return components.deps(layer, run.vocabulary or ())


def last_hidden(components: Components) -> str:
    """Return the path of the last layer before the output of a model.

    Raises:
        UsageError: it has a single layer.
    """
    target = components.target
    found = LayerList(target.layers(), output=getattr(target, "output_layer", None)).last_hidden
    if found is None:
        raise UsageError(f"{components.model} has no layer before its output", "name another --by")
    return found
