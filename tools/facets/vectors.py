"""Vectors of images in a layer, each coordinate standardised, without the unit in question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations

    Vectors = NDArray[np.float32]
    """float32 [n, n_units], each row of length 1, or 0 where nothing is known of it."""

_RELATED = 0.95


class LayerVectors:
    """The space of a layer: every unit has mean 0 and standard deviation 1 over reference images.

    Args:
        reference: float32 [m, n_units], activations on the reference images, at least two. A unit that is constant
            on them takes no part.
    """

    def __init__(self, reference: Activations) -> None:
        self._mean = reference.mean(0, dtype=np.float64).astype(np.float32)
        deviation = reference.std(0, dtype=np.float64)
        self._scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0).astype(np.float32)

    def standardised(self, activations: Activations) -> Vectors:
        """Return activations [n, n_units] with mean 0 and standard deviation 1 over the reference images."""
        rows: Vectors = (activations - self._mean) * self._scale
        return rows

    def of(self, activations: Activations, unit: int | None = None) -> Vectors:
        """Return the vector of each image, of length 1.

        Args:
            activations: float32 [n, n_units].
            unit: the unit that is left out, so that the vectors say what else an image has.
        """
        rows = self.standardised(activations)
        if unit is not None:
            rows[:, unit] = 0
        return _unit_length(rows)


def mean_vector(vectors: Vectors) -> Vectors:
    """Return the direction of the mean of vectors [n, n_units], as [n_units] of length 1."""
    mean: Vectors = _unit_length(vectors.mean(0, dtype=np.float64).astype(np.float32)[None])[0]
    return mean


def _unit_length(rows: Vectors) -> Vectors:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    vectors: Vectors = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return vectors


def related_cosine(vectors: Vectors) -> float:
    """Return the cosine that 95 % of all pairs of vectors [n, n_units] stay below; 1 for fewer than two."""
    pairs = np.triu_indices(len(vectors), 1)
    return float(np.quantile((vectors @ vectors.T)[pairs], _RELATED)) if len(pairs[0]) else 1.0
