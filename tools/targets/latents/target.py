"""A vision model of which the units are latents of a sparse autoencoder, or directions, at its layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import near_names
from line_neurons.agent.text import shell_word
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.latents.autoencoder import TokenChoice, TokenPool
from line_neurons.tools.targets.latents.names import base_layer, latent_layer
from line_neurons.tools.targets.layers.outputs import (
    LayerOutput,
    kind_of,
    patch_places,
    tokens_of,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from line_neurons.agent.ports import ImageData
    from line_neurons.agent.setting_groups.target import Pool, Tokens
    from line_neurons.tools.targets.base import ModelBundle

_MEANS: frozenset[Pool] = frozenset({"mean", "mean-tokens", "patches"})
_PATCHES: frozenset[Pool] = frozenset({"patches", "max-patches"})
_LETTERS = re.compile(r"[^a-z0-9]")


class UnitCode(Protocol):
    """What makes units of the values of a token."""

    @property
    def source(self) -> str:
        """The file, for messages."""

    @property
    def width(self) -> int:
        """Values of a token."""

    @property
    def units(self) -> int:
        """Number of units."""

    @property
    def unit_names(self) -> Sequence[str] | None:
        """Names of the units, if they have any."""

    @property
    def identity(self) -> str:
        """What decides the units' values, for fingerprints."""

    @property
    def tokens(self) -> TokenChoice | None:
        """The tokens that it is made for, where that is known."""

    @property
    def pool(self) -> TokenPool | None:
        """How the tokens of an image become one number where the user does not say; None: the largest."""

    @property
    def layer(self) -> str:
        """The layer that it says it is of."""

    @property
    def model(self) -> str:
        """The model that it says it is of."""

    def encode(self, values: Tensor) -> Tensor:
        """Compute the units of tokens, float32 [T, d] to [T, K]."""

    def on(self, device: object) -> UnitCode:
        """Return the same on a device."""


_MOST_VALUES = 1 << 25
"""Values of tokens that are held at a time."""


class LatentTarget(HookedTarget):
    """A vision model with latents as units: of each layer of as many values as ``code`` reads.

    Tokens are encoded one image after the other, so that an image's values are the same in any batch.

    Args:
        name: what follows the layer's path and ``~`` in the names of its layers.
        tokens: which tokens are encoded; ``auto``: as the code says, else the patches.
        pool: how the tokens of an image become one number; ``auto``: as the code says, else the largest.
        options: those of ``HookedTarget``.
    """

    def __init__(
        self,
        network: ModelBundle,
        code: UnitCode,
        name: str,
        *,
        tokens: Tokens = "auto",
        pool: Pool = "auto",
        **options: Any,
    ) -> None:
        self._code = code
        self._suffix = name
        self._tokens = tokens
        super().__init__(network, pool=pool, **options)

    @property
    def code(self) -> UnitCode:
        """What makes units of the values of a token."""
        return self._code

    @property
    def fingerprint(self) -> str:
        """That of the model, with the identity of the code and the tokens."""
        return f"{super().fingerprint} {self._code.identity} tokens={self._choice or 'patches'}"

    @property
    def output_layer(self) -> None:
        """None: latents are no classes."""

    def unit_names(self, layer: str) -> Sequence[str] | None:
        """Return the names of directions; None for latents."""
        self.output(layer)
        return self._code.unit_names

    def check_classes(self) -> None:
        """Check nothing: the units are no classes."""

    def has_layer(self, path: str) -> bool:
        """Tell whether the vision model has a layer of that path."""
        return latent_layer(path, self._suffix) in self._base

    def tokens(self, images: Sequence[ImageData], layer: str) -> Tensor:
        """Return the values of tokens of images at a layer, as they are encoded: float32 [n, d].

        Of very many tokens every other, third or so is returned.

        Raises:
            LineError: see ``activate``.
        """
        import torch

        output = self._base[self.output(layer).info.path]
        parts, step = [], 0
        for start in range(0, len(images), self.batch_size):
            raw = super().raw_outputs(images[start : start + self.batch_size], [layer])[layer]
            tokens = self._chosen(raw.to(self._device), output).flatten(0, 1)
            # Of all batches the same part.
            step = step or max(
                1, -(-tokens.numel() * len(images) // (min(len(images), self.batch_size) * _MOST_VALUES))
            )
            parts.append(tokens[::step])
        return torch.cat(parts)

    @property
    def _choice(self) -> TokenChoice | None:
        """The tokens that settings or code name; None where they name none."""
        if self._pool == "cls":
            return "cls"
        if self._pool in _PATCHES:
            return "patches"
        return self._code.tokens if self._tokens == "auto" else self._tokens

    @cached_property
    def _base(self) -> dict[str, LayerOutput]:
        """The outputs of the vision model's layers, by the names of the layers of latents."""
        return {latent_layer(path, self._suffix): output for path, output in self._measurable().items()}

    @cached_property
    def _found(self) -> dict[str, LayerOutput]:
        fitting = {}
        for path, output in self._base.items():
            if output.info.units == self._code.width:
                positions = self._positions(output)
                info = replace(output.info, path=path, shape=(positions, self._code.units), units=self._code.units)
                fitting[path] = replace(output, info=info)
        return fitting

    def _positions(self, output: LayerOutput) -> int:
        if kind_of(output) == "vector" or self._choice == "cls":
            return 1
        if kind_of(output) == "map":
            sides = output.info.shape[1:] if output.form == "map" else output.info.shape[:-1]
            count = 1
            for side in sides:
                count *= side
            return count
        return output.info.shape[0] if self._choice == "all" else len(patch_places(output))

    def output(self, path: str) -> LayerOutput:
        """Return the output of the latents of a layer, which may be named with or without the autoencoder's name.

        Raises:
            UsageError: there is no such layer, or it has another number of values.
        """
        wanted = latent_layer(base_layer(path), self._suffix)
        if wanted in self._base and wanted not in self._found:
            output = self._base[wanted].info
            says = f"; it says that it is of the layer {self._code.layer}" if self._code.layer else ""
            fitting = list(dict.fromkeys(base_layer(name) for name in self._found))
            remedy = (
                f"layers of {self._code.width} values: {', '.join(fitting[-6:])}"
                if fitting
                else "name another model"
            )
            raise UsageError(
                f"{self._code.source} reads {self._code.width:,} values, and {output.path} of {self.name} has"
                f" {output.units:,}{says}",
                remedy,
            )
        if wanted not in self._base and (refused := self.refused_layers().get(base_layer(path))) is None:
            near = near_names(base_layer(path), (base_layer(name) for name in self._base))
            raise UsageError(
                f"{self.name} has no layer {base_layer(path)!r:.200} with units{'; ' + near if near else ''}",
                f"`line layers {shell_word(self.name)}` lists them",
            )
        elif wanted not in self._base:
            assert refused is not None
            raise refused
        return self._found[wanted]

    def module(self, path: str) -> nn.Module:
        """Return the module of the vision model's layer."""
        return super().module(base_layer(path))

    def raw_outputs(self, images: Sequence[ImageData], layers: Sequence[str]) -> dict[str, Tensor]:
        """Compute the latents of every token or position, in the form of the layer's output."""
        import torch

        found = {}
        for layer, tensor in super().raw_outputs(images, layers).items():
            base = self._base[self.output(layer).info.path]
            units = torch.stack([self._placed_code.encode(image) for image in tokens_of(tensor, base)])
            match base.form:
                case "map":
                    units = units.transpose(1, 2).reshape(len(units), -1, *tensor.shape[2:])
                case "map-last":
                    units = units.reshape(*tensor.shape[:3], -1)
                case "sequence":
                    units = units.transpose(0, 1)
                case "vector":
                    units = units.squeeze(1)
            found[layer] = units
        return found

    def _check_pool(self, output: LayerOutput) -> None:
        base = self._base[output.info.path]
        kind, choice = kind_of(base), self._choice
        place = base_layer(output.info.path)
        if self._pool == "cls" and self._tokens not in {"auto", "cls"}:
            raise UsageError(
                f"pool 'cls' takes the class token, and tokens are {self._tokens!r}", "leave out one of the two"
            )
        if kind != "tokens":
            if choice == "cls":
                said = f"leave out --{'pool' if self._pool == 'cls' else 'tokens'} cls"
                by_user = "cls" in {self._pool, self._tokens}
                raise UsageError(
                    f"{place} of {self.name} has no class token", said if by_user else "say --tokens patches"
                )
            return
        if choice == "cls" and not base.class_token:
            raise UsageError(
                f"{self._code.source} is of class tokens, and {place} of {self.name} has none that is known",
                "give it another layer, or --tokens all or patches",
            )
        if choice in {None, "patches"} and base.no_patches is None:
            raise UsageError(
                f"which tokens of {place} of {self.name} are patches of the image is not known", "say --tokens all"
            )
        if choice in {None, "patches"} and not patch_places(base):
            raise UsageError(f"no token of {place} of {self.name} is a patch of the image", "say --tokens all")

    def pool_output(self, tensor: Tensor, output: LayerOutput) -> Tensor:
        """Encode the tokens of a forward pass, and pool their units to float32 [N, K]."""
        import torch

        tokens = self._chosen(tensor, self._base[output.info.path])
        code = self._placed_code
        mean = self._pool in _MEANS or (self._pool == "auto" and code.pool == "mean")
        rows = []
        for image in tokens:
            units = code.encode(image)
            rows.append(units.mean(0) if mean else units.amax(0))
        return torch.stack(rows)

    def _chosen(self, tensor: Tensor, output: LayerOutput) -> Tensor:
        """Return the tokens that are encoded, float32 [N, T, d]."""
        tokens = tokens_of(tensor, output)
        if kind_of(output) != "tokens" or self._choice == "all":
            return tokens
        return tokens[:, :1] if self._choice == "cls" else tokens[:, patch_places(output)]

    @cached_property
    def _placed_code(self) -> UnitCode:
        return self._code.on(self._device)


def check_model_name(code: UnitCode, model: str) -> None:
    """Check that an autoencoder or directions that name their model name the one at hand.

    Raises:
        UsageError: it names another.
    """
    if not code.model:
        return
    theirs, ours = (
        _LETTERS.sub("", name.rpartition("/")[2].partition("@")[0].casefold()) for name in (code.model, model)
    )
    ours = _LETTERS.sub("", ours.rpartition(":")[2])
    if theirs and ours and theirs not in ours and ours not in theirs:
        raise UsageError(
            f"{code.source} says that it is of the model {code.model}, not {model}",
            "name that model, or insist with --sae-force",
        )
