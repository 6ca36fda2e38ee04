"""The AUC of many units on many concepts at once, from ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations


def doubled_ranks(activations: Activations) -> NDArray[np.float64]:
    """Twice the rank of each image for each unit, from 2 on; ties share their mean rank, so all are whole.

    Args:
        activations: [n_images, n_units], all finite.

    Returns:
        float64 [n_images, n_units] of whole numbers; their sums are exact.
    """
    ranks = np.empty(activations.shape, np.float64)
    for unit, column in enumerate(activations.T):
        ordered = np.sort(column)
        ranks[:, unit] = np.searchsorted(ordered, column, "left") + np.searchsorted(ordered, column, "right") + 1
    return ranks


def auc_of_sums(sums: NDArray[np.float64], sizes: NDArray[np.float64], images: int) -> NDArray[np.float64]:
    """AUC from the doubled ranks' sums of the images with a concept; NaN where all or none have it.

    Args:
        sums: sums of doubled ranks, of any shape.
        sizes: how many images have the concept, in a shape that fits.
        images: how many there are in all.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found: NDArray[np.float64] = (sums - sizes * (sizes + 1)) / (2 * sizes * (images - sizes))
    return found
