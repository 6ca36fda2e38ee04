"""Checksums of cached values that decide results: values that have changed are never used.

They detect damage, not forgery: whoever can write a store can write its checksums too.
"""

from __future__ import annotations

import hashlib

from line_neurons.tools.cache.vectors import is_whole, sparse_error, vector_values, vector_width

_BYTES = 16


def checksum(*parts: str | bytes) -> bytes:
    """Compute a checksum of some texts and bytes, in this order and each by itself."""
    digest = hashlib.blake2b(digest_size=_BYTES)
    for part in parts:
        content = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.digest()


def image_checksum(generator: str, prompt: str, seed: int, image: str) -> bytes:
    """Compute the checksum of the row that says which image a generator made from a prompt with a seed."""
    return checksum(generator, prompt, str(seed), image)


def vector_checksum(image: str, target: str, layer: str, vector: bytes, units: int | None) -> bytes:
    """Compute the checksum of kept activations; ``units`` is that of a sparse vector."""
    return checksum(image, target, layer, vector, *([] if units is None else [str(units)]))


def vector_error(
    image: str, target: str, layer: str, vector: object, kept: object, width: int | None, units: int | None
) -> str:
    """Return what is wrong with kept activations, in words that follow "the activations"; empty if nothing is.

    ``kept`` is their checksum, None where an earlier version kept none; ``width`` is the number of units, None for
    any; ``units`` that of a sparse vector, see ``vectors.encode_vector``.
    """
    import numpy as np

    if (
        not isinstance(vector, bytes)
        or not is_whole(vector, units)
        or vector_width(vector, units) != (width or vector_width(vector, units))
    ):
        return "are damaged: not all numbers" if width is None else f"are damaged: not {width} numbers"
    if not np.isfinite(vector_values(vector, units)).all():
        return "are damaged: not all finite"
    if kept is not None:
        changed = kept != vector_checksum(image, target, layer, vector, units)
        return "are damaged: their content has changed" if changed else ""
    return "" if units is None else sparse_error(vector, units)
