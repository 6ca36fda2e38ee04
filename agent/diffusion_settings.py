"""Settings of a text-to-image pipeline, the table ``[diffusion]`` of line.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Precision = Literal["float32", "float16", "bfloat16"]


def absolute_path(place: str) -> str:
    """Return the absolute path of an existing file or folder; another text as it is."""
    path = Path(place).expanduser()
    return str(path.absolute()) if place and path.exists() else place


class DiffusionSettings(BaseModel):
    """Settings of a text-to-image pipeline; None leaves them to the preset or the model's own files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int | None = Field(
        default=None, ge=1, le=1000, description="Denoising steps; not set: the preset's or the model's own."
    )
    guidance: float | None = Field(
        default=None, ge=0, le=50, description="Guidance scale; not set: the preset's or the model's own."
    )
    size: int | None = Field(
        default=None,
        ge=16,
        le=4096,
        description="Width and height in pixels; not set: the preset's or the model's own.",
    )
    dtype: Precision | None = Field(
        default=None, description="Precision of the weights; not set: the preset's or the model's own."
    )
    revision: str | None = Field(
        default=None, description="Revision of the hub repository: branch, tag or commit; not set: the preset's."
    )
    lora: tuple[str, ...] = Field(default=(), description="LoRA file or hub id, PATH or PATH=WEIGHT.")
    scheduler: str | None = Field(
        default=None, description="Name of a diffusers scheduler class; not set: the model's own."
    )
    offload: Literal["none", "model", "sequential"] = Field(
        default="none", description="Keep weights in CPU memory between uses."
    )
    vae_slicing: bool | None = Field(
        default=None, description="Decode one image at a time; not set: where the VAE supports it."
    )
    vae_tiling: bool = Field(default=False, description="Decode in tiles.")
    compile: bool = Field(default=False, description="Compile the denoiser with torch.compile.")
    channels_last: bool | None = Field(
        default=None, description="Channels-last memory layout of the convolutions; not set: on a GPU."
    )
    batch: int | None = Field(
        default=None, ge=1, le=256, description="Images generated per batch; not set: chosen for the device."
    )

    @field_validator("lora")
    @classmethod
    def _loras_from_anywhere(cls, loras: tuple[str, ...]) -> tuple[str, ...]:
        parts = (absolute_path(lora).rpartition("=") for lora in loras)
        return tuple(f"{absolute_path(place)}{equals}{rest}" for place, equals, rest in parts)
