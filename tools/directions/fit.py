"""Fit a direction by logistic regression, and compare it with random splits of the same images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from line_neurons.agent.errors import UsageError
from line_neurons.agent.seeds import derive_seed
from line_neurons.tools.packages import required_package

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations

FOLDS = 5
REFITS = 20
"""Random splits that a direction is compared with: one that means nothing beats them all once in 21 times."""
FEWEST = 10
"""Images that each side needs: two of them are held out at a time."""
_ITERATIONS = 1000

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DirectionFit:
    """A direction, with what it is worth on images that it was not fitted on.

    Args:
        vector: float64 [d], of length 1.
        bias: what is added to the projection, so that 0 is the boundary.
        auc: area under the ROC curve on held-out images, mean over the folds.
        accuracy: share of held-out images on the right side of the boundary, mean of the two sides.
        random_auc: float64 [refits], ``auc`` of random splits of the same images, of the same sizes.
        random_vectors: mean AUC of random vectors, each with the better of its signs.
        images: how many images there are with the thing and without it.
    """

    vector: NDArray[np.float64]
    bias: float
    auc: float
    accuracy: float
    random_auc: NDArray[np.float64]
    random_vectors: float
    images: tuple[int, int]

    @property
    def is_random(self) -> bool:
        """Whether a random split of the images is separated as well, so that the direction means nothing."""
        return self.auc <= float(self.random_auc.max())

    @property
    def p(self) -> float:
        """Share of splits, the direction's own among them, that are separated as well: a permutation test."""
        return float((1 + (self.random_auc >= self.auc).sum()) / (1 + len(self.random_auc)))


def fit_direction(
    positive: Activations,
    negative: Activations,
    *,
    seed: int,
    refits: int = REFITS,
    progress: Progress | None = None,
) -> DirectionFit:
    """Fit the direction from images without a thing to images with it.

    It is L2 logistic regression on standardised values, in which both sides weigh the same; the penalty grows with
    the number of values, so that it means the same in layers of any width. Random splits are the test of Kim et
    al. ("Interpretability Beyond Feature Attribution", 2018, section 3.4).

    Args:
        positive: float32 [n, d], activations of images with the thing.
        negative: float32 [m, d], activations of images without it.
        seed: of folds, random splits and random vectors.
        refits: number of random splits, at least 1.
        progress: called after each fit as ``(fits, fits in all)``.

    Raises:
        UsageError: a side has too few images, or no unit responds differently to any of them.
    """
    for side, rows in (("with", positive), ("without", negative)):
        if len(rows) < FEWEST:
            raise UsageError(
                f"there are {len(rows)} different images {side} it, and a direction needs {FEWEST} on each side",
                "give more images, of a control set with --control-images",
            )
    values = np.concatenate([positive, negative]).astype(np.float64)
    if not (values != values[0]).any():
        raise UsageError("all images have the same activations at this layer", "name another layer")
    truth = np.arange(len(values)) < len(positive)
    rng = np.random.default_rng(derive_seed("direction", seed))
    total = refits + 1

    def held_out(split: NDArray[np.bool_], done: int) -> tuple[float, float]:
        found = _held_out(values, split, seed)
        if progress:
            progress(done, total)
        return found

    area, accuracy = held_out(truth, 1)
    random_areas = [held_out(rng.permutation(truth), place + 2)[0] for place in range(refits)]
    model = _regression(values.shape[1]).fit(values, truth)
    scaler, regression = model[0], model[-1]
    raw = regression.coef_[0] / scaler.scale_
    length = float(np.linalg.norm(raw))
    offset = float(regression.intercept_[0] - raw @ scaler.mean_)
    standardised = (values - scaler.mean_) / scaler.scale_
    vectors = rng.standard_normal((values.shape[1], refits))
    areas = [_area(projections, truth) for projections in (standardised @ vectors).T]
    return DirectionFit(
        raw / length,
        offset / length,
        area,
        accuracy,
        np.array(random_areas),
        float(np.mean([max(found, 1 - found) for found in areas])),
        (len(positive), len(negative)),
    )


def _held_out(values: NDArray[np.float64], split: NDArray[np.bool_], seed: int) -> tuple[float, float]:
    """Return area and accuracy of a split on held-out images, means over the folds."""
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=derive_seed("folds", seed))
    areas, accuracies = [], []
    for train, test in folds.split(values, split):
        scores = _regression(values.shape[1]).fit(values[train], split[train]).decision_function(values[test])
        areas.append(_area(scores, split[test]))
        right = (scores > 0) == split[test]
        accuracies.append((right[split[test]].mean() + right[~split[test]].mean()) / 2)
    return float(np.mean(areas)), float(np.mean(accuracies))


def _area(scores: NDArray[np.float64], split: NDArray[np.bool_]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(split, scores))


def _regression(width: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        StandardScaler(), LogisticRegression(C=1 / width, class_weight="balanced", max_iter=_ITERATIONS)
    )


def check_scikit_learn() -> None:
    """Check that scikit-learn can be imported, before long work.

    Raises:
        MissingPartError: it cannot.
    """
    with required_package("sklearn", "eval", needed="directions need"):
        import sklearn  # noqa: F401
