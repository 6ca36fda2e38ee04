"""Sparse autoencoders: how the values of a token become latents, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from line_neurons.agent.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

ActivationName = Literal["relu", "topk", "topk-relu", "threshold", "threshold-from", "tanh-relu"]
Normalisation = Literal["none", "layer_norm", "constant_norm_rescale"]
TokenChoice = Literal["all", "patches", "cls"]
TokenPool = Literal["max", "mean"]
LAYER_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class LatentActivation:
    """What makes the latents sparse.

    Args:
        name: ``relu``; ``topk``: the ``k`` largest as they are; ``topk-relu``: their positive part; ``threshold``:
            what is positive and above ``threshold``; ``threshold-from``: or equal to it; ``tanh-relu``.
        k: latents of a token that stay.
        threshold: one number, or one for each latent [K].
    """

    name: ActivationName
    k: int = 0
    threshold: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """Apply it to [..., K]."""
        return _ACTIVATIONS[self.name](values, self)


def _topk(values: Tensor, activation: LatentActivation) -> Tensor:
    import torch

    largest = values.topk(activation.k, -1, sorted=False)
    return torch.zeros_like(values).scatter_(-1, largest.indices, largest.values)


def _above(values: Tensor, activation: LatentActivation) -> Tensor:
    assert activation.threshold is not None
    positive = values.relu()
    return positive * (values > activation.threshold)


def _from(values: Tensor, activation: LatentActivation) -> Tensor:
    assert activation.threshold is not None
    positive = values.relu()
    return positive * (positive >= activation.threshold)


_ACTIVATIONS: Mapping[ActivationName, Callable[[Tensor, LatentActivation], Tensor]] = {
    "relu": lambda values, _: values.relu(),
    "topk": _topk,
    "topk-relu": lambda values, activation: _topk(values, activation).relu(),
    "threshold": _above,
    "threshold-from": _from,
    "tanh-relu": lambda values, _: values.relu().tanh(),
}


@dataclass(frozen=True)
class InputScaling:
    """What a token's values are before the autoencoder: (limited to +-``clamp`` - ``mean``) / ``scale``."""

    mean: Tensor
    scale: Tensor
    clamp: float | None = None


@dataclass(frozen=True)
class Gate:
    """The parameters of a gated encoder, each [K]."""

    bias: Tensor
    magnitude: Tensor
    magnitude_bias: Tensor


@dataclass(frozen=True)
class SparseAutoencoder:
    """A sparse autoencoder of the values of a token.

    Args:
        library: what wrote it.
        encoder: float32 [d, K].
        bias: [K], added to the encoder's output.
        activation: what makes the latents sparse.
        before: [d], subtracted from a token's values first.
        decoder: [K, d]; None where the file has none.
        after: [d], added to the decoder's output.
        scaling: of all tokens, before anything else.
        gate: of a gated encoder.
        layer_norm: weight and bias of a normalisation of the encoder's output.
        tokens: the tokens that it was trained on, where its configuration says so.
        layer: the layer that its configuration names, in its library's words.
        model: the model that its configuration names.
        note: what to know of the file; empty if nothing.
    """

    source: str
    library: str
    encoder: Tensor
    bias: Tensor
    activation: LatentActivation
    before: Tensor | None = None
    decoder: Tensor | None = None
    after: Tensor | None = None
    normalisation: Normalisation = "none"
    scaling: InputScaling | None = None
    gate: Gate | None = None
    layer_norm: tuple[Tensor, Tensor] | None = None
    tokens: TokenChoice | None = None
    layer: str = ""
    model: str = ""
    note: str = ""

    @property
    def width(self) -> int:
        """Values of a token, d."""
        return self.encoder.shape[0]

    @property
    def units(self) -> int:
        """Number of latents, K."""
        return self.encoder.shape[1]

    @property
    def unit_names(self) -> None:
        """Latents have no names."""
        return None

    @property
    def has_decoder(self) -> bool:
        """Whether it can reconstruct tokens."""
        return self.decoder is not None

    @property
    def pool(self) -> None:
        """How tokens become one number is not part of an autoencoder."""
        return None

    @property
    def digest(self) -> str:
        """Hash of all tensors and options, 16 hex digits; the same for the same encoder in another file format."""
        found = hashlib.sha256()
        described = ("source", "library", "tokens", "layer", "model", "note")
        for field in fields(self):
            if field.name not in described:
                _add(found, getattr(self, field.name))
        return found.hexdigest()[:16]

    @property
    def identity(self) -> str:
        """What decides the latents, for fingerprints."""
        return f"sae={self.digest}"

    def encode(self, values: Tensor) -> Tensor:
        """Compute the latents of tokens: float32 [..., d] to [..., K]."""
        return self._encode(self._normalised(values)[0])

    def decode(self, latents: Tensor) -> Tensor:
        """Reconstruct what the encoder saw after normalisation: [..., K] to [..., d].

        Raises:
            ValueError: the file has no decoder.
        """
        if self.decoder is None:
            raise ValueError("without a decoder")
        values = latents @ self.decoder
        return values if self.after is None else values + self.after

    def reconstructed(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return latents, reconstruction and what was reconstructed, of tokens [..., d]."""
        normalised, undo = self._normalised(values)
        latents = self._encode(normalised)
        return latents, undo(self.decode(latents)), undo(normalised)

    def on(self, device: object) -> SparseAutoencoder:
        """Return the same with its tensors on a device."""
        placed: dict[str, Any] = {field.name: _on(getattr(self, field.name), device) for field in fields(self)}
        return replace(self, **placed)

    def variants(self) -> dict[str, SparseAutoencoder]:
        """Return the same encoder with other conventions, by the flag that selects each."""
        found = {}
        if self.after is not None:
            if self.before is None:
                found["--sae-minus-b-dec"] = replace(self, before=self.after)
            else:
                found["--no-sae-minus-b-dec"] = replace(self, before=None)
        return found

    def _encode(self, values: Tensor) -> Tensor:
        if self.before is not None:
            values = values - self.before
        if self.gate is not None:
            linear = values @ self.encoder
            open_ = linear + self.gate.bias > 0
            return open_ * self.activation(linear * self.gate.magnitude.exp() + self.gate.magnitude_bias)
        linear = values @ self.encoder + self.bias
        if self.layer_norm is not None:
            from torch.nn.functional import layer_norm

            linear = layer_norm(linear, linear.shape[-1:], *self.layer_norm)
        return self.activation(linear)

    def _normalised(self, values: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return normalised tokens, and what undoes it."""
        scaling = self.scaling
        if scaling is not None:
            if scaling.clamp is not None:
                values = values.clamp(-scaling.clamp, scaling.clamp)
            values = (values - scaling.mean) / scaling.scale
        undo, before = _NORMALISATIONS[self.normalisation](values)
        if scaling is None:
            return before, undo
        return before, lambda result: undo(result) * scaling.scale + scaling.mean


def _plain(values: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    return lambda result: result, values


def _layer_norm(values: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    mean = values.mean(-1, keepdim=True)
    centred = values - mean
    spread = centred.std(-1, keepdim=True)
    return lambda result: result * spread + mean, centred / (spread + LAYER_NORM_EPSILON)


def _constant_norm(values: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    factor = values.shape[-1] ** 0.5 / values.norm(dim=-1, keepdim=True)
    return lambda result: result / factor, values * factor


_NORMALISATIONS: Mapping[Normalisation, Callable[[Tensor], tuple[Callable[[Tensor], Tensor], Tensor]]] = {
    "none": _plain,
    "layer_norm": _layer_norm,
    "constant_norm_rescale": _constant_norm,
}


def check_autoencoder(sae: SparseAutoencoder) -> SparseAutoencoder:
    """Return an autoencoder of which all tensors fit each other.

    Raises:
        UsageError: a shape does not fit, a value is not finite, or more latents stay than there are.
    """
    import torch

    width, units = sae.width, sae.units
    shapes: dict[str, tuple[Tensor | None, set[tuple[int, ...]]]] = {
        "the encoder's bias": (sae.bias, {(units,)}),
        "b_dec": (sae.after, {(width,)}),
        "what is subtracted from the input": (sae.before, {(width,)}),
        "the decoder": (sae.decoder, {(units, width)}),
        "the threshold": (sae.activation.threshold, {(), (1,), (units,)}),
    }
    for what, (tensor, allowed) in shapes.items():
        if tensor is not None and tuple(tensor.shape) not in allowed:
            found, due = (" x ".join(map(str, shape)) or "one number" for shape in (tensor.shape, max(allowed)))
            raise UsageError(
                f"{what} of {sae.source} has the shape {found}, and its encoder ({width} x {units}) needs {due}",
                "give the whole file as its library wrote it",
            )
    for field in fields(sae):
        value = getattr(sae, field.name)
        if isinstance(value, torch.Tensor) and not bool(value.isfinite().all()):
            raise UsageError(f"{sae.source} has values that are not finite", "copy or download it again")
    if sae.activation.k > units:
        raise UsageError(
            f"{sae.source} keeps {sae.activation.k} latents of a token, and has {units}",
            "name another number with --sae-activation topk:K",
        )
    return sae


def _add(found: hashlib._Hash, value: object) -> None:
    import torch

    if isinstance(value, torch.Tensor):
        found.update(repr(tuple(value.shape)).encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    elif isinstance(value, tuple):
        for part in value:
            _add(found, part)
    elif isinstance(value, (LatentActivation, InputScaling, Gate)):
        for field in fields(value):
            _add(found, getattr(value, field.name))
    else:
        found.update(repr(value).encode())


def _on(value: object, device: object) -> object:
    import torch

    if isinstance(value, torch.Tensor):
        return value.to(device)  # type: ignore[call-overload]
    if isinstance(value, tuple):
        return tuple(_on(part, device) for part in value)
    if isinstance(value, (LatentActivation, InputScaling, Gate)):
        parts: dict[str, Any] = {field.name: _on(getattr(value, field.name), device) for field in fields(value)}
        return replace(value, **parts)
    return value
