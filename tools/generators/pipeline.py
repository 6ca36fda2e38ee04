"""A text-to-image pipeline: its recipe, worked out from files alone, and its loading."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import BackendError, LineError, MissingPartError, UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.devices import find_device, is_out_of_memory
from line_neurons.tools.generators.presets import ModelSource, Preset
from line_neurons.tools.generators.weights import (
    SKIPPED_COMPONENTS,
    ModelFiles,
    cached_hash,
    find_lora,
    find_model,
)
from line_neurons.tools.packages import pip_install
from line_neurons.tools.quiet_libraries import quiet

if TYPE_CHECKING:
    import torch
    from torch import nn

    from line_neurons.agent.diffusion_settings import DiffusionSettings

Pipeline = Any
"""A diffusers pipeline; its classes share their methods without a type that declares them."""

_BIG = 100_000_000
"""Parameters of a denoiser from which on a CPU is worth a warning."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides an image besides its prompt and seed, and where it is computed.

    Args:
        guidance: guidance scale; None if the pipeline has none.
        size: width and height in pixels; None for the model's own.
        scheduler_changes: changes to the configuration of the model's own scheduler.
        call: further arguments of the pipeline.
        tiled: the VAE decodes in tiles.
    """

    source: ModelSource
    files: ModelFiles
    steps: int
    guidance: float | None
    size: int | None
    dtype: str
    device: str
    scheduler: str
    scheduler_changes: Mapping[str, Any]
    loras: tuple[tuple[Path, float], ...]
    call: Mapping[str, Any]
    tiled: bool

    def identity(self) -> dict[str, Any]:
        """Everything that alters an image, as JSON values; the files are hashed."""
        return {
            "pipeline": self.files.pipeline,
            "weights": self.files.sha256()[:16],
            "steps": self.steps,
            "guidance": self.guidance,
            "size": self.size,
            "dtype": self.dtype,
            "scheduler": {"class": self.scheduler, **self.scheduler_changes},
            "lora": [{"sha256": cached_hash(path)[:16], "weight": weight} for path, weight in self.loras],
            "call": dict(self.call),
            "tiled": self.tiled,
        }


def require_packages() -> None:
    """Check that what text-to-image models need can be imported.

    Raises:
        MissingPartError: a package is missing, or packages do not fit each other.
    """
    # torchvision first: the others answer its failure with errors that do not name it.
    for name in ("torchvision", "accelerate", "transformers", "peft", "diffusers.pipelines.auto_pipeline"):
        package = name.partition(".")[0]
        try:
            importlib.import_module(name)
        except (ImportError, RuntimeError) as error:
            remedy = pip_install("diffusion")
            if isinstance(error, ModuleNotFoundError) and error.name:
                said = f"{error.name} is not installed"
            else:
                said, remedy = (
                    f"{package} fails: {short_reason(error)}",
                    f"{remedy} brings packages that fit each other",
                )
            raise MissingPartError(f"{said}, which text-to-image models need", remedy) from error


def plan(source: ModelSource, settings: DiffusionSettings, *, device: str, download: bool) -> Recipe:
    """Work out a recipe; checks everything that can be checked without loading weights.

    Raises:
        MissingPartError: packages, weights or a LoRA are missing.
        UsageError: a setting does not fit the model or the device, or the model cannot be loaded safely.
    """
    require_packages()
    place = find_device(device)
    preset = source.preset
    if settings.revision and source.folder:
        raise UsageError(f"the folder {str(source.folder)!r} has no revisions", "leave diffusion.revision out")
    files = find_model(
        source,
        revision=settings.revision,
        full_precision=settings.dtype == "float32",
        steps=settings.steps or (preset.steps if preset else 0),
        download=download,
    )
    if preset and files.pipeline != preset.pipeline:
        raise UsageError(
            f"{source.name} holds a {files.pipeline}, and the preset is for a {preset.pipeline}",
            "name the folder alone, without a preset",
        )
    taken = inspect.signature(_pipeline_class(files.pipeline, preset).__call__).parameters
    own = {name: taken[name].default for name in ("num_inference_steps", "guidance_scale") if name in taken}
    steps = settings.steps or (preset.steps if preset else own.get("num_inference_steps", 1))
    guidance = preset.guidance if preset else own.get("guidance_scale")
    if settings.guidance is not None:
        if "guidance_scale" not in taken:
            raise UsageError(f"{files.pipeline} knows no guidance", "leave diffusion.guidance out")
        guidance = settings.guidance
    size = settings.size or (preset.size if preset else None)
    unit = 16 if files.pipeline.startswith("Flux") else 8
    if size and size % unit:
        raise UsageError(f"images of {size} pixels are not possible", f"a multiple of {unit}")
    if settings.offload != "none" and place.type == "cpu":
        raise UsageError(f"offload {settings.offload!r} needs a GPU, and the device is {place}", "offload none")
    changes = preset.denoisers[steps].scheduler if preset and preset.denoisers else {}
    return Recipe(
        source=source,
        files=files,
        steps=steps,
        guidance=guidance,
        size=size,
        dtype=settings.dtype or _usual_dtype(source, files, place),
        device=str(place),
        scheduler=_scheduler_class(files, settings.scheduler),
        scheduler_changes=changes,
        loras=tuple(find_lora(text, download=download) for text in settings.lora),
        call=preset.call if preset else {},
        tiled=settings.vae_tiling,
    )


def load(recipe: Recipe, settings: DiffusionSettings) -> Pipeline:
    """Load the pipeline onto its device, with everything the settings ask for.

    Raises:
        UsageError: a LoRA or a setting does not fit the model.
        BackendError: the files cannot be loaded, or there is not enough memory.
    """
    import torch

    try:
        with quiet("diffusers", "transformers"):
            pipe = _read(recipe)
            if recipe.scheduler_changes or recipe.scheduler != type(pipe.scheduler).__name__:
                import diffusers

                scheduler = getattr(diffusers, recipe.scheduler)
                pipe.scheduler = scheduler.from_config(pipe.scheduler.config, **recipe.scheduler_changes)
            _fuse_loras(pipe, recipe)
            place(pipe, torch.device(recipe.device), settings)
    except LineError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise BackendError(
                f"{recipe.source.name} does not fit into the memory of {recipe.device}",
                "set diffusion.offload to model or sequential, or choose a smaller preset",
            ) from error
        raise BackendError(
            f"{recipe.source.name} cannot be loaded: {short_reason(error)}", "copy or download its files again"
        ) from error
    pipe.set_progress_bar_config(disable=True)
    if recipe.device == "cpu" and sum(weight.numel() for weight in denoiser_of(pipe).parameters()) > _BIG:
        logging.getLogger(__name__).warning(
            "generating images with %s on a CPU takes minutes each", recipe.source.name
        )
    return pipe


def place(pipe: Pipeline, device: torch.device, settings: DiffusionSettings) -> None:
    """Move a pipeline to its device, with memory layout, offloading and compiling.

    Raises:
        UsageError: the pipeline's VAE does not support slicing or tiling.
    """
    import torch

    denoiser, vae = denoiser_of(pipe), getattr(pipe, "vae", None)
    _cut_decoding(pipe, vae, settings)
    if device.type == "cuda" if settings.channels_last is None else settings.channels_last:
        for module in filter(None, (denoiser, vae)):
            # There is no such layout for the volumes of a video model's VAE, which also draws images.
            if all(weight.dim() < 5 for weight in module.parameters()):
                module.to(memory_format=torch.channels_last)
    if settings.offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif settings.offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)
    if not settings.compile:
        return
    if hasattr(pipe, "transformer"):
        # One block many times over: compiled once, it serves for all. A U-Net is not.
        denoiser.compile_repeated_blocks(fullgraph=True)  # type: ignore[operator]
    else:
        denoiser.compile()


def _cut_decoding(pipe: Pipeline, vae: Any, settings: DiffusionSettings) -> None:
    slices = hasattr(vae, "enable_slicing") if settings.vae_slicing is None else settings.vae_slicing
    for wanted, name in ((slices, "slicing"), (settings.vae_tiling, "tiling")):
        if wanted and not hasattr(vae, f"enable_{name}"):
            raise UsageError(f"a {type(pipe).__name__} knows no {name}", f"leave diffusion.vae_{name} out")
        if wanted:
            getattr(vae, f"enable_{name}")()
    if settings.vae_tiling and hasattr(vae, "tile_latent_min_size"):
        # diffusers' tiles are as large as the images that the model is made for, which would never be cut.
        vae.tile_sample_min_size //= 2
        vae.tile_latent_min_size //= 2


def denoiser_of(pipe: Pipeline) -> nn.Module:
    """Return the network that runs at every step."""
    network: nn.Module = getattr(pipe, "unet", None) or pipe.transformer
    return network


def short_reason(error: BaseException) -> str:
    """Return an exception's message as one short line."""
    first, _, rest = str(error).strip().partition("\n")
    said = f"{first} {rest.strip().partition(chr(10))[0]}" if first.endswith(":") else first
    return clean_text(said, 200) or type(error).__name__


def _pipeline_class(name: str, preset: Preset | None) -> Any:
    if preset and preset.edits:
        import diffusers

        return getattr(diffusers, preset.pipeline)
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

    found: Any
    for found in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values():
        # Those with a control network want an image too; combined ones fetch further models by themselves.
        if found.__name__ == name and "Control" not in name and not found._load_connected_pipes:
            return found
    raise UsageError(
        f"a {name} does not generate images from text alone", "choose a text-to-image pipeline of diffusers"
    )


def _scheduler_class(files: ModelFiles, wanted: str | None) -> str:
    import diffusers

    own = str(files.read_json("scheduler/scheduler_config.json").get("_class_name", ""))
    known = getattr(diffusers, own, None) if own.isidentifier() else None
    if known is None or not hasattr(known, "from_config"):
        raise UsageError(
            f"the model's scheduler {clean_text(own, 60)!r} is not in diffusers", "choose another model"
        )
    if wanted is None or wanted == own:
        return own
    # This one draws its noise from a source of its own, so that a seed would not decide the image.
    fitting = {scheduler.__name__ for scheduler in known._get_compatibles()} - {"DPMSolverSDEScheduler"}
    if wanted not in fitting:
        raise UsageError(
            f"the scheduler {wanted!r} does not fit {files.pipeline}",
            f"one of {', '.join(sorted(fitting | {own}))}",
        )
    return wanted


def _usual_dtype(source: ModelSource, files: ModelFiles, device: torch.device) -> str:
    if device.type == "cpu":
        return "float32"
    if source.preset:
        return source.preset.dtype
    # Large transformers overflow in float16.
    return "bfloat16" if "transformer/config.json" in files.files else "float16"


def _read(recipe: Recipe) -> Pipeline:
    import torch

    found = _pipeline_class(recipe.files.pipeline, recipe.source.preset)
    taken = inspect.signature(found.__init__).parameters
    dtype = getattr(torch, recipe.dtype)
    given: dict[str, Any] = {name: None for name in SKIPPED_COMPONENTS if name in taken}
    # A watermark would be put in or not as a package happens to be installed.
    given |= {name: False for name in ("requires_safety_checker", "add_watermarker") if name in taken}
    if recipe.files.denoiser:
        given["unet"] = _read_denoiser(recipe.files.folder / "unet", recipe.files.denoiser, dtype)
    return found.from_pretrained(
        recipe.files.folder,
        dtype=dtype,
        variant=recipe.files.variant,
        use_safetensors=True,
        local_files_only=True,
        **given,
    )


def _read_denoiser(config: Path, weights: Path, dtype: torch.dtype) -> nn.Module:
    from accelerate import init_empty_weights
    from diffusers import UNet2DConditionModel
    from safetensors.torch import load_file

    kind: Any = UNet2DConditionModel
    with init_empty_weights():
        unet: nn.Module = kind.from_config(kind.load_config(config))
    unet.load_state_dict(load_file(weights), assign=True)
    return unet.to(dtype).eval()


def _fuse_loras(pipe: Pipeline, recipe: Recipe) -> None:
    if not recipe.loras:
        return
    if not hasattr(pipe, "load_lora_weights"):
        raise UsageError(f"a {recipe.files.pipeline} takes no LoRA", "leave diffusion.lora out")
    weights = {f"lora{index}": weight for index, (_, weight) in enumerate(recipe.loras)}
    for name, (path, _) in zip(weights, recipe.loras, strict=True):
        try:
            pipe.load_lora_weights(
                str(path.parent), weight_name=path.name, adapter_name=name, local_files_only=True
            )
        except Exception as error:
            raise UsageError(
                f"the LoRA {path.name} does not fit {recipe.source.name}: {short_reason(error)}",
                "a LoRA fits only the model it was trained for",
            ) from error
        # A LoRA of another model can load without an error and without an effect, or into the text encoders alone.
        filled = {part for part, adapters in pipe.get_list_adapters().items() if name in adapters}
        texts = {part for part in filled if part.startswith("text_encoder")}
        if not filled or (filled == texts and _alters_denoiser(path)):
            raise UsageError(
                f"the LoRA {path.name} holds nothing for {recipe.source.name}",
                "a LoRA fits only the model it was trained for",
            )
    pipe.set_adapters(list(weights), list(weights.values()))
    pipe.fuse_lora(components=list(pipe.get_list_adapters()), adapter_names=list(weights))
    pipe.unload_lora_weights()


def _alters_denoiser(lora: Path) -> bool:
    from safetensors import safe_open

    others = ("text_encoder", "lora_te", "bundle_emb")
    with safe_open(lora, "pt") as file:
        return any(not key.startswith(others) for key in file.keys())  # noqa: SIM118
