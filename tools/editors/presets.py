"""Presets of models that edit images by words, with the settings of diffusers' documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from line_neurons.tools.generators.presets import Preset


@dataclass(frozen=True)
class EditPreset:
    """A model that edits images.

    Args:
        model: its files, pipeline and settings.
        side: of the canvas in pixels: a size of the model's own, so that it neither zooms nor crops.
        fills: it fills a region, and takes no instruction.
    """

    model: Preset
    side: int
    fills: bool = False


EDIT_PRESETS: Mapping[str, EditPreset] = {
    # Without a negative prompt its guidance is silently off, and with a size the result is zoomed.
    "qwen-edit": EditPreset(
        Preset(
            "Qwen/Qwen-Image-Edit-2511", "QwenImageEditPlusPipeline", 40, None, None, 57.7, "bfloat16", None,
            {"true_cfg_scale": 4.0, "negative_prompt": " "}, edits=True,
        ),
        1024,
    ),
    # Left alone it changes the proportions to one of 17 sizes.
    "kontext": EditPreset(
        Preset(
            "black-forest-labs/FLUX.1-Kontext-dev", "FluxKontextPipeline", 28, 2.5, 1024, 33.7, "bfloat16", None,
            {"max_area": 1024**2, "_auto_resize": False}, gated=True, edits=True,
        ),
        1024,
    ),
    "ip2p": EditPreset(
        Preset(
            "timbrooks/instruct-pix2pix", "StableDiffusionInstructPix2PixPipeline", 20, 7.5, None, 2.7, "float16",
            None, {"image_guidance_scale": 1.5}, edits=True,
        ),
        512,
    ),
    # Without a size it returns its own, whatever the image's.
    "sdxl-inpaint": EditPreset(
        Preset(
            "diffusers/stable-diffusion-xl-1.0-inpainting-0.1", "StableDiffusionXLInpaintPipeline", 25, 8.0, 1024,
            6.9, "float16", "fp16", {"strength": 0.99}, edits=True,
        ),
        1024,
        fills=True,
    ),
}  # fmt: skip
