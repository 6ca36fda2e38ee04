"""Whether two images have the same frame: shift by phase correlation, scale from the shifts of tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float64]

SIDE = 256
"""Images are compared at this side in pixels."""
SAME = 0.005
"""Shift, as a share of the side, and deviation of the scale from 1 up to which frames are the same."""
NEAR = 0.03
"""Shift and deviation up to which an image is shifted back."""

_TILES = 4
_LEAST_VARIANCE = 1e-4
_BETTER = 0.9
"""A shift counts if the images then differ by less than this share of what they differ by without it."""


@dataclass(frozen=True)
class Frame:
    """How an image is moved against another.

    Args:
        down: shift downwards, as a share of the side.
        right: shift to the right, as a share of the side.
        scale: magnification about the centre.
    """

    down: float = 0.0
    right: float = 0.0
    scale: float = 1.0

    @property
    def shift(self) -> float:
        """Length of the shift, as a share of the side."""
        return float(np.hypot(self.down, self.right))

    def is_within(self, limit: float) -> bool:
        """Return whether shift and deviation of the scale are at most ``limit``."""
        return self.shift <= limit and abs(self.scale - 1) <= limit


def find_frame(image: Plane, edited: Plane) -> Frame:
    """Find how an edited image is moved against the original.

    Args:
        image: luminance, float64 [s, s] in [0, 1].
        edited: the same of the edited image.

    Returns:
        the frame; no movement where none makes the images differ clearly less.
    """
    side = len(image)
    down, right = _shift(image, edited)
    candidates = [Frame(down / side, right / side)]
    rows, targets = [], []
    tile = side // _TILES
    for top in range(0, side - tile + 1, tile):
        for left in range(0, side - tile + 1, tile):
            part = np.s_[top : top + tile, left : left + tile]
            if image[part].var() > _LEAST_VARIANCE and edited[part].var() > _LEAST_VARIANCE:
                y, x = _shift(image[part], edited[part])
                middle = (side - 1) / 2
                rows += [[top + tile / 2 - middle, 1, 0], [left + tile / 2 - middle, 0, 1]]
                targets += [y, x]
    if len(rows) >= 2 * _TILES:
        # Tiles with the edit in them give any shift: those far from the others are left out once.
        solved = _fit(np.array(rows), np.array(targets))
        candidates.append(Frame(solved[1] / side, solved[2] / side, 1 + solved[0]))
    still = _difference(image, edited)
    best = min(candidates, key=lambda frame: _difference(image, move_back(edited, frame)))
    return best if _difference(image, move_back(edited, best)) < _BETTER * still else Frame()


def move_back(image: NDArray[np.float64], frame: Frame) -> NDArray[np.float64]:
    """Resample an image [s, s] or [s, s, channels] so that its frame is that of the original; bilinear."""
    from scipy.ndimage import affine_transform

    if image.ndim == 3:
        return np.stack([move_back(image[..., c], frame) for c in range(image.shape[2])], axis=-1)
    middle = (np.array(image.shape) - 1) / 2
    shift = np.array([frame.down, frame.right]) * len(image)
    moved = affine_transform(
        image, np.full(2, frame.scale), middle + shift - frame.scale * middle, order=1, mode="nearest"
    )
    return np.asarray(moved, np.float64)


def _fit(rows: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    solved = np.asarray(np.linalg.lstsq(rows, targets, rcond=None)[0], np.float64)
    error = np.abs(rows @ solved - targets)
    kept = error <= 2 * max(float(np.median(error)), 0.25)
    return np.asarray(np.linalg.lstsq(rows[kept], targets[kept])[0]) if kept.sum() >= 4 else solved


def _difference(image: Plane, edited: Plane) -> float:
    """Compute the mean difference of the half of the pixels that differ least: the edit is not among them."""
    border = len(image) // 16
    inner = np.s_[border:-border, border:-border]
    differences = np.abs(image[inner] - edited[inner]).ravel()
    half = len(differences) // 2
    return float(np.partition(differences, half)[:half].mean())


def _shift(image: Plane, edited: Plane) -> tuple[float, float]:
    """Compute the shift of ``edited`` in pixels, down and right, by phase correlation with a Hann window."""
    window = np.hanning(len(image))[:, None] * np.hanning(len(image))[None, :]
    spectra = [np.fft.fft2((plane - plane.mean()) * window) for plane in (image, edited)]
    cross = spectra[1] * np.conj(spectra[0])
    correlation = np.real(np.fft.ifft2(cross / np.maximum(np.abs(cross), 1e-12)))
    at = np.unravel_index(int(correlation.argmax()), correlation.shape)
    found = []
    for axis, place in enumerate(at):
        size = correlation.shape[axis]
        before, peak, after = (
            correlation[tuple((p + d) % size if a == axis else p for a, p in enumerate(at))] for d in (-1, 0, 1)
        )
        curve = before - 2 * peak + after
        offset = 0.5 * (before - after) / curve if curve else 0.0
        found.append(float((place + size / 2) % size - size / 2 + offset))
    return found[0], found[1]
