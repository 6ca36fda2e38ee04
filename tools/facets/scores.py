"""Published measures of how much the images that excite a unit have in common, by their closed forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.tools.facets.vectors import ImageVectors, Vectors

_ABOVE = 2.0
"""Standard deviations above the mean from which on activations count for ``ms2``."""
_RESAMPLES, _SEED = 1000, 42
_UNITS_AT_ONCE = 128
_ROWS_AT_ONCE, _MOST_VALUES = 4096, 1 << 25
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


class Monosemanticity(NamedTuple):
    """MS of units, float64 [n_units] each: the value, and the bounds of its 95 % interval; nan where unknown."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def monosemanticity(
    rows: ImageVectors | Vectors, weights: NDArray[np.float64], left_out: NDArray[np.int64] | None = None
) -> Monosemanticity:
    """Return MS of units, the mean cosine of all pairs of images weighted by the product of their weights.

    The double loop over pairs equals (|s|^2 - sum a^2) / ((sum a)^2 - sum a^2) with s = sum a e, for weights a and
    images e of length 1. The interval is the jackknife's, which leaves out each image with its pairs: that changes
    |s|^2 by a_i^2 - 2 a_i e_i s. An image that a bootstrap draws twice would be its own pair.

    Args:
        rows: float32 [n_images, d], vectors of images of any length.
        weights: float64 [n_images, n_units], not negative.
        left_out: int [n_units], for each unit a coordinate that counts as 0; None: all count.

    Source: Pach et al. 2025.
    """
    parts = [
        _monosemanticity(rows, weights[:, start : start + _UNITS_AT_ONCE],
                         None if left_out is None else left_out[start : start + _UNITS_AT_ONCE])
        for start in range(0, weights.shape[1], _UNITS_AT_ONCE)
    ]  # fmt: skip
    return Monosemanticity(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _monosemanticity(
    rows: ImageVectors | Vectors, weights: NDArray[np.float64], left_out: NDArray[np.int64] | None
) -> Monosemanticity:
    at_once = max(1, min(_ROWS_AT_ONCE, _MOST_VALUES // rows.shape[1]))
    blocks = [slice(start, start + at_once) for start in range(0, len(rows), at_once)]
    sums, inverse = np.zeros((weights.shape[1], rows.shape[1])), np.empty((len(rows), weights.shape[1]))
    for block in blocks:
        part = rows[block]
        lengths = np.einsum("ij,ij->i", part, part, dtype=np.float64)[:, None]
        if left_out is not None:
            lengths = np.maximum(lengths - part[:, left_out].astype(np.float64) ** 2, 0)
        inverse[block] = np.divide(1, np.sqrt(lengths), out=np.zeros_like(lengths), where=lengths > 1e-9)
        # In float64: where one weight is much larger than all others, the pairs are what two large numbers
        # differ by.
        sums += (weights[block] * inverse[block]).T @ part.astype(np.float64)
    if left_out is not None:
        sums[np.arange(len(sums)), left_out] = 0
    squared = np.einsum("ij,ij->i", sums, sums)
    along = np.concatenate([rows[block].astype(np.float64) @ sums.T for block in blocks]) * inverse
    own = weights**2
    squares, total, counts = own.sum(0), weights.sum(0), (weights > 0).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = _share(squared - squares, total**2 - squares, squares)
        above = squared - 2 * weights * along + own * (inverse > 0) - (squares - own)
        without = _share(above, (total - weights) ** 2 - (squares - own), squares)
        found = np.where(weights > 0, without, 0)
        mean = found.sum(0) / counts
        scatter = np.where(weights > 0, (found - mean) ** 2, 0).sum(0)
        error = np.where(counts > 2, np.sqrt((counts - 1) / counts * scatter), np.nan)
    return Monosemanticity(value, value - _Z95 * error, value + _Z95 * error)


def _share(
    part: NDArray[np.float64], pairs: NDArray[np.float64], squares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Divide by weights of pairs; nan where there are none but for rounding."""
    shares: NDArray[np.float64] = np.where(pairs > 1e-12 * squares, part / pairs, np.nan)
    return shares


def published_weights(activations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale the activations [n, n_units] of each unit to 0-1, as MS is published."""
    above, extent = activations - activations.min(0), np.ptp(activations, axis=0)
    weights: NDArray[np.float64] = np.divide(above, extent, out=np.zeros_like(above), where=extent > 0)
    return weights


def strong_weights(activations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how many deviations the activations [n, n_units] exceed their mean by more than two; else 0."""
    above, deviation = activations - activations.mean(0), activations.std(0)
    scaled = np.divide(above, deviation, out=np.zeros_like(above), where=deviation > 0)
    weights: NDArray[np.float64] = np.maximum(scaled - _ABOVE, 0.0)
    return weights
