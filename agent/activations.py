"""Activations of many units on many images, of which few are not 0."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Activations = NDArray[np.float32]

SPARSE_UNITS = 4096
"""Layers with fewer units are always kept dense."""
SPARSE_SHARE = 4
"""What is not 0 is at most this part of what is kept sparse: one in four."""
_UNITS_AT_ONCE = 512
_MOST_VALUES = 1 << 25


@dataclass(frozen=True, eq=False)
class SparseActivations:
    """Activations [n_images, n_units] by unit: the images on which it is not 0, and its values there.

    Args:
        values: float32 [nnz], unit by unit, of each unit by image.
        images: uint32 [nnz], the image of each value.
        starts: int64 [n_units + 1], where the values of each unit start.
    """

    values: NDArray[np.float32]
    images: NDArray[np.uint32]
    starts: NDArray[np.int64]
    rows: int

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of images and units."""
        return self.rows, len(self.starts) - 1

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.values.nbytes + self.images.nbytes + self.starts.nbytes

    def column(self, unit: int) -> Activations:
        """Return a unit, float32 [n_images]."""
        import numpy as np

        found = np.zeros(self.rows, np.float32)
        start, end = self.starts[unit], self.starts[unit + 1]
        found[self.images[start:end]] = self.values[start:end]
        return found

    def columns(self, units: Sequence[int]) -> Activations:
        """Return some units, float32 [n_images, len(units)]."""
        import numpy as np

        found = np.empty((self.rows, len(units)), np.float32)
        for place, unit in enumerate(units):
            found[:, place] = self.column(unit)
        return found

    def transposed(self) -> SparseActivations:
        """Return them by image in place of by unit: activations [n_units, n_images]."""
        import numpy as np

        units = np.repeat(np.arange(self.shape[1], dtype=np.uint32), np.diff(self.starts))
        return _by_column(self.values, units, self.images, self.shape[::-1])

    @classmethod
    def joined(cls, parts: Iterable[Activations | SparseActivations], units: int) -> SparseActivations:
        """Join parts [n, units], one after the other; memory grows with what is not 0."""
        import numpy as np

        images, columns, values = [np.empty(0, np.uint32)], [np.empty(0, np.uint32)], [np.empty(0, np.float32)]
        rows = 0
        for part in parts:
            if isinstance(part, SparseActivations):
                images.append(part.images.astype(np.uint32) + np.uint32(rows))
                columns.append(np.repeat(np.arange(units, dtype=np.uint32), np.diff(part.starts)))
                values.append(part.values)
            else:
                at, unit = np.nonzero(part != 0)
                images.append(at.astype(np.uint32) + np.uint32(rows))
                columns.append(unit.astype(np.uint32))
                values.append(part[at, unit])
            rows += part.shape[0]
        return _by_column(np.concatenate(values), np.concatenate(images), np.concatenate(columns), (rows, units))

    def dense(self) -> Activations:
        """Return all of them, float32 [n_images, n_units]."""
        return self.columns(range(self.shape[1]))


def _by_column(
    values: Activations, rows: NDArray[np.uint32], columns: NDArray[np.uint32], shape: tuple[int, int]
) -> SparseActivations:
    """Order values by their column; those of a column stay in the order that they have."""
    import numpy as np

    order = np.argsort(columns, kind="stable")
    starts = np.zeros(shape[1] + 1, np.int64)
    np.cumsum(np.bincount(columns, minlength=shape[1]), out=starts[1:])
    return SparseActivations(values[order].astype(np.float32), rows[order].astype(np.uint32), starts, shape[0])


def compact(activations: Activations | SparseActivations) -> Activations | SparseActivations:
    """Return activations in the smaller form: sparse where a layer is wide and few values are not 0."""
    import numpy as np

    rows, units = activations.shape
    if isinstance(activations, SparseActivations):
        return activations if SPARSE_SHARE * len(activations.values) < rows * units else activations.dense()
    if units < SPARSE_UNITS or SPARSE_SHARE * int(np.count_nonzero(activations != 0)) >= rows * units:
        return activations
    return SparseActivations.joined([activations], units)


def columns_of(activations: Activations | SparseActivations, units: Sequence[int]) -> Activations:
    """Return some units of dense or sparse activations, float32 [n_images, len(units)]."""
    if isinstance(activations, SparseActivations):
        return activations.columns(units)
    found: Activations = activations[:, list(units)]
    return found


def joined_activations(parts: Sequence[Activations | SparseActivations]) -> Activations | SparseActivations:
    """Join parts [n, n_units], at least one, one after the other; sparse ones never become a dense matrix."""
    import numpy as np

    units = parts[0].shape[1]
    if any(isinstance(part, SparseActivations) for part in parts):
        return SparseActivations.joined(parts, units)
    joined = np.empty((sum(part.shape[0] for part in parts), units), np.float32)
    at = 0
    for part in parts:
        end = at + part.shape[0]
        joined[at:end] = part
        at = end
    return joined


def unit_blocks(activations: Activations | SparseActivations) -> Iterator[Activations]:
    """Yield the activations of all units, float32 [n_images, n] of some units at a time."""
    images, units = activations.shape
    at_once = max(1, min(_UNITS_AT_ONCE, _MOST_VALUES // max(1, images)))
    for first in range(0, units, at_once):
        end = min(first + at_once, units)
        if isinstance(activations, SparseActivations):
            yield activations.columns(range(first, end))
        else:
            yield activations[:, first:end]
