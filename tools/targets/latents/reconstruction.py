"""How well a sparse autoencoder reconstructs tokens, and what of its error a trained one would not make."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from line_neurons.tools.targets.latents.autoencoder import InputScaling, SparseAutoencoder

if TYPE_CHECKING:
    from torch import Tensor

_MOST_VALUES = 1 << 24
_INPUT = "--sae-input"
_SMALL = 0.1
"""Unexplained variance of which it does not matter what it is made of: shares are of no less than this."""


class Autoencoder(Protocol):
    """What encodes tokens and may reconstruct them; see ``SparseAutoencoder``."""

    @property
    def width(self) -> int:
        """Values of a token, d."""

    @property
    def units(self) -> int:
        """Number of latents, K."""

    @property
    def has_decoder(self) -> bool:
        """Whether it can reconstruct tokens."""

    def encode(self, values: Tensor) -> Tensor:
        """Compute the latents of tokens, float32 [n, d] to [n, K]."""

    def reconstructed(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return latents, reconstruction and what was reconstructed, of tokens [n, d]."""

    def on(self, device: object) -> Autoencoder:
        """Return the same on a device."""


@dataclass(frozen=True)
class Reconstruction:
    """How well an autoencoder reconstructs tokens.

    Args:
        explained: explained variance over the tokens, at most 1; None without a decoder.
        active: mean number of latents of a token that are not 0.
        seen: share of the latents that were not 0 on any token.
        shifted: explained variance if the best constant were added to every reconstruction.
        calibrated: explained variance if each of the d values were rescaled and shifted as fits best.
    """

    explained: float | None
    active: float
    seen: float
    shifted: float | None = None
    calibrated: float | None = None

    @property
    def systematic(self) -> float:
        """Share of the unexplained variance that rescaling and shifting each value would explain, 0 to 1.

        Where the squared error has no slope, that is after training on such tokens, it is 0: the error has mean 0
        and no correlation with the reconstruction.
        """
        return _share(self.explained, self.calibrated)

    @property
    def constant(self) -> float:
        """Share of the unexplained variance that a constant would explain, 0 to 1."""
        return _share(self.explained, self.shifted)


def _share(explained: float | None, better: float | None) -> float:
    if explained is None or better is None:
        return 0.0
    return max(0.0, better - explained) / max(1 - explained, _SMALL)


def reconstruction(tokens: Tensor, code: Autoencoder) -> Reconstruction:
    """Measure how well an autoencoder reconstructs tokens, float32 [n, d]; n is at least 1."""
    import torch

    code = code.on(tokens.device)
    seen = torch.zeros(code.units, dtype=torch.bool, device=tokens.device)
    active = 0.0
    # Of the tokens, of the reconstructions and of their products, each value by itself.
    sums = torch.zeros(5, code.width, dtype=torch.float64, device=tokens.device)
    for part in torch.split(tokens, max(1, _MOST_VALUES // code.units)):
        if not code.has_decoder:
            latents, back, due = code.encode(part), part, part
        else:
            latents, back, due = code.reconstructed(part)
        active += float((latents != 0).sum())
        seen |= (latents != 0).any(0)
        x, y = due.double(), back.double()
        sums += torch.stack([part.sum(0) for part in (x, y, x * x, y * y, x * y)])
    count = len(tokens)
    mean_x, mean_y, xx, yy, xy = sums / count
    measured = float(seen.float().mean())
    if not code.has_decoder:
        return Reconstruction(None, active / count, measured)
    variance, spread, shared = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    whole = float(variance.sum())
    if whole <= 0:
        return Reconstruction(float("-inf"), active / count, measured)
    error = xx + yy - 2 * xy
    centred = error - (mean_x - mean_y) ** 2
    best = variance - torch.where(spread > 0, shared**2 / spread.clamp(min=1e-30), 0.0)
    explained, shifted, calibrated = (1 - float(part.sum()) / whole for part in (error, centred, best))
    return Reconstruction(explained, active / count, measured, shifted, calibrated)


def input_variants(tokens: Tensor, code: SparseAutoencoder) -> dict[str, SparseAutoencoder]:
    """Return the same autoencoder with other treatments of its input, by the remedy that gives each.

    Mean and scale are those of the tokens: near those of its training, which only its author knows.
    """
    found = code.variants()
    if code.scaling is not None or code.normalisation != "none":
        return found
    mean = tokens.mean(0)
    centred = tokens - mean
    norm = float(tokens.norm(dim=1).mean()) / code.width**0.5
    spread = float(centred.pow(2).mean().sqrt())
    zero = tokens.new_zeros(code.width)
    scales = {
        f"mean of its training ({_INPUT})": (mean, 1.0),
        f"scale of its training ({_INPUT})": (zero, norm),
        f"mean and scale of its training ({_INPUT})": (mean, spread),
    }
    for remedy, (shift, scale) in scales.items():
        if scale > 0:
            found[f"the {remedy}"] = replace(code, scaling=InputScaling(shift, tokens.new_tensor(scale)))
    found["layer_norm of its input (normalize_activations in its configuration)"] = replace(
        code, normalisation="layer_norm"
    )
    found["constant_norm_rescale of its input (normalize_activations in its configuration)"] = replace(
        code, normalisation="constant_norm_rescale"
    )
    return found
