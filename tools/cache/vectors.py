"""Kept activations of an image: all numbers, or those that are not 0 where that is shorter."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from line_neurons.agent.activations import SPARSE_SHARE, SPARSE_UNITS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations


_UNIT = struct.Struct("<I")
_ZERO = struct.pack("<f", 0)


def encode_vector(row: Activations) -> tuple[bytes, int | None]:
    """Encode the activations [n_units] of an image.

    Returns:
        little-endian float32 and None; or, where the layer is wide and few are not 0, the units that are not 0 as
        uint32, then their values as float32, and the number of all units.
    """
    import numpy as np

    units = len(row)
    if units >= SPARSE_UNITS:
        active = np.flatnonzero(row)
        if SPARSE_SHARE * len(active) < units:
            return active.astype("<u4").tobytes() + row[active].astype("<f4").tobytes(), units
    return row.astype("<f4").tobytes(), None


def decode_vector(vector: bytes, units: int | None) -> NDArray[np.float32]:
    """Decode what ``encode_vector`` gave, float32 [n_units]."""
    import numpy as np

    if units is None:
        return np.frombuffer(vector, "<f4").astype(np.float32, copy=False)
    found = np.zeros(units, np.float32)
    active, values = _parts(vector)
    found[active] = values
    return found


@dataclass(frozen=True)
class StoredVector:
    """Kept activations of an image, as ``encode_vector`` gave them."""

    vector: bytes
    units: int | None

    def row(self) -> NDArray[np.float32]:
        """Return the activations of all units, float32 [n_units]."""
        return decode_vector(self.vector, self.units)

    def value(self, unit: int) -> float:
        """Return the activation of a unit.

        Raises:
            struct.error: there is no such unit.
        """
        found: float = struct.unpack("<f", value_bytes(self.vector, self.units, unit))[0]
        return found


def vector_width(vector: bytes, units: int | None) -> int:
    """Return the number of units."""
    return len(vector) // 4 if units is None else units


def value_bytes(vector: bytes, units: int | None, unit: int) -> bytes:
    """Return the four bytes of a unit's activation; fewer where there is no such unit."""
    if units is None:
        return vector[4 * unit : 4 * unit + 4]
    if unit >= units:
        return b""
    # Every step of every unit does this: NumPy's calls take longer than a search among some thousand units.
    half = len(vector) // 2
    low, high = 0, half // 4
    while low < high:
        middle = (low + high) // 2
        found: int = _UNIT.unpack_from(vector, 4 * middle)[0]
        if found == unit:
            return vector[half + 4 * middle : half + 4 * middle + 4]
        low, high = (middle + 1, high) if found < unit else (low, middle)
    return _ZERO


def sparse_error(vector: bytes, units: int) -> str:
    """Return what is wrong with a sparse vector, in words that follow "the activations"; empty if nothing is."""
    if len(vector) % 8:
        return "are damaged: not all numbers"
    import numpy as np

    active = np.frombuffer(vector, "<u4", len(vector) // 8)
    if len(active) and (active[-1] >= units or (active[1:] <= active[:-1]).any()):
        return f"are damaged: not of {units} units"
    return ""


def _parts(vector: bytes) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    import numpy as np

    count = len(vector) // 8
    return np.frombuffer(vector, "<u4", count), np.frombuffer(vector, "<f4", count, 4 * count)
