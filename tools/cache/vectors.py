"""Kept activations of an image: all numbers, or those that are not 0 where that is shorter."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from line_neurons.agent.activations import SPARSE_SHARE, SPARSE_UNITS
from line_neurons.agent.errors import DamagedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations


_BLOCK = 256
_MOST_UNITS = SPARSE_SHARE << 16
"""Of wider layers more values may be kept than two bytes count."""
_STARTS = struct.Struct("<HH")
_ZERO = struct.pack("<f", 0)


def encode_vector(row: Activations) -> tuple[bytes, int | None]:
    """Encode the activations [n_units] of an image, little-endian.

    Returns:
        float32 [n_units] and None; or, where the layer is wide and few are not 0, these few with their units, and
        the number of all units. That is the shorter of two forms:

        - units as uint32 [n], then values as float32 [n]; earlier versions knew no other;
        - in blocks: values as float32 [n]; the low byte of each unit; where the values of each 256 units start,
          and the last end, as uint16; one or two zeros that make the length odd, by which this form is known.
    """
    import numpy as np

    units = len(row)
    if units >= SPARSE_UNITS:
        # Of booleans: NumPy finds them ten times as fast as numbers that are not 0.
        active = np.flatnonzero(row != 0)
        if SPARSE_SHARE * len(active) < units:
            values = row[active].astype("<f4").tobytes()
            if units <= _MOST_UNITS and 3 * len(active) > _blocks_size(units):
                starts = active.searchsorted(np.arange(0, units + _BLOCK, _BLOCK))
                low = active.astype("u1").tobytes()
                return values + low + starts.astype("<u2").tobytes() + bytes(1 + len(active) % 2), units
            return active.astype("<u4").tobytes() + values, units
    return row.astype("<f4").tobytes(), None


def decode_vector(vector: bytes, units: int | None) -> NDArray[np.float32]:
    """Decode what ``encode_vector`` gave, float32 [n_units].

    Raises:
        DamagedError: it is none, though of its length, as in a store that someone made up.
    """
    import numpy as np

    if units is None:
        return vector_values(vector, units).astype(np.float32, copy=False)
    if fault := sparse_error(vector, units):
        raise DamagedError(
            f"the activations of an image {fault}", "`line doctor --store STORE --fix` removes them"
        )
    found = np.zeros(units, np.float32)
    found[_active(vector, units)] = vector_values(vector, units)
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


def vector_values(vector: bytes, units: int | None) -> NDArray[np.float32]:
    """Return the values that are kept, float32 [n]: of all units, or those that are not 0."""
    import numpy as np

    if units is None:
        return np.frombuffer(vector, "<f4")
    count = _count(vector, units)
    return np.frombuffer(vector, "<f4", count, 0 if len(vector) % 2 else 4 * count)


def value_bytes(vector: bytes, units: int | None, unit: int) -> bytes:
    """Return the four bytes of a unit's activation; fewer where there is no such unit."""
    if units is None:
        return vector[4 * unit : 4 * unit + 4]
    if unit >= units:
        return b""
    count = _count(vector, units)
    if not len(vector) % 2:
        active = _active(vector, units)
        # Of the type of the units: any other would convert them all.
        place = int(active.searchsorted(active.dtype.type(unit)))
        if place == count or active[place] != unit:
            return _ZERO
        return vector[4 * (count + place) : 4 * (count + place) + 4]
    # Every step of every unit does this: NumPy's calls would take ten times as long.
    block, low = divmod(unit, _BLOCK)
    start, end = _STARTS.unpack_from(vector, 5 * count + 2 * block)
    place = vector.find(low, 4 * count + start, 4 * count + end) - 4 * count
    return _ZERO if place < 0 else vector[4 * place : 4 * place + 4]


def is_whole(vector: bytes, units: int | None) -> bool:
    """Return whether the length is that of some numbers, and of their units where it is sparse."""
    if units is None:
        return not len(vector) % 4
    if not isinstance(units, int):
        return False
    if not len(vector) % 2:
        return not len(vector) % 8
    count = _count(vector, units)
    return count >= 0 and len(vector) == 5 * count + _blocks_size(units) + 1 + count % 2


def sparse_error(vector: bytes, units: int) -> str:
    """Return what is wrong with the units of a sparse vector, in words that follow "the activations"."""
    fault = f"are damaged: not of {units} units"
    if len(vector) % 2:
        starts = _starts(vector, units)
        if starts[0] or starts[-1] != _count(vector, units) or (starts[1:] < starts[:-1]).any():
            return fault
    active = _active(vector, units)
    return fault if len(active) and (active[-1] >= units or (active[1:] <= active[:-1]).any()) else ""


def _blocks_size(units: int) -> int:
    """Return how many bytes say where the values of each block start, and the last end."""
    return 2 * (-(-units // _BLOCK) + 1)


def _count(vector: bytes, units: int) -> int:
    """Return how many values a sparse vector has."""
    return (len(vector) - _blocks_size(units)) // 5 if len(vector) % 2 else len(vector) // 8


def _starts(vector: bytes, units: int) -> NDArray[np.uint16]:
    import numpy as np

    return np.frombuffer(vector, "<u2", _blocks_size(units) // 2, 5 * _count(vector, units))


def _active(vector: bytes, units: int) -> NDArray[np.uint32]:
    """Return the units of a sparse vector that are not 0, in order."""
    import numpy as np

    count = _count(vector, units)
    if not len(vector) % 2:
        return np.frombuffer(vector, "<u4", count)
    starts = _starts(vector, units)
    low = np.frombuffer(vector, "u1", count, 4 * count)
    first = np.arange(len(starts) - 1, dtype=np.uint32) * np.uint32(_BLOCK)
    active: NDArray[np.uint32] = np.repeat(first, np.diff(starts)) + low
    return active
