"""Whether an edit is what it says: same frame, something changed, the rest preserved, the concept gone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.eval.edits.frames import NEAR, SAME, SIDE, Frame, find_frame, move_back

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.float64]
    """float64 [256, 256, 3] in [0, 1]."""

OK = "ok"
NOTHING_CHANGED = "nothing changed"
TOO_MUCH = "too much changed"
MOVED = "moved"
REST_CHANGED = "rest changed"
NOT_THERE = "was not there"
STILL_THERE = "still there"
WAS_THERE = "was there before"
NOT_ADDED = "was not added"
UNVERIFIED = "cannot be verified"
REFUSED = "refused"
FAILED = "failed"
MISSING = "missing"

VERDICTS = (
    OK, NOTHING_CHANGED, TOO_MUCH, MOVED, REST_CHANGED, NOT_THERE, STILL_THERE, WAS_THERE, NOT_ADDED, UNVERIFIED,
    REFUSED, FAILED, MISSING,
)  # fmt: skip
"""Every outcome of the edit of an image; only the edits of ``ok`` count as verified."""

LEAST_SHARE, MOST_SHARE = 0.002, 0.6
"""Shares of an image between which an edit changes it."""
LEAST_PSNR = 28.0
"""In dB, of all that an edit should leave alone."""

_VISIBLE = 12 / 255
_BLUR = 2.0
_BEST_PSNR = 40.0
"""An editor that changes nothing is not held to more than this, less the tolerance."""
_TOLERANCE = 3.0
_EXACT = 99.0
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Noise:
    """What an editor changes although it should change nothing.

    Args:
        floor: median difference of the image and its unchanged edit, blurred, in [0, 1].
        psnr: of the unchanged edit, in dB.
    """

    floor: float = 0.0
    psnr: float = _BEST_PSNR


@dataclass(frozen=True)
class Check:
    """What an edit did to the pixels.

    Args:
        share: changed share of the image, in [0, 1].
        psnr: of the rest, in dB, at most 99.
        verdict: what is wrong; empty if nothing is.
    """

    frame: Frame
    share: float
    psnr: float
    verdict: str = ""

    @property
    def is_near(self) -> bool:
        """Return whether the edit is moved so little that it can be moved back."""
        return not self.frame.is_within(SAME) and self.frame.is_within(NEAR)


def small(png: bytes) -> Image:
    """Decode an image at the side at which images are compared."""
    from PIL import Image as Images

    from line_neurons.tools.images.reader import read_image

    resized = read_image(png).resize(
        (SIDE, SIDE), Images.Resampling.BOX if _is_large(png) else Images.Resampling.BICUBIC
    )
    return np.asarray(resized, np.float64) / 255


def _is_large(png: bytes) -> bool:
    # Width of a PNG file.
    return int.from_bytes(png[16:20]) > SIDE


def noise_of(image: Image, unchanged: Image) -> Noise:
    """Measure what an editor changes where it should change nothing."""
    return Noise(
        float(np.median(_difference(image, unchanged))), _psnr(image, unchanged, np.ones((SIDE, SIDE), bool))
    )


def check_edit(image: Image, edited: Image, noise: Noise) -> Check:
    """Check the pixels of an edit.

    Args:
        noise: of the editor on this image.
    """
    frame = find_frame(image @ _LUMA, edited @ _LUMA)
    changed = _change_map(image, edited, noise)
    share, psnr = float(changed.mean()), _psnr(image, edited, ~changed)
    least = max(LEAST_PSNR, min(noise.psnr, _BEST_PSNR) - _TOLERANCE)
    faults = {
        MOVED: not frame.is_within(SAME),
        NOTHING_CHANGED: share < LEAST_SHARE,
        TOO_MUCH: share > MOST_SHARE,
        REST_CHANGED: psnr < least,
    }
    return Check(frame, share, psnr, next((fault for fault, found in faults.items() if found), ""))


def registered(png: bytes, frame: Frame) -> bytes:
    """Return an edit moved back to the frame of its original, as a PNG file of the same size."""
    from line_neurons.tools.editors.canvas import pixels_of
    from line_neurons.tools.images.png import encode_png

    moved = move_back(pixels_of(png).astype(np.float64), frame)
    return encode_png(np.clip(np.rint(moved), 0, 255).astype(np.uint8))


def judge_presence(how: str, before: float, after: float, threshold: float) -> str:
    """Return the verdict on a concept from the verifier's scores of the original and of the edit.

    Args:
        how: ``insert``, or another kind of edit, which takes the concept out.
        threshold: score from which the verifier says that the concept is there; nan if it cannot.
    """
    if math.isnan(threshold):
        return UNVERIFIED
    if how == "insert":
        return WAS_THERE if before >= threshold else OK if after >= threshold else NOT_ADDED
    return NOT_THERE if before < threshold else OK if after < threshold else STILL_THERE


def _difference(image: Image, edited: Image) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(np.abs(image - edited).max(axis=-1), _BLUR), np.float64)


def _change_map(image: Image, edited: Image, noise: Noise) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_dilation, binary_opening

    changed = _difference(image, edited) > max(_VISIBLE, 3 * noise.floor)
    return np.asarray(binary_dilation(binary_opening(changed)), bool)


def _psnr(image: Image, edited: Image, where: NDArray[np.bool_]) -> float:
    if not where.any():
        return 0.0
    error = float(np.mean((image[where] - edited[where]) ** 2))
    return min(_EXACT, -10 * math.log10(error)) if error > 0 else _EXACT
