"""The response model: predict a unit's score on concepts that were never generated, with an uncertainty.

A Gaussian process over text embeddings (RBF kernel, constant mean). It learns from the scores of the control
classes, which are the same for the whole search, and from the unit's own history. The part of the control classes
is factorised once and serves all units of a layer; a unit adds its few own measurements as a small block.

>>> model = LayerModel(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32))
>>> unit = model.unit(model.prior([4.0, 1.0, 1.0]), [])
>>> [round(value, 1) for value in unit.predict(unit.rows).mean.tolist()]
[3.8, 1.1, 1.1]
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from line_neurons.agent.errors import UsageError

Floats = NDArray[np.float64]
Embeddings = NDArray[np.float32]

LENGTH_SCALE = 0.5
"""Length scale of the kernel, in distances of unit vectors; measured in docs/evaluation.md."""
NOISE = 0.1
"""Variance of a measured score, as a share of the variance of all known scores."""

_FEATURES = 1024
"""Most control classes that span the space of features: with more, predictions take too long."""
_WEIGHED = 1024
"""Most candidates that are all predicted; of more, these that the control classes promise most ..."""
_NEIGHBOURS = 256
"""... and these that are nearest to each of the unit's best three concepts."""
_BEST = 3
_JITTER = 1e-6
_CANDIDATES_AT_ONCE = 4096
_REMEMBERED = 256
"""Measured concepts of which features and neighbours are kept."""
_FAR = 4.0
_FEWEST = 5
"""Fewest concepts of which a rank correlation tells anything."""


@dataclass(frozen=True)
class Observation:
    """A score of the unit's own history, or a control class that the model must not learn from.

    Args:
        concept: names the embedding, for the cache.
        embedding: float32 [d], of length 1.
        control: index of the control class of the same name; -1 if there is none.
        removed: forget that control class, which has this value.
    """

    concept: str
    embedding: Embeddings
    value: float
    control: int = -1
    removed: bool = False


@dataclass(frozen=True)
class UnitPrior:
    """What the control classes alone tell of a unit: their scores, and those times the layer's factors.

    ``promising`` are the candidates that they promise most, by index; all of them where they are few.
    """

    values: Floats
    weights: Floats
    residual: Floats
    promising: NDArray[np.intp]


@dataclass(frozen=True)
class _Measured:
    """What a measured concept means for the layer: its features, and their effect on the control classes."""

    features: Floats
    explained: Floats
    influence: Floats
    neighbours: NDArray[np.intp]


@dataclass(frozen=True)
class Prediction:
    """Predicted scores of concepts, a value each.

    Args:
        mean: float64 [n].
        deviation: float64 [n], standard deviations; at least 0.
    """

    mean: Floats
    deviation: Floats

    def improvement(self, best: float) -> Floats:
        """Return the expected improvement of each concept over the score ``best``, at least 0."""
        gain, deviation = self.mean - best, np.maximum(self.deviation, 1e-12)
        z = np.clip(gain / deviation, -30, 30)
        density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
        # Far below the best, the difference of the two terms is lost in rounding: its series is not.
        far = np.minimum(z, -_FAR) ** -2.0
        tail = density * far * (1 - 3 * far * (1 - 5 * far * (1 - 7 * far)))
        expected = deviation * np.where(z < -_FAR, tail, density + z * _normal_cdf(z))
        return np.where(self.deviation > 0, np.maximum(expected, 0.0), np.maximum(gain, 0.0))


class LayerModel:
    """What the units of a layer share: the control classes, the candidates, and one factorisation.

    May be used from several threads. Nothing in it depends on which unit was searched first.

    Args:
        control: float32 [classes, d], embeddings of the control classes, rows of length 1; may be empty.
        candidates: float32 [candidates, d], those of the concepts whose scores are predicted.
        noise: variance of a measured score, as a share of the variance of all.

    Raises:
        UsageError: an embedding is not finite.
    """

    def __init__(
        self,
        control: Embeddings,
        candidates: Embeddings,
        *,
        length_scale: float = LENGTH_SCALE,
        noise: float = NOISE,
    ) -> None:
        for array in (control, candidates):
            check_embeddings(array)
        self.scale, self.noise = length_scale, noise
        width = candidates.shape[1]
        known = np.asarray(control, np.float64).reshape(-1, width)
        self.candidates = np.ascontiguousarray(candidates, np.float32)
        # Where the classes are more than the features, an even share of them spans the space (Nystroem).
        chosen = np.linspace(0, len(known) - 1, min(len(known), _FEATURES)).round().astype(int)
        self._basis = known[chosen]
        lower = np.linalg.cholesky(self.kernel(self._basis, self._basis) + _JITTER * np.eye(len(chosen)))
        self._to_features = np.linalg.inv(lower).T
        self._known = self.features(known)
        self._inverse = np.linalg.inv(noise * np.eye(len(chosen)) + self._known.T @ self._known)
        self.leverage = np.einsum("ij,ij->i", self._known @ self._inverse, self._known)
        self.of_candidates = np.empty((len(candidates), len(chosen)), np.float32)
        self.variance = np.empty(len(candidates))
        for start in range(0, len(candidates), _CANDIDATES_AT_ONCE):
            part = slice(start, start + _CANDIDATES_AT_ONCE)
            own = self.features(self.candidates[part].astype(np.float64)).astype(np.float32)
            self.variance[part] = self.variance_of(own)
            self.of_candidates[part] = own
        self.ones = self._factors(np.ones(len(known)))
        self._measured: dict[str, _Measured] = {}
        self._adding = threading.Lock()

    def prior(self, values: Sequence[float] | Floats) -> UnitPrior:
        """Return what the control classes tell of a unit, from their scores in order."""
        prior = self._factors(np.asarray(values, np.float64))
        if len(self.candidates) <= _WEIGHED:
            return prior
        if not len(prior.values):
            # Nothing sets them apart: an even share.
            return replace(prior, promising=np.linspace(0, len(self.candidates) - 1, _WEIGHED).astype(np.intp))
        centre, spread = prior.values.mean(), prior.values.std() or 1.0
        weights = (prior.weights - centre * self.ones.weights) / spread
        bound: Floats = self.of_candidates @ weights.astype(np.float32) + 2 * np.sqrt(self.variance)
        return replace(prior, promising=np.sort(np.argsort(-bound, kind="stable")[:_WEIGHED]))

    def unit(self, prior: UnitPrior, observed: Sequence[Observation]) -> UnitModel:
        """Return the model of a unit, from the control classes and its own history."""
        return UnitModel(self, prior, observed)

    def _factors(self, values: Floats) -> UnitPrior:
        weights = self._inverse @ (self._known.T @ values)
        residual = (values - self._known @ weights) / self.noise
        return UnitPrior(values, weights, residual, np.arange(len(self.candidates)))

    def variance_of(self, features: Embeddings) -> Floats:
        """Return the variances that the control classes leave of concepts with these features."""
        explained = features @ (self.noise * self._inverse).astype(np.float32)
        variance: Floats = 1 + np.einsum("ij,ij->i", explained - features, features).astype(np.float64)
        return variance

    def measure(self, observation: Observation) -> _Measured:
        """Return what a concept means for the layer, computed once."""
        measured = self._measured.get(observation.concept)
        if measured is None:
            features = self.features(observation.embedding.astype(np.float64)[None])[0]
            solved = self._inverse @ features
            neighbours = np.zeros(0, np.intp)
            if len(self.candidates) > _WEIGHED:
                near = self.candidates @ observation.embedding
                neighbours = np.argpartition(-near, _NEIGHBOURS)[:_NEIGHBOURS]
            measured = _Measured(features, features - self.noise * solved, self._known @ solved, neighbours)
            with self._adding:
                if len(self._measured) >= _REMEMBERED:
                    self._measured.pop(next(iter(self._measured)))
                self._measured[observation.concept] = measured
        return measured

    def features(self, points: Floats) -> Floats:
        """Return the features of embeddings, whose inner products are the kernel's as the classes span it."""
        features: Floats = self.kernel(points, self._basis) @ self._to_features
        return features

    def kernel(self, one: Floats, two: Floats) -> Floats:
        """Return the prior covariances of two sets of embeddings."""
        kernel: Floats = np.exp((one @ two.T - 1) / self.scale**2)
        return kernel


class UnitModel:
    """The model of one unit; see ``LayerModel.unit``.

    Args:
        prior: what the control classes tell of it.
        observed: its own history, and the control classes to forget.
    """

    def __init__(self, layer: LayerModel, prior: UnitPrior, observed: Sequence[Observation]) -> None:
        self._layer, self._prior, self._observed = layer, prior, observed
        own = [o for o in observed if not o.removed]
        known = np.concatenate([_without(prior.values, observed), [o.value for o in own]])
        self._centre, self._spread = (float(known.mean()), float(known.std())) if known.size else (0.0, 0.0)
        # The same everywhere: nothing is expected to differ.
        self._constant = known.size < 2 or self._spread <= 1e-9 * max(1.0, abs(self._centre))
        scale = 1.0 if self._constant else self._spread
        self._weights = (prior.weights - self._centre * layer.ones.weights) / scale
        self._residual = (prior.residual - self._centre * layer.ones.residual) / scale
        self._inverse: Floats = np.zeros((0, 0))
        self._error: Floats = np.zeros(0)
        self._influence = np.zeros((len(prior.values), 0))
        if observed and not self._constant:
            parts = [layer.measure(o) for o in observed]
            features = np.stack([part.features for part in parts])
            explained = np.stack([part.explained for part in parts])
            self._explained = explained.astype(np.float32)
            self._influence = np.stack([part.influence for part in parts], axis=1)
            self._points = np.stack([o.embedding for o in observed])
            points = self._points.astype(np.float64)
            block = layer.kernel(points, points) - features @ explained.T
            block += np.diag([-layer.noise if o.removed else layer.noise for o in observed])
            self._inverse = np.asarray(np.linalg.inv((block + block.T) / 2), np.float64)
            self._error = (np.array([o.value for o in observed]) - self._centre) / scale - features @ self._weights

    @property
    def rows(self) -> NDArray[np.intp]:
        """The candidates that are predicted, by index, ascending.

        All of them where they are few; else those that the control classes promise most, and the nearest to the
        unit's best three concepts.
        """
        promising = self._prior.promising
        if len(promising) == len(self._layer.candidates):
            return promising
        own = [o for o in self._observed if not o.removed]
        best = sorted(own, key=lambda o: (-o.value, o.concept))[:_BEST]
        return np.unique(np.concatenate([promising, *(self._layer.measure(o).neighbours for o in best)]))

    def predict(self, rows: NDArray[np.intp]) -> Prediction:
        """Predict candidates by index."""
        layer = self._layer
        return self._predicted(layer.of_candidates[rows], layer.variance[rows], layer.candidates[rows])

    def predict_at(self, embeddings: Embeddings) -> Prediction:
        """Predict concepts, candidates or not, by their embeddings, float32 [n, d]."""
        layer = self._layer
        features = layer.features(embeddings.astype(np.float64)).astype(np.float32)
        return self._predicted(features, layer.variance_of(features), embeddings)

    def _predicted(self, features: Embeddings, variance: Floats, embeddings: Embeddings) -> Prediction:
        if self._constant:
            return Prediction(np.full(len(features), self._centre), np.zeros(len(features)))
        # In single precision, as there may be many.
        mean = (features @ self._weights.astype(np.float32)).astype(np.float64)
        if len(self._error):
            near = np.exp((embeddings @ self._points.T - 1) / np.float32(self._layer.scale**2))
            columns = near - features @ self._explained.T
            mean = mean + columns @ (self._inverse @ self._error).astype(np.float32)
            variance = variance - np.einsum("ij,ij->i", columns @ self._inverse.astype(np.float32), columns)
        deviation = np.sqrt(np.maximum(variance, 0.0))
        return Prediction(self._centre + self._spread * mean, self._spread * deviation)

    @cached_property
    def correlation(self) -> float | None:
        """The rank correlation of each concept's score with its prediction from all others, in closed form.

        Leaving a set out of a Gaussian process changes its prediction by the inverse of its block of the precision
        matrix, times its part of the weights. A concept's own measurements, and the control class of its name, are
        left out together. None where fewer than five concepts are known, or all scores are the same.
        """
        if self._constant:
            return None
        observed, inverse, influence = self._observed, self._inverse, self._influence
        values = (self._prior.values - self._centre) / self._spread
        own, crossed = inverse @ self._error, influence @ inverse
        residual = self._residual - influence @ own
        precision = (1 - self._layer.leverage) / self._layer.noise + np.einsum("ij,ij->i", crossed, influence)
        forgotten = {o.control for o in observed if o.removed}
        kept = np.ones(len(values), bool)
        kept[list(forgotten)] = False
        more: list[tuple[float, float]] = []
        for members in _groups(observed):
            measured = (np.array([observed[member].value for member in members]) - self._centre) / self._spread
            block, weights = inverse[np.ix_(members, members)], own[members]
            control = observed[members[0]].control
            if control >= 0 and control not in forgotten:
                cross = -crossed[control, members]
                block = np.block([[precision[[control], None], cross[None]], [cross[:, None], block]])
                weights = np.concatenate([residual[[control]], weights])
                kept[control] = False
            left_out = np.linalg.solve(block, weights)[-len(members)]
            more.append((float(measured.mean()), float(measured[0] - left_out)))
        return rank_correlation(
            np.concatenate([values[kept], [pair[0] for pair in more]]),
            np.concatenate([values[kept] - residual[kept] / precision[kept], [pair[1] for pair in more]]),
        )

    @property
    def knows_nothing(self) -> bool:
        """Whether its rank correlation is not above 0."""
        return self.correlation is None or self.correlation <= 0


def rank_correlation(one: Floats, two: Floats) -> float | None:
    """Return Spearman's rank correlation; None for fewer than five pairs, or where either is constant."""
    if len(one) < _FEWEST or np.ptp(one) == 0 or np.ptp(two) == 0:
        return None
    return float(np.corrcoef(_ranks(one), _ranks(two))[0, 1])


def check_embeddings(embeddings: Embeddings) -> None:
    """Check that text embeddings are finite.

    Raises:
        UsageError: one is not.
    """
    if not np.isfinite(embeddings).all():
        raise UsageError("an embedding of the text encoder is not finite", "name another one with --text-encoder")


def _ranks(values: Floats) -> Floats:
    """Rank values from 0; equal ones share their mean rank."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - (counts + 1) / 2)[places]).astype(np.float64)


def _without(values: Floats, observed: Sequence[Observation]) -> Floats:
    return np.delete(values, [o.control for o in observed if o.removed])


def _groups(observed: Sequence[Observation]) -> list[list[int]]:
    """Group the measurements of one concept, by index."""
    groups: dict[str, list[int]] = {}
    for index, o in enumerate(observed):
        if not o.removed:
            groups.setdefault(o.concept, []).append(index)
    return list(groups.values())


def _normal_cdf(z: Floats) -> Floats:
    """Return the normal distribution function (Abramowitz and Stegun, 1964, 26.2.17; error below 1e-7)."""
    t = 1 / (1 + 0.2316419 * np.abs(z))
    terms = (0.319381530, -0.356563782, 1.781477937, -1.821255978, 1.330274429)
    tail = np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * t * np.polynomial.polynomial.polyval(t, terms)
    return np.asarray(np.where(z > 0, 1 - tail, tail), np.float64)
