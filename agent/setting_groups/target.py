"""Settings of the target: its weights, and how a layer's output becomes one number per unit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from line_neurons.agent.diffusion_settings import Precision

Pool = Literal["auto", "mean", "max", "cls", "mean-tokens", "patches", "max-patches"]
QueryPool = Literal["max", "mean"]
Tokens = Literal["auto", "all", "patches", "cls"]
Layout = Literal["channels-first", "channels-last", "tokens"]
"""Layout of a layer's output for one image: [K, H, W] or [K, L]; [H, W, K]; [T, K]."""


class TargetSettings(BaseSettings):
    """How the target is opened and measured; ``Settings`` has these fields, too."""

    weights: Path | None = Field(None, description="Own checkpoint of the target, FILE or FILE#NETWORK.")
    pool: Pool = Field(
        "auto", description="Pooling of a layer's output; auto: mean of maps, class token of tokens."
    )
    # Runs recorded before this setting existed were measured with the mean.
    query_pool: QueryPool = Field(
        "max", description="Pooling of the query tokens of detectors with pool auto: max, or mean."
    )
    sae: str | None = Field(
        None,
        description="Sparse autoencoder that makes the units: a file, a folder or hf:OWNER/NAME/PATH.",
    )
    sae_input: Path | None = Field(
        None, description="File with mean, scale and perhaps clamp of the autoencoder's input."
    )
    sae_activation: str | None = Field(
        None,
        description="End of the autoencoder's encoder: relu, tanh-relu, topk:K, batchtopk:THRESHOLD or jumprelu; "
        "not set: as in its file.",
    )
    sae_minus_b_dec: bool | None = Field(
        None, description="Subtract the autoencoder's b_dec from its input; not set: as its library does."
    )
    sae_force: bool = Field(
        False, description="Use an autoencoder or directions that do not fit the layer, or are of another model."
    )
    directions: Path | None = Field(
        None, description="File of directions or of a probe; the units are projections on them."
    )
    tokens: Tokens = Field(
        "auto",
        description="Tokens that autoencoder and directions read: all, patches or cls; auto: as the file says, "
        "else the patches.",
    )
    layout: tuple[str, ...] = Field(
        (),
        description="Layout of layers where it is not known: channels-first, channels-last or tokens; "
        "of one layer: LAYER=LAYOUT.",
    )
    precision: Precision = Field("float32", description="Precision of the target's forward pass.")
    channels_last: bool = Field(False, description="Run the target's convolutions in channels-last memory layout.")

    @field_validator("layout")
    @classmethod
    def _is_layout(cls, layouts: tuple[str, ...]) -> tuple[str, ...]:
        paths = [text.rpartition("=")[0] for text in layouts]
        for text, path in zip(layouts, paths, strict=True):
            if (name := text.removeprefix(f"{path}=")) not in get_args(Layout):
                raise ValueError(f"{name!r:.80} is none of {', '.join(get_args(Layout))}, nor LAYER=LAYOUT")
            if paths.count(path) > 1:
                raise ValueError(f"{path or 'all layers'} is given two layouts")
        return layouts

    @field_validator("sae")
    @classmethod
    def _sae_from_anywhere(cls, place: str | None) -> str | None:
        """Make the path absolute, so that a run can be resumed from another folder."""
        if place is None or place.startswith(("hf:", "memory:")):
            return place
        if not place.strip():
            raise ValueError("names no file")
        return str(Path(place).expanduser().absolute())

    @field_validator("weights", "sae_input", "directions")
    @classmethod
    def _weights_from_anywhere(cls, path: Path | None) -> Path | None:
        """Make the path absolute, so that a run can be resumed from another folder."""
        return path.expanduser().absolute() if path else None
