"""Embeddings of texts in a file, with a checksum: rows that stand for other texts would give wrong images."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.tools.array_files import UNREADABLE, read_arrays
from line_neurons.tools.cache.checksums import checksum
from line_neurons.tools.store.atomic_files import atomic_write

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


logger = logging.getLogger(__name__)


def embed_once(
    encode: Callable[[list[str]], NDArray[np.float32]], encoder: str, texts: Sequence[str], folder: Path | None
) -> NDArray[np.float32]:
    """Embed texts, or read their embeddings from an earlier call.

    Args:
        encode: embeds texts; float32 [texts, d].
        folder: where embeddings are kept; None to keep none.
    """
    file = _file_of(encoder, texts, folder)
    if file is not None and file.is_file():
        matrix = read_embeddings(file)
        if matrix is not None and len(matrix) == len(texts):
            return matrix
        logger.warning("the embeddings in %s are damaged; they are computed again", file)
    matrix = encode(list(texts))
    if file is not None:
        try:
            write_embeddings(file, matrix)
            # An earlier version kept them without a checksum.
            file.with_suffix(".npy").unlink(missing_ok=True)
        except OSError as error:
            # They are computed anew in each process; what else needs the disk says so itself.
            logger.warning("embeddings cannot be saved in %s: %s", file.parent, error.strerror)
    return matrix


def _file_of(encoder: str, texts: Sequence[str], folder: Path | None) -> Path | None:
    if folder is None:
        return None
    identity = "\0".join((encoder, *texts))
    return folder / f"names-{hashlib.sha256(identity.encode()).hexdigest()[:32]}.npz"


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
