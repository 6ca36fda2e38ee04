"""Published measures of how much the images that excite a unit have in common, by their closed forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.tools.facets.vectors import Vectors

_ABOVE = 2.0
"""Standard deviations above the mean from which on activations count for ``ms2``."""


def clarity(vectors: Vectors) -> float:
    """Return the clarity of vectors [n, d] of length 1, SemanticLens' mean cosine of all pairs.

    With two of them it is their cosine. Fewer have none.

    Source: Dreyer et al. 2025, ``semanticlens/scores.py``.
    """
    count = len(vectors)
    if count < 2:
        return float("nan")
    mean = vectors.mean(0, dtype=np.float64)
    return float((mean @ mean - 1 / count) * count / (count - 1))


def monosemanticity(weights: NDArray[np.float64], vectors: Vectors) -> float:
    """Return MS, the mean cosine of all pairs of images [n, d] weighted by the product of their weights [n].

    nan where fewer than two images have a weight.

    Source: Pach et al. 2025, whose double loop equals (|s|^2 - sum a^2) / ((sum a)^2 - sum a^2) with s = sum a e.
    """
    squares = float(weights @ weights)
    pairs = float(weights.sum()) ** 2 - squares
    if pairs <= 1e-12 * squares or not squares:
        return float("nan")
    total = weights @ vectors.astype(np.float64)
    return (float(total @ total) - squares) / pairs


def published_weights(activations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale activations [n] to 0-1, as MS is published."""
    low, high = float(activations.min()), float(activations.max())
    return (activations - low) / (high - low) if high > low else np.zeros_like(activations)


def strong_weights(activations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how many standard deviations activations [n] exceed the mean by more than two; else 0."""
    deviation = float(activations.std())
    if not deviation:
        return np.zeros_like(activations)
    above = (activations - activations.mean()) / deviation - _ABOVE
    weights: NDArray[np.float64] = np.maximum(above, 0.0)
    return weights
