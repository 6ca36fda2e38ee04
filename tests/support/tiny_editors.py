"""Tiny pipelines that edit images, with random weights, in the layouts that diffusers saves and loads."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import transformers

from support import tiny_pipelines as tiny


def ip2p() -> Any:
    """InstructPix2Pix in small."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel.from_config(
        {**tiny.unet(attention_head_dim=4, cross_attention_dim=tiny.WIDTH).config, "in_channels": 8}
    )
    return diffusers.StableDiffusionInstructPix2PixPipeline(
        vae=tiny.vae(), text_encoder=tiny.text_encoder(), tokenizer=tiny.tokenizer(), unet=unet,
        scheduler=diffusers.EulerAncestralDiscreteScheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def sdxl_inpaint() -> Any:
    """SDXL's inpainting model in small."""
    base = tiny.sdxl()
    unet = diffusers.UNet2DConditionModel.from_config({**base.unet.config, "in_channels": 9})
    return diffusers.StableDiffusionXLInpaintPipeline(
        vae=base.vae, text_encoder=base.text_encoder, text_encoder_2=base.text_encoder_2, tokenizer=base.tokenizer,
        tokenizer_2=base.tokenizer_2, unet=unet, scheduler=base.scheduler, add_watermarker=False,
    )  # fmt: skip


def kontext() -> Any:
    """FLUX.1 Kontext in small."""
    base = tiny.flux(True)
    return diffusers.FluxKontextPipeline(
        scheduler=base.scheduler, vae=base.vae, text_encoder=base.text_encoder, tokenizer=base.tokenizer,
        text_encoder_2=base.text_encoder_2, tokenizer_2=base.tokenizer_2, transformer=base.transformer,
    )  # fmt: skip


def qwen_edit() -> Any:
    """Qwen-Image-Edit in small, with a byte-level tokenizer."""
    symbols = [symbol for symbol in tiny.byte_symbols() if not symbol.endswith("</w>") and symbol[:2] != "<|"]
    special = [
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
        "<|image_pad|>", "<|video_pad|>",
    ]  # fmt: skip
    tokenizer = transformers.Qwen2Tokenizer(
        vocab={symbol: index for index, symbol in enumerate(symbols)}, merges=[], model_max_length=4096
    )
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in special}
    processor = transformers.Qwen2VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=56 * 56),
        tokenizer=tokenizer,
        video_processor=transformers.Qwen2VLVideoProcessor(),
    )
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16}
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            **small, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
            "vocab_size": len(tokenizer), "rope_theta": 1e6,
            "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
        },
        vision_config={**small, "depth": 2, "num_heads": 2, "out_hidden_size": 16},
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        vision_token_id=ids["<|vision_pad|>"],
    )  # fmt: skip
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=3,
        joint_attention_dim=16, guidance_embeds=False, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=24, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    return diffusers.QwenImageEditPlusPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=vae, tokenizer=tokenizer, processor=processor,
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(config).eval(), transformer=transformer,
    )  # fmt: skip


EDITORS = {"ip2p": ip2p, "sdxl-inpaint": sdxl_inpaint, "kontext": kontext, "qwen-edit": qwen_edit}
