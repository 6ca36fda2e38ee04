"""A control set in the space of its layer: vectors of its classes, and what units for one class look like."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.tools.facets.splits import single_class_limit
from line_neurons.tools.facets.vectors import LayerVectors, mean_vector, related_cosine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Control
    from line_neurons.tools.facets.vectors import Vectors

_FEWEST_CLASSES = 20


class ControlVectors:
    """A control set in the space of its layer.

    Args:
        control: with two images at least.

    Attributes:
        activations: all activations of the control set, float32 [n_images, n_units].
    """

    def __init__(self, control: Control) -> None:
        self.control = control
        # Once: a sparse control set becomes a new array each time.
        self.activations = control.dense()
        self.layer = LayerVectors(self.activations)
        self.rows: Sequence[NDArray[np.int64]] = [
            np.flatnonzero(control.labels == index) for index in range(len(control.classes))
        ]

    def of_class(self, index: int, unit: int | None = None) -> Vectors:
        """Return the mean vector of a class, [n_units]; 0 for a class without images."""
        rows = self.rows[index]
        if not rows.size:
            return np.zeros(self.control.units, np.float32)
        return mean_vector(self.layer.of(self.activations[rows], unit))

    @cached_property
    def known(self) -> Sequence[int]:
        """The indices of the classes that have images."""
        return [index for index, rows in enumerate(self.rows) if rows.size]

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """The mean activations of each class that has images, [n_known, n_units]."""
        rows = (self.activations[self.rows[index]].mean(0, dtype=np.float64) for index in self.known)
        return np.stack(list(rows))

    @cached_property
    def single_class_limit(self) -> float:
        """The polysemanticity that 95 % of units for one class stay below; infinite where none can be made."""
        pairs = [index for index in self.known if len(self.rows[index]) > 1]
        if len(pairs) < _FEWEST_CLASSES:
            return float("inf")
        every = self.layer.standardised(self.activations)
        return single_class_limit(every, self.control.labels, pairs, self.of_class)

    @cached_property
    def related(self) -> float:
        """The cosine that 95 % of all pairs of classes stay below; 1 where there are no classes."""
        return related_cosine(np.stack([self.of_class(index) for index in self.known])) if self.known else 1.0


def control_vectors(control: Control | None) -> ControlVectors | None:
    """Return a control set in the space of its layer; None without one."""
    return None if control is None else ControlVectors(control)
