"""Presets of text-to-image models, and how a model is named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from line_neurons.agent.diffusion_settings import Precision
from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.tools.image_bank.bank import BUNDLED
from line_neurons.tools.image_bank.opening import NAMES, uses_image_bank

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class Denoiser:
    """A denoiser distilled for one number of steps, in a separate safetensors file.

    ``scheduler`` holds changes to the scheduler's configuration that it was distilled with.
    """

    file: str
    scheduler: Mapping[str, Any]


@dataclass(frozen=True)
class Preset:
    """A model of the hub with the settings of its model card.

    Args:
        hub: id of the repository.
        pipeline: class of its pipeline in diffusers.
        guidance: guidance scale; None if the pipeline takes none.
        size: width and height in pixels; None for those of the image.
        gigabytes: size of the files that are read, on disk.
        variant: which of the repository's weights are read, where it has several.
        call: further arguments of the pipeline.
        denoisers: checkpoints by steps that replace the repository's denoiser.
        denoiser_hub: repository of these checkpoints.
        gated: its licence has to be accepted on the hub.
        edits: its pipeline edits images, and does not generate them from text alone.
    """

    hub: str
    pipeline: str
    steps: int
    guidance: float | None
    size: int | None
    gigabytes: float
    dtype: Precision = "float16"
    variant: str | None = "fp16"
    call: Mapping[str, Any] = field(default_factory=dict)
    denoisers: Mapping[int, Denoiser] = field(default_factory=dict)
    denoiser_hub: str = ""
    gated: bool = False
    edits: bool = False


def _lightning(steps: int) -> Denoiser:
    if steps == 1:
        # The one-step network predicts the image itself, not the noise.
        trailing = {"timestep_spacing": "trailing", "prediction_type": "sample"}
        return Denoiser("sdxl_lightning_1step_unet_x0.safetensors", trailing)
    return Denoiser(f"sdxl_lightning_{steps}step_unet.safetensors", {"timestep_spacing": "trailing"})


_SDXL_BASE = "stabilityai/stable-diffusion-xl-base-1.0"
_SDXL = "StableDiffusionXLPipeline"
_SD = "StableDiffusionPipeline"

PRESETS: Mapping[str, Preset] = {
    "sdxl": Preset(_SDXL_BASE, _SDXL, 25, 5.0, 1024, 6.9),
    "sdxl-turbo": Preset("stabilityai/sdxl-turbo", _SDXL, 4, 0.0, 512, 6.9),
    "sdxl-lightning": Preset(
        _SDXL_BASE,
        _SDXL,
        4,
        0.0,
        1024,
        6.9,
        denoisers={steps: _lightning(steps) for steps in (1, 2, 4, 8)},
        denoiser_hub="ByteDance/SDXL-Lightning",
    ),
    "sd15": Preset("stable-diffusion-v1-5/stable-diffusion-v1-5", _SD, 25, 7.5, 512, 2.1),
    "sd-turbo": Preset("stabilityai/sd-turbo", _SD, 4, 0.0, 512, 2.6),
    "flux-dev": Preset(
        "black-forest-labs/FLUX.1-dev",
        "FluxPipeline",
        28,
        3.5,
        1024,
        33.7,
        dtype="bfloat16",
        variant=None,
        call={"max_sequence_length": 512},
        gated=True,
    ),
    "flux-schnell": Preset(
        "black-forest-labs/FLUX.1-schnell",
        "FluxPipeline",
        4,
        0.0,
        1024,
        33.7,
        dtype="bfloat16",
        variant=None,
        call={"max_sequence_length": 256},
        gated=True,
    ),
}


@dataclass(frozen=True)
class ModelSource:
    """A text-to-image model: where its files are, and its preset.

    Args:
        name: as the user wrote it.
    """

    name: str
    preset: Preset | None = None
    folder: Path | None = None
    hub: str = ""


def parse_source(spec: str, presets: Mapping[str, Preset] = PRESETS) -> ModelSource:
    """Read ``PRESET``, ``PRESET=FOLDER``, ``PRESET=owner/name``, ``FOLDER`` or ``owner/name``.

    Raises:
        UsageError: it is none of these, or there is no such folder.
    """
    name, equals, place = spec.partition("=")
    preset = presets.get(name)
    if preset and not equals:
        return ModelSource(spec, preset, hub=preset.hub)
    where = place if preset else spec
    folder = Path(where).expanduser()
    if where and folder.is_dir():
        return ModelSource(spec, preset, folder=folder.resolve())
    if folder.is_file():
        raise UsageError(
            f"{where!r} is a file; models are read from folders as diffusers saves them",
            "convert a single checkpoint with diffusers' from_single_file and save_pretrained",
        )
    if HUB_ID.fullmatch(where) and not where.startswith("."):
        return ModelSource(spec, preset, hub=where)
    if preset or "/" in where or "\\" in where or where.startswith((".", "~")):
        raise UsageError(
            f"there is no folder {where!r}", f"{name}=FOLDER" if preset else "name an existing folder"
        )
    raise UsageError(
        f"{spec!r} is no image generator",
        f"{choices(spec, (*PRESETS, *BUNDLED))}; or name a folder, or owner/name of the hub",
    )


def check_generator(spec: str) -> None:
    """Check the name of an image generator.

    Raises:
        UsageError: it is neither a bank, a preset, an existing folder nor the form of a hub id.
    """
    if not uses_image_bank(spec):
        parse_source(spec)
    elif spec == "bank:":
        raise UsageError(f"the generator {spec!r} names no folder", NAMES)
