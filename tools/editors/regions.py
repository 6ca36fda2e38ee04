"""Regions of an image as masks: grown, cleaned, and moved to where they overlap least."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

MAX_OVERLAP = 0.1
"""Largest share of a region that its copy elsewhere may cover."""
MAX_SHARE = 0.45
"""Largest share of the image for which there is room for the same shape elsewhere."""

_TURNS, _SHIFTS = 4, 16


def dilated(mask: Mask, pixels: int) -> Mask:
    """Grow a mask by some pixels in each direction."""
    return _filtered(mask, pixels, "MaxFilter")


def opened(mask: Mask, pixels: int) -> Mask:
    """Remove specks of a mask that are narrower than twice ``pixels``."""
    return dilated(_filtered(mask, pixels, "MinFilter"), pixels)


def _filtered(mask: Mask, pixels: int, name: str) -> Mask:
    from PIL import Image, ImageFilter

    if pixels < 1:
        return mask
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.filter(getattr(ImageFilter, name)(2 * pixels + 1))) > 0


def moved_elsewhere(mask: Mask, seed: int) -> tuple[Mask, float] | None:
    """Find the same shape elsewhere: of 16 shifts of each quarter turn, the one that overlaps the mask least.

    Args:
        mask: bool [s, s].

    Returns:
        the shape without its overlap, and the overlap as a share of the mask; None where the mask covers more than
        ``MAX_SHARE`` of the image, or nothing, or every copy overlaps it by more than ``MAX_OVERLAP``.
    """
    if not mask.any() or mask.mean() > MAX_SHARE:
        return None
    rng = np.random.default_rng(seed)
    best: tuple[float, Mask] | None = None
    for turn in range(_TURNS):
        turned = np.rot90(mask, turn)
        for shift in rng.integers(0, mask.shape[0], (_SHIFTS, 2)):
            copy = np.roll(turned, tuple(shift), (0, 1))
            overlap = float((copy & mask).sum() / mask.sum())
            if best is None or overlap < best[0]:
                best = overlap, copy
    assert best is not None
    return (best[1] & ~mask, best[0]) if best[0] <= MAX_OVERLAP else None


def has_room(mask: Mask, seed: int) -> bool:
    """Return whether there is room for the same shape elsewhere; see ``moved_elsewhere``."""
    return moved_elsewhere(mask, seed) is not None
