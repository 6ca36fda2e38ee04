"""Measures of a set of images: do they look like photographs, and how much do they differ?

All are independent of the order of the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Floats = NDArray[np.float64]

BINS = 16
"""Rings of a power spectrum, of equal width in the logarithm of the frequency."""
TYPICAL = 0.99
"""Share of control images whose nearest neighbour lies within the distance that counts as typical."""
MMD_SIGMA, MMD_SCALE = 10.0, 1000.0
"""Of CMMD (Jayasumana et al. 2024): width of the kernel on vectors of length 1, and a factor to read it by."""

_LUMA = np.array([0.299, 0.587, 0.114])
_FLOOR = 1e-8


def spectrum(pixels: Pixels) -> Floats:
    """Return the logarithm of an image's power by frequency, float64 [rings].

    Args:
        pixels: uint8 [H, W, 3]; images of one size have the same rings: of ``BINS`` those that hold a frequency.
    """
    grey = pixels.astype(np.float64) @ _LUMA / 255
    window = np.hanning(grey.shape[0])[:, None] * np.hanning(grey.shape[1])[None]
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2
    down, across = np.fft.fftfreq(grey.shape[0])[:, None], np.fft.rfftfreq(grey.shape[1])[None]
    frequency = np.sqrt(down**2 + across**2)
    edges = np.geomspace(2 / max(grey.shape), 0.5, BINS + 1)
    ring = np.clip(np.searchsorted(edges, frequency, side="right") - 1, -1, BINS)
    means = [float(power[ring == at].mean()) for at in range(BINS) if (ring == at).any()]
    return np.log(np.array(means) + _FLOOR)


def spectrum_ranks(spectra: Floats, control: Floats) -> Floats:
    """Return for each image the share of control images with a spectrum at least as far from their mean.

    Distances are in standard deviations of the control images. 1: as ordinary as the most ordinary of them; about
    0: stranger than all.

    Args:
        spectra: float64 [n, rings].
        control: float64 [m, rings], at least two.
    """
    centre, deviation = control.mean(0), np.maximum(control.std(0), 1e-9)
    own, others = (np.linalg.norm((rows - centre) / deviation, axis=1) for rows in (spectra, control))
    ranks: Floats = (1 + (others[None] >= own[:, None]).sum(1)) / (1 + len(others))
    return ranks


@dataclass(frozen=True)
class ControlFeatures:
    """Features of control images in a second network.

    Args:
        rows: float64 [m, d], each of length 1.
        names: what tells the images apart, so that none is its own neighbour.
        typical: the distance within which ``TYPICAL`` of them have their nearest neighbour.
    """

    rows: Floats
    names: tuple[str, ...]
    typical: float

    @classmethod
    def of(cls, features: NDArray[np.float32], names: Sequence[str]) -> ControlFeatures:
        """Compute the typical distance of some images."""
        rows, keys = unit_length(features), tuple(names)
        return cls(rows, keys, float(np.quantile(_nearest(rows, keys, rows, keys), TYPICAL)))

    def inside(self, features: NDArray[np.float32], names: Sequence[str]) -> float:
        """Return the share of images with a control image within the typical distance."""
        return float((_nearest(unit_length(features), names, self.rows, self.names) <= self.typical).mean())


def _nearest(rows: Floats, names: Sequence[str], others: Floats, their: Sequence[str]) -> Floats:
    distances = 1 - rows @ others.T
    same = np.asarray(names)[:, None] == np.asarray(their)[None]
    found: Floats = np.where(same, np.inf, distances).min(1)
    return found


def unit_length(features: NDArray[np.float32]) -> Floats:
    """Return features as float64 rows of length 1."""
    rows = features.astype(np.float64)
    scaled: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def mean_distance(features: NDArray[np.float32]) -> float:
    """Return the mean of 1 - cosine over pairs of images; nan below two."""
    rows = unit_length(features)
    count = len(rows)
    if count < 2:
        return nan
    cosines = rows @ rows.T
    return float(1 - (cosines.sum() - np.trace(cosines)) / (count * (count - 1)))


def vendi_score(features: NDArray[np.float32]) -> float:
    """Return the effective number of different images (Friedman and Dieng 2023), from 1 to n.

    It is the exponential of the entropy of the eigenvalues of the cosines, divided by n.
    """
    rows = unit_length(features)
    values = np.linalg.eigvalsh(rows @ rows.T / len(rows))
    positive = values[values > 1e-12]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def clip_mmd(features: NDArray[np.float32], control: NDArray[np.float32]) -> float:
    """Return CMMD: the distance of two sets of embeddings of an image-text encoder; 0 for equal sets.

    Of few images it is larger than of many of the same kind: compare sets of one size only.
    """
    own, others = unit_length(features), unit_length(control)
    within = _kernel(own, own).mean() + _kernel(others, others).mean()
    return float(MMD_SCALE * (within - 2 * _kernel(own, others).mean()))


def _kernel(rows: Floats, others: Floats) -> Floats:
    squares = np.maximum(2 - 2 * rows @ others.T, 0)
    found: Floats = np.exp(-squares / (2 * MMD_SIGMA**2))
    return found
