"""Checksums of cached values that decide results: values that have changed are never used.

They detect damage, not forgery: whoever can write a store can write its checksums too.
"""

from __future__ import annotations

import hashlib

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


def vector_error(
    image: str, target: str, layer: str, vector: object, kept: object, width: int | None = None
) -> str:
    """Return what is wrong with kept activations, in words that follow "the activations"; empty if nothing is.

    ``kept`` is their checksum, None where an earlier version kept none; ``width`` is the number of units, None for
    any.
    """
    import numpy as np

    if not isinstance(vector, bytes) or len(vector) % 4 or len(vector) != 4 * (width or len(vector) // 4):
        return "are damaged: not all numbers" if width is None else f"are damaged: not {width} numbers"
    if not np.isfinite(np.frombuffer(vector, "<f4")).all():
        return "are damaged: not all finite"
    if kept is not None and kept != checksum(image, target, layer, vector):
        return "are damaged: their content has changed"
    return ""
