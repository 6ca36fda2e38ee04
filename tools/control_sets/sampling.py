"""Select the images of a control set that count, and the size of chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from line_neurons.agent.errors import UsageError

PER_CLASS = 50
"""Images of each class that count where nothing else is said."""
UNLABELLED = 50_000
"""Images without a class that count where nothing else is said: as many as ImageNet's validation set has."""
CHUNK = 64
"""Images in a chunk; it is part of the fingerprints, because chunks are kept by their number."""


def limits(images: int | None) -> tuple[int, int]:
    """Return how many images of each class count, and how many of those without a class.

    Raises:
        UsageError: ``images`` is less than 1.
    """
    if images is not None and images < 1:
        raise UsageError(f"{images} images of each class are too few", "give 1 or more, or nothing")
    return images or PER_CLASS, images or UNLABELLED


def first_of_each(labels: Iterable[int], images: int | None, classes: int) -> tuple[list[int], list[int]]:
    """Return the first rows of each class with their labels; stop when all are full.

    Args:
        labels: the class of each row, -1 for none.
        images: images of each class that count; None: the defaults.
        classes: number of classes; 0 if no row has a class.
    """
    of_class, of_none = limits(images)
    met: Counter[int] = Counter()
    full = 0
    rows: list[int] = []
    kept: list[int] = []
    for row, label in enumerate(labels):
        limit = of_class if label >= 0 else of_none
        if met[label] == limit:
            continue
        met[label] += 1
        rows.append(row)
        kept.append(label)
        if met[label] == limit and (label >= 0 or not classes):
            full += 1
            if full == max(classes, 1):
                break
    return rows, kept
