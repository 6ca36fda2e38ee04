"""A control set in a space of images: vectors of its classes, and what units for one class look like."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.tools.facets.scores import Monosemanticity, monosemanticity
from line_neurons.tools.facets.splits import single_class_limit
from line_neurons.tools.facets.vectors import ImageVectors, LayerVectors, mean_vector, related_cosine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.activations import SparseActivations
    from line_neurons.agent.ports import Activations, Control
    from line_neurons.tools.facets.vectors import Vectors

_FEWEST_CLASSES = 20


class ControlVectors:
    """A control set in the space of its layer, or in another one.

    Args:
        control: with two images at least.
        embedded: float32 [n_images, d], the images in another space, such as another layer; None: in the layer.
    """

    def __init__(self, control: Control, embedded: Activations | SparseActivations | None = None) -> None:
        self.control = control
        self._embedded = control.activations if embedded is None else embedded
        self._of_layer = embedded is None
        self.layer = LayerVectors(self._embedded)
        self.rows: Sequence[NDArray[np.int64]] = [
            np.flatnonzero(control.labels == index) for index in range(len(control.classes))
        ]

    def of_class(self, index: int, unit: int | None = None) -> Vectors:
        """Return the mean vector of a class, [d]; 0 for a class without images."""
        rows = self.rows[index]
        if not rows.size:
            return np.zeros(self._embedded.shape[1], np.float32)
        return mean_vector(self.layer.of(self._images.activations(rows), unit if self._of_layer else None))

    @cached_property
    def _images(self) -> ImageVectors:
        return ImageVectors(self._embedded, self.layer)

    @property
    def images(self) -> ImageVectors | Vectors:
        """The standardised vectors of all control images, [n_images, d], as they are in length."""
        return self._images

    def monosemanticity(self, weights: NDArray[np.float64], units: Sequence[int]) -> Monosemanticity:
        """Return MS of units from weights [n_images, n_units], without the unit where vectors are of its layer."""
        return monosemanticity(self.images, weights, np.asarray(units) if self._of_layer else None)

    def cosines(self, vectors: Vectors, centres: Vectors, unit: int) -> NDArray[np.float64]:
        """Return cosines [n, n_centres] of vectors of length 1 with centres, without a unit of the same layer.

        Args:
            vectors: float32 [n, d], with all units.
            centres: float32 [n_centres, d], of length 1, without the unit.
        """
        found: NDArray[np.float64] = (vectors @ centres.T).astype(np.float64)
        if self._of_layer:
            rest = np.sqrt(np.maximum(1 - vectors[:, [unit]].astype(np.float64) ** 2, 0))
            found = np.divide(found, rest, out=np.zeros_like(found), where=rest > 1e-6)
        return found

    @cached_property
    def known(self) -> Sequence[int]:
        """The indices of the classes that have images."""
        return [index for index, rows in enumerate(self.rows) if rows.size]

    def class_means(self, unit: int) -> NDArray[np.float64]:
        """Return the mean activation of a unit on each class that has images, [n_known]."""
        labels = self.control.labels
        known = labels >= 0
        sums, counts = (
            np.bincount(labels[known], weights, len(self.rows))[self.known]
            for weights in (self.control.column(unit)[known], None)
        )
        means: NDArray[np.float64] = sums / counts
        return means

    @cached_property
    def single_class_limit(self) -> float:
        """The polysemanticity that 95 % of units for one class stay below; infinite where none can be made."""
        pairs = [index for index in self.known if len(self.rows[index]) > 1]
        if len(pairs) < _FEWEST_CLASSES:
            return float("inf")
        activations = self.control.activations
        if self._embedded is activations:
            own = self._images
        else:
            own = ImageVectors(activations, LayerVectors(activations))
        return single_class_limit(own, self.control.labels, pairs, self.of_class)

    @cached_property
    def related(self) -> float:
        """The cosine that 95 % of all pairs of classes stay below; 1 where there are no classes."""
        return related_cosine(np.stack([self.of_class(index) for index in self.known])) if self.known else 1.0


class NamedControl(ControlVectors):
    """A control set with vectors of its classes' names in place of those of their images.

    Args:
        control: with two images at least.
        names: float32 [n_classes, d], of length 1.
    """

    def __init__(self, control: Control, names: Vectors) -> None:
        super().__init__(control)
        self._names, self._of_layer = names, False

    def of_class(self, index: int, unit: int | None = None) -> Vectors:
        """Return the vector of a class's name, [d]."""
        vector: Vectors = self._names[index]
        return vector

    @property
    def images(self) -> ImageVectors | Vectors:
        """The vectors of the classes of all control images, [n_images, d]; 0 without a class."""
        labels = self.control.labels
        return np.where((labels >= 0)[:, None], self._names[labels], 0).astype(np.float32)


def control_vectors(control: Control | None) -> ControlVectors | None:
    """Return a control set in the space of its layer; None without one."""
    return None if control is None else ControlVectors(control)
