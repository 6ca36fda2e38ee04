"""Which features a class of a classifier is made of: importance as in Salient ImageNet."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from line_neurons.agent.concepts import class_concept, concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control, Target
from line_neurons.tools.targets.base import find_layer
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.maps import linear_layer

Basis = Literal["predicted", "class"]
"""The images that importance is a mean over: those predicted as the class, or those of the class."""

_NOT_FEATURES = frozenset({"Dropout", "Identity", "Flatten"})
"""Modules that put out what they get: the module before them is the one to name."""
_EXACT, _ROUNDED = 1e-4, 2e-2
"""Largest difference of weighed features from the logits, as a share of the largest one; in half precision."""
_PROBES = 6


class NoFeaturesError(UsageError):
    """No control image is predicted as a class or is of it, or no feature speaks for it."""


@dataclass(frozen=True)
class Head:
    """The class layer of a classifier, and the layer of the features that it weighs.

    Args:
        features: path of the layer before it whose pooled units are its inputs.
        weights: float64 [n_classes, n_features].
        bias: float64 [n_classes].
    """

    layer: str
    features: str
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Compute the logits [n, n_classes] of features [n, n_features]."""
        return np.asarray(features.astype(np.float64) @ self.weights.T + self.bias)

    def predictions(self, features: NDArray[np.float32]) -> NDArray[np.int64]:
        """Compute the class [n] with the highest logit for features [n, n_features]."""
        return np.asarray(self.logits(features).argmax(1))


@dataclass(frozen=True)
class Feature:
    """A feature of a class.

    Args:
        rank: 1 for the most important one.
        importance: mean of activation times weight; the feature's part of the class's logit.
        share: of the sum of all positive importances of the class, in (0, 1].
    """

    unit: int
    rank: int
    importance: float
    share: float


@dataclass(frozen=True)
class ClassFeatures:
    """The most important features of a class, most important first.

    Args:
        basis: which images importance is a mean over.
        rows: their rows in the control set, the most probable image first.
        features: those with an importance above 0, at most as many as were asked for.
    """

    index: int
    name: str
    basis: Basis
    rows: tuple[int, ...]
    features: tuple[Feature, ...]

    def strongest(self, activations: NDArray[np.float32], count: int) -> list[int]:
        """Return the ``count`` rows with the highest activations, highest first, of a feature's [n_images]."""
        return sorted(self.rows, key=lambda row: (-float(activations[row]), row))[:count]


def find_head(target: Target, layer: str = "") -> Head:
    """Find the class layer, and the layer of the features that it weighs.

    That the one follows from the other is checked on images of noise.

    Args:
        layer: the features layer, where it is known; empty: the last one that fits.

    Raises:
        UsageError: the classifier does not end in a linear layer on pooled features, or ``layer`` has other
            values.
    """
    name = target.output_layer if isinstance(target, HookedTarget) else None
    linear = linear_layer(target, name) if name and isinstance(target, HookedTarget) else None
    if name is None or linear is None:
        raise UsageError(
            f"an audit needs a classifier that ends in a linear layer, and {_shown(target)} ends in "
            f"{name or 'no class layer'}",
            "name a classifier such as torchvision:resnet50",
        )
    weights, bias = (part.double().numpy() for part in linear)
    head = Head(name, layer, weights, bias)
    infos = target.layers()
    before = infos[: [info.path for info in infos].index(name)]
    if layer:
        given = find_layer(infos, layer, _shown(target))
        if layer == name:
            raise UsageError(
                f"{layer} is the class layer, and an audit needs labels of the features before it",
                "name the model and classes: line audit MODEL CLASS",
            )
        candidates = [given] if given.units == weights.shape[1] else []
    else:
        fitting = [info for info in reversed(before) if info.units == weights.shape[1]]
        # A pass-through module is better than none.
        candidates = sorted(fitting, key=lambda info: info.kind in _NOT_FEATURES)
    images = _probes()
    logits = target.activate(images, [name])[name].astype(np.float64)
    tolerance = _EXACT if "precision=float32" in target.fingerprint else _ROUNDED
    largest = tolerance * max(1.0, float(np.abs(logits).max()))
    for info in candidates:
        # Of some layers it is not known how to pool them.
        with suppress(UsageError):
            values = target.activate(images, [info.path])[info.path]
            if np.abs(head.logits(values) - logits).max() <= largest:
                return Head(name, info.path, weights, bias)
    if layer:
        raise UsageError(
            f"{layer} does not put out the {weights.shape[1]:,} values that the class layer {name} weighs",
            "name the model and classes: line audit MODEL CLASS",
        )
    raise UsageError(
        f"no layer of {_shown(target)} has the {weights.shape[1]:,} values that its class layer {name} weighs",
        "an audit needs a classifier that ends in pooling and a linear layer, pooled by --pool auto",
    )


def _shown(target: Target) -> str:
    return target.name if isinstance(target, HookedTarget) else type(target).__name__


def _probes() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [
        (rng.random((256, 256, 3)) * contrast + dark).astype(np.uint8)
        for contrast, dark in ((256, 0), (128, 0), (128, 128), (64, 32), (200, 20), (32, 200))[:_PROBES]
    ]


def importance(features: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the importance of each feature for a class: the mean of activation times weight over images.

    Source: Salient ImageNet (Singla and Feizi 2022), section 3.1.

    Args:
        features: [n_images, n_features], of the images predicted as the class.
        weights: [n_features], of the class.
    """
    return np.asarray(features.mean(0, dtype=np.float64) * weights)


def class_features(
    head: Head,
    control: Control,
    features: NDArray[np.float32],
    predictions: NDArray[np.int64],
    index: int,
    name: str,
    top: int,
) -> ClassFeatures:
    """Return the most important features of a class.

    Args:
        control: names and labels of the control set's classes.
        features: float32 [n_images, n_features] of the control set.
        predictions: of the head from them, int64 [n_images].

    Raises:
        NoFeaturesError: no control image is predicted as the class or is of it, or no feature speaks for it.
    """
    rows = np.flatnonzero(predictions == index)
    basis: Basis = "predicted"
    if not len(rows):
        rows, basis = np.flatnonzero(np.isin(control.labels, _classes_named(control, name))), "class"
    if not len(rows):
        raise NoFeaturesError(
            f"no image of the control set is predicted as {name!r:.80} (class {index}), and none is of that class",
            "name a control set that shows it with --control, or leave the class out",
        )
    found = importance(features[rows], head.weights[index])
    order = [int(unit) for unit in np.argsort(-found, kind="stable")[:top] if found[unit] > 0]
    if not order:
        raise NoFeaturesError(
            f"no feature speaks for {name!r:.80} (class {index}): none has an importance above 0",
            "leave the class out",
        )
    total = float(found[found > 0].sum())
    ranked = tuple(
        Feature(unit, rank, float(found[unit]), float(found[unit]) / total) for rank, unit in enumerate(order, 1)
    )
    likely = rows[np.argsort(-head.logits(features[rows])[:, index], kind="stable")]
    return ClassFeatures(index, name, basis, tuple(likely.tolist()), ranked)


def _classes_named(control: Control, name: str) -> list[int]:
    keys = {concept_key(name), concept_key(class_concept(name))}
    return [
        place
        for place, known in enumerate(control.classes)
        if keys & {concept_key(known), concept_key(class_concept(known))}
    ]
