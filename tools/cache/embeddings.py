"""Embeddings of texts in a file, with a checksum: rows that stand for other texts would give wrong images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.tools.array_files import UNREADABLE, read_arrays
from line_neurons.tools.cache.checksums import checksum
from line_neurons.tools.store.atomic_files import atomic_write

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def read_embeddings(path: Path) -> NDArray[np.float32] | None:
    """Read embeddings; None if the file is corrupt, or a different one under this name."""
    import numpy as np

    try:
        arrays = read_arrays(path, ("embeddings", "checksum"))
        found, kept = arrays["embeddings"], arrays["checksum"].tobytes()
    except (*UNREADABLE, KeyError):
        return None
    sound = found.dtype == np.float32 and found.ndim == 2
    return found if sound and kept == _checksum(path, found) else None


def write_embeddings(path: Path, embeddings: NDArray[np.float32]) -> None:
    """Write embeddings: float32 [texts, d].

    Raises:
        OSError: the file cannot be written.
    """
    import numpy as np

    kept = np.frombuffer(_checksum(path, embeddings), np.uint8)
    with atomic_write(path) as file:
        np.savez(file, embeddings=embeddings, checksum=kept)


def _checksum(path: Path, embeddings: NDArray[np.float32]) -> bytes:
    return checksum(path.stem, str(embeddings.shape), embeddings.astype("<f4").tobytes())
