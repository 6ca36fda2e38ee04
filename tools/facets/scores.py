"""Published measures of how much the images that excite a unit have in common, by their closed forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.tools.facets.vectors import Vectors

_ABOVE = 2.0
"""Standard deviations above the mean from which on activations count for ``ms2``."""
_RESAMPLES, _SEED = 1000, 42
_Z95 = 1.959963984540054
"""The 0.975 quantile of the standard normal distribution."""

Interval = tuple[float, float]
"""Lower and upper bound of a 95 % interval."""


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


def polysemanticity_interval(vectors: Vectors, weights: NDArray[np.float64], first: Sequence[int]) -> Interval:
    """Return the bootstrap interval of the polysemanticity of a division of weighted vectors [n, d].

    The vectors are resampled 1,000 times within each half; the division stays. (nan, nan) where there is none.

    Args:
        vectors: float32 [n, d], of length 1.
        weights: float [n], positive.
        first: places of one half.
    """
    half = np.isin(np.arange(len(weights)), first)
    if half.all() or not half.any():
        return float("nan"), float("nan")
    rng, products = np.random.default_rng(_SEED), (vectors @ vectors.T).astype(np.float64)
    one, other = (_resampled(rng, weights, np.flatnonzero(part)) for part in (half, ~half))
    across, own, rest = (
        ((left @ products) * right).sum(1) for left, right in ((one, other), (one, one), (other, other))
    )
    lengths = np.sqrt(np.maximum(own, 0) * np.maximum(rest, 0))
    found = 1 - np.divide(across, lengths, out=np.zeros_like(across), where=lengths > 0)
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def _resampled(
    rng: np.random.Generator, weights: NDArray[np.float64], places: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return weights [n_resamples, n] of places that are drawn with replacement; 0 elsewhere."""
    counts = rng.multinomial(len(places), np.full(len(places), 1 / len(places)), size=_RESAMPLES)
    every = np.zeros((_RESAMPLES, len(weights)))
    every[:, places] = counts * weights[places]
    return every


def monosemanticity_interval(weights: NDArray[np.float64], vectors: Vectors) -> Interval:
    """Return the interval of MS by the jackknife over images: their pairs are left out with them.

    An image that is drawn twice would be its own pair, so that a bootstrap is too high. Leaving out image i
    changes |s|^2 by a_i^2 - 2 a_i e_i s. (nan, nan) where fewer than three images have a weight.
    """
    rows = vectors.astype(np.float64)
    squares, total, sums = float(weights @ weights), float(weights.sum()), weights @ rows
    own = weights**2
    pairs = (total - weights) ** 2 - (squares - own)
    left_out = np.flatnonzero(weights > 0)
    if len(left_out) < 3 or (pairs[left_out] <= 1e-12 * squares).any():
        return float("nan"), float("nan")
    lengths = own * np.einsum("ij,ij->i", rows, rows)
    above = float(sums @ sums) - 2 * weights * (rows @ sums) + lengths - (squares - own)
    found = above[left_out] / pairs[left_out]
    count = len(found)
    error = float(np.sqrt((count - 1) / count * ((found - found.mean()) ** 2).sum()))
    value = monosemanticity(weights, vectors)
    return value - _Z95 * error, value + _Z95 * error


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
