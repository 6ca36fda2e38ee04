"""Vectors of images in a layer, each coordinate standardised, without the unit in question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.activations import SparseActivations, unit_blocks

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

    def __init__(self, reference: Activations | SparseActivations) -> None:
        moments = (
            (block.mean(0, dtype=np.float64), block.std(0, dtype=np.float64)) for block in unit_blocks(reference)
        )
        mean, deviation = (np.concatenate(found) for found in zip(*moments, strict=True))
        self._mean = mean.astype(np.float32)
        self._scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0).astype(np.float32)

    def standardised(self, activations: Activations) -> Vectors:
        """Return activations [n, n_units] with mean 0 and standard deviation 1 over the reference images."""
        rows: Vectors = activations - self._mean
        rows *= self._scale
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


class ImageVectors:
    """The standardised vectors of images, as they are in length, made of those that are read.

    Args:
        activations: float32 [n_images, n_units].
        layer: the space.
    """

    def __init__(self, activations: Activations | SparseActivations, layer: LayerVectors) -> None:
        # By image: the dense matrix of a wide layer would be many times as large.
        self._of_images = activations.transposed() if isinstance(activations, SparseActivations) else activations
        self._layer = layer
        self.shape: tuple[int, int] = (activations.shape[0], activations.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, images: slice | NDArray[np.int64]) -> Vectors:
        return self._layer.standardised(self.activations(images))

    def activations(self, images: slice | NDArray[np.int64]) -> Activations:
        """Return the activations of some images, float32 [n, n_units]."""
        if not isinstance(self._of_images, SparseActivations):
            rows: Activations = self._of_images[images]
            return rows
        chosen = np.arange(len(self))[images]
        found = np.empty((len(chosen), self.shape[1]), np.float32)
        for place, image in enumerate(chosen):
            found[place] = self._of_images.column(int(image))
        return found


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
