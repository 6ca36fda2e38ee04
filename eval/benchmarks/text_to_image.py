"""Images a second of Stable Diffusion XL: ``python -m line_neurons.eval.benchmarks.text_to_image``.

The real architecture with random weights, on which the time does not depend: the whole pipeline with guidance,
every step and the decoding, without the text encoders, which run once for a prompt. Beside each figure is the
share of the arithmetic limit: the operations of an image, counted, over the rate of the fastest large matrix
product of the same run. Without further options the pipeline is measured as the generator sets it up.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from line_neurons.agent.diffusion_settings import DiffusionSettings
from line_neurons.tools.devices import deterministic_arithmetic, find_device, is_out_of_memory
from line_neurons.tools.generators.pipeline import (
    place,
    short_reason,
)
from line_neurons.tools.quiet_libraries import quiet

# Its classes are not typed.
_diffusers: Any = diffusers

_TOKENS = 77


@dataclass(frozen=True)
class Architecture:
    """Configurations of the networks, and the side of the images in pixels."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    size: int
    matrix: int


_SHAPE: Mapping[str, Any] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "layers_per_block": 2,
}

ARCHITECTURES: Mapping[str, Architecture] = {
    "sdxl": Architecture(
        unet={
            **_SHAPE,
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "attention_head_dim": (5, 10, 20),
            "transformer_layers_per_block": (1, 2, 10),
            "cross_attention_dim": 2048,
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        vae={
            "block_out_channels": (128, 256, 512, 512),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "layers_per_block": 2,
            "latent_channels": 4,
            "sample_size": 1024,
            "scaling_factor": 0.13025,
        },
        size=1024,
        matrix=8192,
    ),
    "tiny": Architecture(
        unet={
            **_SHAPE,
            "sample_size": 16,
            "block_out_channels": (32, 64, 64),
            "attention_head_dim": (1, 2, 2),
            "transformer_layers_per_block": (1, 1, 2),
            "cross_attention_dim": 64,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 80,
        },
        vae={
            "block_out_channels": (32, 64),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "latent_channels": 4,
            "sample_size": 64,
        },
        size=64,
        matrix=1024,
    ),
}


@dataclass(frozen=True)
class Variant:
    """One way to run the pipeline; None means as the generator does it."""

    name: str
    compile: bool = False
    channels_last: bool | None = None
    fused: bool = False
    attention: SDPBackend | None = None


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Args:
        images_per_second: of the median repetition; 0 if it did not run.
        share_of_limit: of the arithmetic limit, in [0, 1].
        gigabytes: most memory of the GPU that was in use; 0 on a CPU.
        warm_up: seconds of the first, short run; with compiling, that is in it.
        failed: why it did not run.
    """

    variant: str
    batch: int
    images_per_second: float = 0.0
    share_of_limit: float = 0.0
    gigabytes: float = 0.0
    warm_up: float = 0.0
    failed: str = ""


def build(architecture: Architecture, device: torch.device, dtype: torch.dtype) -> Any:
    """The pipeline without text encoders, with random weights made on the device."""
    scheduler = _diffusers.EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        timestep_spacing="leading",
    )
    parts = {}
    for name, part in planned(architecture).items():
        with quiet("diffusers", "transformers"):
            made = part.to(dtype).to_empty(device=device).eval().requires_grad_(False)
        for weight in made.parameters():
            weight.normal_(0, 0.02)
        parts[name] = made
    pipe: Any = _diffusers.StableDiffusionXLPipeline(
        **parts,
        scheduler=scheduler,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def planned(architecture: Architecture) -> dict[str, nn.Module]:
    """The networks as plans without memory."""
    with torch.device("meta"):
        return {
            "unet": _diffusers.UNet2DConditionModel(**architecture.unet),
            "vae": _diffusers.AutoencoderKL(**architecture.vae),
        }


def operations(architecture: Architecture, size: int) -> tuple[int, int]:
    """Floating-point operations of a pass of the denoiser and of decoding, of one image; nothing is computed."""
    parts: Any = planned(architecture)
    unet, vae = parts["unet"], parts["vae"]
    side = size // 2 ** (len(architecture.vae["block_out_channels"]) - 1)
    with torch.device("meta"), torch.no_grad():
        latents = torch.empty(1, 4, side, side)
        text, pooled = embeddings(architecture, 1)
        with FlopCounterMode(display=False) as denoising:
            unet(
                latents,
                torch.ones(()),
                encoder_hidden_states=text,
                added_cond_kwargs={"text_embeds": pooled, "time_ids": torch.empty(1, 6)},
            )
        with FlopCounterMode(display=False) as decoding:
            vae.decode(latents)
    return denoising.get_total_flops(), decoding.get_total_flops()


def embeddings(architecture: Architecture, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random embeddings of prompts [batch, 77, C] and pooled ones [batch, P]."""
    unet = architecture.unet
    pooled = unet["projection_class_embeddings_input_dim"] - 6 * unet["addition_time_embed_dim"]
    return torch.randn(batch, _TOKENS, unet["cross_attention_dim"]), torch.randn(batch, pooled)


def peak(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Operations a second of a product of two large square matrices, the best of eleven."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = min(seconds(lambda: left @ right, device) for _ in range(11))
    return 2 * side**3 / best


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of work, with what it left running on the device."""
    finish = torch.get_device_module(device).synchronize
    finish()
    began = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - began


def measure(
    pipe: Any, architecture: Architecture, variant: Variant, batch: int, options: argparse.Namespace
) -> tuple[float, float]:
    """Seconds of a batch (median) and of the warm-up."""
    device = pipe.device
    text, pooled = embeddings(architecture, batch)

    def drawn(steps: int) -> None:
        draw(pipe, text, pooled, range(batch), steps, options.size)

    with _attention(variant.attention), quiet("diffusers", "transformers"):
        warm_up = seconds(lambda: drawn(2), device)
        return statistics.median(
            seconds(lambda: drawn(options.steps), device) for _ in range(options.repeat)
        ), warm_up


def draw(
    pipe: Any, text: torch.Tensor, pooled: torch.Tensor, seeds: Sequence[int], steps: int, size: int
) -> torch.Tensor:
    """Generate images as the generator does; uint8 [batch, 3, size, size] in CPU memory.

    Args:
        pipe: see ``build``.
        text: embeddings of the prompts [batch, 77, C].
        pooled: pooled ones [batch, P].
        size: side in pixels.
    """
    text, pooled = (value.to(pipe.device, pipe.unet.dtype) for value in (text, pooled))
    with deterministic_arithmetic():
        images: torch.Tensor = pipe(
            prompt_embeds=text,
            pooled_prompt_embeds=pooled,
            negative_prompt_embeds=torch.zeros_like(text),
            negative_pooled_prompt_embeds=torch.zeros_like(pooled),
            num_inference_steps=steps,
            guidance_scale=5.0,
            height=size,
            width=size,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="pt",
        ).images
    return images.mul(255).to(torch.uint8).cpu()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run all requested measurements and return JSON values; prints each as it comes."""
    architecture = ARCHITECTURES[options.architecture]
    options.size = options.size or architecture.size
    device = find_device(options.device)
    dtype = getattr(torch, options.dtype or ("float32" if device.type == "cpu" else "float16"))
    step, decoding = operations(architecture, options.size)
    image = 2 * options.steps * step + decoding
    limit = peak(device, dtype, architecture.matrix)
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    )
    print(f"{name}; {options.architecture} at {options.size}, {options.steps} steps, {dtype}")
    print(f"an image: {image / 1e12:.3g} TFLOP (a pass {step / 1e12:.3g}, decoding {decoding / 1e12:.3g})")
    print(f"largest product: {limit / 1e12:.3g} TFLOP/s, so at most {limit / image:.3g} images/s")
    figures = []
    for variant in variants(options):
        pipe = build(architecture, device, dtype)
        if variant.fused:
            pipe.fuse_qkv_projections()
        asked = {"compile": variant.compile, "channels_last": variant.channels_last}
        place(pipe, device, DiffusionSettings.model_validate(asked))
        for batch in options.batches:
            figure = _figure(pipe, architecture, variant, batch, options, image / limit)
            figures.append(figure)
            said = figure.failed or (
                f"{figure.images_per_second:8.3f} images/s {figure.share_of_limit:6.1%} of the limit"
                f" {figure.gigabytes:6.1f} GB, warm-up {figure.warm_up:.1f} s"
            )
            print(f"{variant.name:16} batch {batch:3} {said}", flush=True)
        del pipe
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return {
        "device": name,
        "torch": torch.__version__,
        "architecture": options.architecture,
        "size": options.size,
        "steps": options.steps,
        "dtype": str(dtype),
        "flop_pass": step,
        "flop_decoding": decoding,
        "flops_peak": limit,
        "figures": [asdict(figure) for figure in figures],
    }


def variants(options: argparse.Namespace) -> Iterator[Variant]:
    """Yield the requested variants, the generator's own first, all combined last."""
    yield Variant("default")
    if options.channels_last:
        yield Variant("contiguous", channels_last=False)
        yield Variant("channels last", channels_last=True)
    if options.fused:
        yield Variant("fused qkv", fused=True)
    for name in options.attention:
        yield Variant(f"{name} attention", attention=_ATTENTION[name])
    if options.compile:
        yield Variant("compile", compile=True)
        if options.fused:
            yield Variant("compile, fused", compile=True, fused=True)


_ATTENTION = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}


@contextlib.contextmanager
def _attention(kernel: SDPBackend | None) -> Iterator[None]:
    with sdpa_kernel(kernel) if kernel is not None else contextlib.nullcontext():
        yield


def _figure(
    pipe: Any,
    architecture: Architecture,
    variant: Variant,
    batch: int,
    options: argparse.Namespace,
    least: float,
) -> Figure:
    on_gpu = pipe.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(pipe.device)
    try:
        took, warm_up = measure(pipe, architecture, variant, batch, options)
    except RuntimeError as error:
        return Figure(
            variant.name,
            batch,
            failed="does not fit into memory" if is_out_of_memory(error) else short_reason(error),
        )
    finally:
        if on_gpu:
            torch.cuda.empty_cache()
    gigabytes = torch.cuda.max_memory_allocated(pipe.device) / 1e9 if on_gpu else 0.0
    return Figure(variant.name, batch, batch / took, least * batch / took, gigabytes, warm_up)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="sdxl")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--size", type=int, help="side in pixels; the architecture's own by default")
    parser.add_argument(
        "--batches", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 4, 8, 16]
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    parser.add_argument("--channels-last", action="store_true", help="also in both memory layouts")
    parser.add_argument("--fused", action="store_true", help="also with fused projections of attention")
    parser.add_argument(
        "--attention", nargs="*", choices=_ATTENTION, default=[], help="also with these kernels alone"
    )
    parser.add_argument("--threads", type=int, help="threads of a CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    found = run(options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
