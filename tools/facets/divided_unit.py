"""The strongest sources of a unit, divided into facets, and the facet to which further images belong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.tools.facets.splits import FEWEST_SOURCES, Sources, Split, split_sources, strongest_sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from line_neurons.tools.facets.control_vectors import ControlVectors
    from line_neurons.tools.facets.vectors import Vectors

FEWEST_IMAGES = 12


@dataclass(frozen=True)
class DividedUnit:
    """A unit with the facets of its strongest sources.

    Args:
        sources: the strongest sources, by place among those that have images.
        names: their names, strongest first.
        vectors: float32 [n_sources, d], the mean vector of each.
        split: how they fall into facets.
        centres: float32 [n_facets, d], the weighted mean direction of each facet.
        least: float64 [n_facets], the cosine of each facet's median source with the centre of its other sources. A
            source that is part of the centre would be nearer to it than any further images of the same thing.
    """

    unit: int
    sources: Sources
    names: tuple[str, ...]
    images: int
    vectors: Vectors
    split: Split
    centres: Vectors
    least: NDArray[np.float64]

    def facet_of(self, vector: Vectors) -> int:
        """Return the facet with the centre nearest to a mean vector [d]."""
        return int(np.argmax(self.centres @ vector))

    def names_of(self, facet: int) -> tuple[str, ...]:
        """Return the names of a facet's sources, strongest first."""
        return tuple(self.names[place] for place in self.split.facets[facet])

    def share(self, facet: int) -> float:
        """Return the part of the weight of all sources that a facet has, in [0, 1]."""
        weights = self.sources.weights
        return float(weights[list(self.split.facets[facet])].sum() / weights.sum())


def divide(space: ControlVectors, unit: int) -> DividedUnit | str:
    """Divide the strongest sources of a unit into facets; a text says why nothing can be told."""
    sources = strongest_sources(space.class_means(unit))
    images = sum(len(space.rows[space.known[place]]) for place in sources.indices)
    if len(sources.indices) < FEWEST_SOURCES or images < FEWEST_IMAGES:
        return f"too few to tell: {len(sources.indices)} sources, {images} images"
    vectors = np.stack([space.of_class(space.known[place], unit) for place in sources.indices])
    split = split_sources(vectors, sources.weights, space.single_class_limit)
    centres = np.stack([_centre(vectors, sources.weights, places) for places in split.facets])
    least = np.array([_median_cosine(vectors, sources.weights, places) for places in split.facets])
    names = tuple(space.control.classes[space.known[place]] for place in sources.indices)
    return DividedUnit(unit, sources, names, images, vectors, split, centres, least)


def _median_cosine(vectors: Vectors, weights: NDArray[np.float64], places: Sequence[int]) -> float:
    """Return the median of the cosines of each source of a facet with the centre of the others."""
    others = (_centre(vectors, weights, [other for other in places if other != place]) for place in places)
    return float(np.median([vectors[place] @ centre for place, centre in zip(places, others, strict=True)]))


def _centre(vectors: Vectors, weights: NDArray[np.float64], places: Sequence[int]) -> Vectors:
    total = (weights[list(places)] @ vectors[list(places)]).astype(np.float32)
    length = float(np.linalg.norm(total))
    centre: Vectors = total / length if length else total
    return centre
