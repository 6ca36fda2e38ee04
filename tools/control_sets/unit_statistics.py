"""How often and how strongly the units of a layer respond on the control set."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from line_neurons.agent.activations import unit_blocks
from line_neurons.agent.ports import Control

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class UnitStatistics:
    """Statistics of the units of a layer, each array by unit.

    Args:
        density: share of the control images on which the unit is above 0.
        alive: the unit is not the same on all control images.
        strongest: index of the class with the highest mean activation; -1 without classes, and of dead units.
    """

    density: NDArray[np.float64]
    mean: NDArray[np.float64]
    maximum: NDArray[np.float32]
    alive: NDArray[np.bool_]
    strongest: NDArray[np.int64]
    classes: tuple[str, ...]
    images: int

    def class_name(self, unit: int) -> str:
        """Return the name of the unit's strongest class; empty if it has none."""
        index = int(self.strongest[unit])
        return self.classes[index] if index >= 0 else ""


def of_units(statistics: UnitStatistics, units: Collection[int]) -> UnitStatistics:
    """Return statistics in which all other units respond to nothing: they are dead, of no density, at the end."""
    import numpy as np

    among = np.isin(np.arange(len(statistics.alive)), list(units))
    return replace(
        statistics,
        density=np.where(among, statistics.density, np.nan),
        maximum=np.where(among, statistics.maximum, -np.inf).astype(np.float32),
        alive=statistics.alive & among,
    )


def unit_deviations(control: Control) -> NDArray[np.float64]:
    """Compute the standard deviation of all units, [n_units], some units at a time."""
    import numpy as np

    return np.concatenate([columns.std(0, dtype=np.float64) for columns in unit_blocks(control.activations)])


def unit_statistics(control: Control) -> UnitStatistics:
    """Compute the statistics of all units; memory grows with what is not 0, not with the number of units."""
    import numpy as np

    parts = []
    known = control.labels >= 0
    counts = np.bincount(control.labels[known], minlength=len(control.classes)).astype(np.float64)
    order = np.argsort(control.labels[known], kind="stable")
    starts = (
        np.concatenate([[0], np.cumsum(counts[:-1])]).astype(np.int64) if len(counts) else np.empty(0, np.int64)
    )
    for columns in unit_blocks(control.activations):
        alive = columns.max(0) != columns.min(0)
        if control.classes and len(order):
            sums = np.add.reduceat(columns[known][order], starts, axis=0, dtype=np.float64)
            strongest = np.where(alive, (sums / counts[:, None]).argmax(0), -1)
        else:
            strongest = np.full(columns.shape[1], -1)
        mean = columns.mean(0, dtype=np.float64)
        parts.append(((columns > 0).mean(0), mean, columns.max(0), alive, strongest))
    density, mean, maximum, alive, strongest = (np.concatenate(found) for found in zip(*parts, strict=True))
    return UnitStatistics(density, mean, maximum, alive, strongest, control.classes, len(control.labels))
