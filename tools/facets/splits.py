"""Split the sources of a unit's strongest images into facets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.tools.facets.vectors import ImageVectors, Vectors

STRONGEST = 12
"""How many sources count at most."""
BASE = 18
"""Sources are weighted by their activation above that of the source at this place."""
FEWEST_SOURCES = 4
"""Fewer are too few to tell."""
MOST_FACETS = 5

_SHARE, _SOURCES = 0.1, 2
"""The least that a facet has, of the weight and of the sources."""


class Sources(NamedTuple):
    """The strongest sources of a unit, strongest first.

    Args:
        indices: int [n], of each source among all.
        weights: float [n], activation above the base, positive.
    """

    indices: NDArray[np.int64]
    weights: NDArray[np.float64]


class Halves(NamedTuple):
    """The best division of weighted vectors into two.

    Args:
        polysemanticity: 1 less the cosine of the two centres, in [0, 2].
        first: bool [n], which vectors are in the half of the strongest one.
        stands: each half has enough sources and weight to be a facet.
    """

    polysemanticity: float
    first: NDArray[np.bool_]
    stands: bool


@dataclass(frozen=True)
class Split:
    """How the sources of a unit fall into facets.

    Args:
        facets: places of the sources of each facet, among those of the unit; the heaviest facet first.
        polysemanticity: of the first division, whether it stands or not; see ``Halves``.
        first: places of the half of the strongest source in the first division.
    """

    facets: tuple[tuple[int, ...], ...]
    polysemanticity: float
    first: tuple[int, ...]


def strongest_sources(activations: NDArray[np.float64]) -> Sources:
    """Choose the strongest sources by their mean activations [n_sources].

    The base is the activation of the 18th strongest one; of fewer than 36 sources the median.
    """
    order = np.argsort(-activations, kind="stable")
    base = float(activations[order[BASE - 1]] if len(order) >= 2 * BASE else np.median(activations))
    chosen = order[:STRONGEST]
    weights = activations[chosen].astype(np.float64) - base
    return Sources(chosen[weights > 0], weights[weights > 0])


@cache
def _divisions(count: int) -> NDArray[np.float64]:
    """Return every division of ``count`` things into two, as rows of 0 and 1; the first is always 1."""
    numbers = np.arange(2 ** (count - 1) - 1)
    others = (numbers[:, None] >> np.arange(count - 1)) & 1
    return np.concatenate([np.ones((len(numbers), 1)), others], axis=1)


def halves(vectors: Vectors, weights: NDArray[np.float64]) -> Halves:
    """Divide weighted vectors of length 1 into two by k-means; the optimum of all divisions.

    Args:
        vectors: float32 [n, n_units], 2 to 12 of them.
        weights: float [n], positive.
    """
    products = (vectors @ vectors.T).astype(np.float64)
    members = _divisions(len(weights))
    own, rest = members * weights, (1 - members) * weights
    within, beyond = (((part @ products) * part).sum(1) for part in (own, rest))
    # The weighted scatter is least where the sum of these is largest.
    best = int(np.argmax(within / own.sum(1) + beyond / rest.sum(1)))
    across = float(own[best] @ products @ rest[best])
    lengths = float(np.sqrt(max(within[best], 0) * max(beyond[best], 0)))
    first = members[best] > 0
    share = float(own[best].sum() / weights.sum())
    enough = min(first.sum(), (~first).sum()) >= _SOURCES and min(share, 1 - share) >= _SHARE
    return Halves(1 - across / lengths if lengths else 0.0, first, bool(enough))


def split_sources(vectors: Vectors, weights: NDArray[np.float64], limit: float) -> Split:
    """Split weighted vectors into facets, each half again, at most five.

    Args:
        vectors: float32 [n, n_units], of length 1.
        weights: float [n], positive.
        limit: the polysemanticity above which a division counts, that of a unit of one class.
    """
    facets: list[NDArray[np.int64]] = [np.arange(len(weights))]
    first, waiting = None, [0]
    while waiting and len(facets) < MOST_FACETS:
        at = waiting.pop(0)
        places = facets[at]
        if len(places) < FEWEST_SOURCES:
            continue
        found = halves(vectors[places], weights[places])
        if first is None:
            first = found
        if found.stands and found.polysemanticity > limit:
            facets[at] = places[found.first]
            facets.append(places[~found.first])
            waiting += [at, len(facets) - 1]
    ordered = sorted(facets, key=lambda places: (-float(weights[places].sum()), int(places[0])))
    divided = tuple(tuple(map(int, places)) for places in ordered)
    if first is None:
        return Split(divided, 0.0, divided[0])
    return Split(divided, first.polysemanticity, tuple(map(int, np.flatnonzero(first.first))))


def single_class_limit(
    vectors: ImageVectors, labels: NDArray[np.int64], classes: Sequence[int], vectors_of: Callable[[int], Vectors]
) -> float:
    """Return the polysemanticity that 95 % of units for one class stay below.

    The units are linear probes of ``PROBES`` classes, drawn with seed 42, in the layer: ridge regressions, each
    fitted on one half of the images of every class and read on the other.

    Args:
        vectors: [m, n_units], standardised activations of all images, as they are in length.
        labels: int [m], index of each image's class; -1 for none.
        classes: indices of the classes with two images or more.
    """
    drawn = np.random.default_rng(_SEED).permutation(np.asarray(classes))[:PROBES]
    rows = {index: np.flatnonzero(labels == index) for index in classes}
    read = _probes(vectors, rows, drawn)
    found = []
    for column in read.T:
        sources = strongest_sources(np.array([column[rows[index]].mean() for index in classes]))
        if len(sources.indices) >= FEWEST_SOURCES:
            mean = np.stack([vectors_of(classes[place]) for place in sources.indices])
            found.append(halves(mean, sources.weights).polysemanticity)
    return float(np.quantile(found, _LEVEL)) if found else np.inf


PROBES = 100
_SEED, _LEVEL = 42, 0.95
_RIDGE = 0.05
"""Penalty of the ridge regression, as a share of the number of units."""
_MOST_IMAGES = 4000
"""Images that a probe is fitted on; of more a random draw."""


def _probes(
    vectors: ImageVectors, rows: dict[int, NDArray[np.int64]], drawn: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the activations [m, n_probes] of linear probes, each image's by the probe that did not see it."""
    read = np.zeros((len(vectors), len(drawn)))
    half = np.full(len(vectors), -1)
    for own in rows.values():
        half[own] = np.arange(len(own)) % 2
    rng = np.random.default_rng(_SEED)
    wanted = np.stack([np.isin(np.arange(len(vectors)), rows[int(index)]) for index in drawn], axis=1)
    for side in (0, 1):
        seen = np.flatnonzero(half == side)
        if len(seen) > _MOST_IMAGES:
            # All images of the probes' classes, and a draw of the others.
            of_probes = wanted[seen].any(1)
            free = max(0, _MOST_IMAGES - int(of_probes.sum()))
            seen = np.concatenate([seen[of_probes], rng.permutation(seen[~of_probes])[:free]])
        fitted = vectors[seen]
        products = (fitted @ fitted.T).astype(np.float64)
        targets = wanted[seen].astype(np.float64)
        targets -= targets.mean(0)
        penalty = _RIDGE * vectors.shape[1] * np.eye(len(seen))
        weights = (fitted.T @ np.linalg.solve(products + penalty, targets)).astype(np.float32)
        del fitted
        others = np.flatnonzero(half != side)
        for start in range(0, len(others), _MOST_IMAGES):
            part = others[start : start + _MOST_IMAGES]
            read[part] = vectors[part] @ weights
    return read
