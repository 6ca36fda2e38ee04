"""Tiny text-to-image pipelines with random weights, in the layouts that diffusers saves and loads."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

from line_neurons.agent.diffusion_settings import DiffusionSettings
from line_neurons.agent.ports import DrawnImage, ImageRequest, Progress
from line_neurons.tools.generators.presets import parse_source
from line_neurons.tools.generators.text_to_image import TextToImage
from line_neurons.tools.images.png import with_file

WIDTH = 32
CONTEXT = 77


def byte_symbols() -> dict[str, int]:
    """The 256 byte symbols of byte-level BPE, each also as the end of a word, and the two specials of CLIP."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(byte) for byte in visible]
    symbols += [chr(256 + index) for index in range(256 - len(visible))]
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    return {word: index for index, word in enumerate(words)}


def tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer that knows single bytes only."""
    made = CLIPTokenizer(vocab=byte_symbols(), merges=[], model_max_length=CONTEXT)
    assert len(made) == 514
    assert made("cat").input_ids != made("dog").input_ids
    return made


def t5_tokenizer() -> Any:
    """A T5 tokenizer of single letters."""
    from transformers import T5TokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [(letter, -3.0) for letter in string.ascii_lowercase + string.digits + ",.'-"]
    made = T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=CONTEXT)
    assert made("cat").input_ids != made("dog").input_ids
    return made


def text_encoder(projected: bool = False) -> CLIPTextModel:
    """Two layers of CLIP's text encoder."""
    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=WIDTH,
        intermediate_size=37,
        projection_dim=WIDTH,
        num_attention_heads=4,
        num_hidden_layers=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def vae(channels: int = 4, **options: Any) -> AutoencoderKL:
    """An autoencoder that halves width and height once."""
    return AutoencoderKL(
        block_out_channels=[32, 64],
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=channels,
        sample_size=64,
        **options,
    )


def unet(**options: Any) -> UNet2DConditionModel:
    """A denoiser of two levels."""
    return UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **options,
    )


def sdxl() -> StableDiffusionXLPipeline:
    """Stable Diffusion XL in small."""
    torch.manual_seed(0)
    return StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder(projected=True),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=unet(
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 2),
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
            cross_attention_dim=2 * WIDTH,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
        add_watermarker=False,
    )


def sd15() -> StableDiffusionPipeline:
    """Stable Diffusion 1.5 in small."""
    torch.manual_seed(0)
    return StableDiffusionPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        unet=unet(attention_head_dim=4, cross_attention_dim=WIDTH),
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def flux(guided: bool = True, layers: int = 1) -> FluxPipeline:
    """FLUX.1 in small; dev is guided, schnell is not.

    Args:
        layers: blocks with separate streams of text and image, ahead of the one with a single stream.
    """
    torch.manual_seed(0)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=guided),
        vae=vae(1, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=64, d_model=WIDTH, d_kv=8, d_ff=37, num_heads=4, num_layers=2)
        ),
        tokenizer_2=t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=4,
            num_layers=layers,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            axes_dims_rope=[4, 4, 8],
            guidance_embeds=guided,
        ),
    )


def save(pipeline: Any, folder: Path, **options: Any) -> Path:
    """Write a pipeline as safetensors; give ``variant="fp16"`` for the names that halves have."""
    pipeline.save_pretrained(folder, safe_serialization=True, **options)
    return folder


LIGHTNING = ("sdxl_lightning_4step_unet.safetensors", "sdxl_lightning_1step_unet_x0.safetensors")


def save_denoiser(file: Path) -> None:
    """Write a denoiser's weights alone, other ones than the pipeline's."""
    from safetensors.torch import save_file

    pipeline = sdxl()
    weights = {name: value * 1.1 for name, value in pipeline.unet.state_dict().items()}
    save_file(weights, file)


def save_lora(folder: Path, seed: int = 0) -> Path:
    """Write a LoRA for the tiny SDXL's denoiser and first text encoder."""
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = sdxl()
    torch.manual_seed(seed)
    states = []
    for network, targets in ((pipeline.unet, ["to_q", "to_v"]), (pipeline.text_encoder, ["q_proj", "v_proj"])):
        network.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=targets, init_lora_weights=False))
        states.append(convert_state_dict_to_diffusers(get_peft_model_state_dict(network)))
    StableDiffusionXLPipeline.save_lora_weights(
        folder, unet_lora_layers=states[0], text_encoder_lora_layers=states[1], safe_serialization=True
    )
    return folder / "pytorch_lora_weights.safetensors"


def ask(text: str, seed: int = 0) -> ImageRequest:
    """A request for an image of ``text``."""
    return ImageRequest(text, "wide-angle", "natural", seed, "{concept}, {angle}")


class Encoding(TextToImage):
    """A generator of images with their files, which those who keep an image encode."""

    def synthesize(self, requests: Sequence[ImageRequest], progress: Progress | None = None) -> list[DrawnImage]:
        return [with_file(image) for image in super().synthesize(requests, progress)]


def tiny(spec: object, *, steps: int = 2, size: int = 32, device: str = "cpu", **settings: Any) -> TextToImage:
    """A generator of small images."""
    wanted = DiffusionSettings(steps=steps, size=size, **settings)
    return Encoding(parse_source(str(spec)), wanted, device=device, download=False, expected_batch=5)
