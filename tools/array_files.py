"""Read NumPy files safely: a header may claim no more than the file holds."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""What reading such a file may raise: besides its own errors those of files and of zip files."""

# Deflate packs no better.
_MOST_PACKED = 1100
_HEADER = 1 << 16


def read_arrays(file: Path | BinaryIO, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Read the named arrays of an ``.npz`` file; missing ones are skipped.

    Raises:
        ValueError: a header claims another size than the file has, or an array holds objects.
        UNREADABLE: it is no such file.
    """
    import numpy as np

    found = {}
    with zipfile.ZipFile(file) as archive:
        for name, info in _members(archive, names).items():
            with archive.open(info) as stream:
                _look_at_header(stream, info.file_size)
            with archive.open(info) as stream:
                found[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return found


def shapes_of(file: Path, names: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Read shapes of arrays of an ``.npz`` file; errors as for ``read_arrays``."""
    found = {}
    with zipfile.ZipFile(file) as archive:
        for name, info in _members(archive, names).items():
            with archive.open(info) as stream:
                found[name] = _look_at_header(stream, info.file_size)[0]
    return found


def map_array(file: Path) -> NDArray[Any]:
    """Map an ``.npy`` file into memory, read-only; errors as for ``read_arrays``."""
    import numpy as np

    with file.open("rb") as stream:
        _look_at_header(stream, file.stat().st_size)
    mapped: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    return mapped


def _members(archive: zipfile.ZipFile, names: Collection[str]) -> dict[str, zipfile.ZipInfo]:
    assert archive.fp is not None
    size = archive.fp.seek(0, os.SEEK_END)
    members = {info.filename: info for info in archive.infolist()}
    found = {name: members[f"{name}.npy"] for name in names if f"{name}.npy" in members}
    for info in found.values():
        if info.compress_size > size or info.file_size > _MOST_PACKED * info.compress_size + _HEADER:
            raise ValueError(f"{info.filename} claims {info.file_size} bytes, the file has {size}")
    return found


def _look_at_header(stream: Any, size: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read shape and type of an array in a stream of ``size`` bytes.

    Raises:
        ValueError: the stream would not hold it, or it holds objects.
    """
    import numpy as np

    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, _, dtype = readers[np.lib.format.read_magic(stream)](stream)
        room = size - stream.tell()
    except Exception as error:
        # It is parsed as Python's literals are, which raises many things.
        raise ValueError(f"its header is none: {error!s:.80}") from None
    if dtype.hasobject:
        raise ValueError("it holds pickled objects (allow_pickle)")
    if math.prod(shape) * dtype.itemsize != room:
        raise ValueError(f"its header claims {list(shape)} of {dtype}, and {room} bytes follow")
    return shape, dtype
