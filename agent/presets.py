"""Settings that belong together, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.prompts import IMAGE_TEMPLATE

PAPER: Mapping[str, Any] = {
    "init": "control",
    "top": 5,
    "random": 5,
    "random_pool": 0,
    "control_images": 50,
    "iterations": 10,
    "summary": True,
    "patience": 0,
    "max_iterations": None,
    "restarts": 0,
    "revisit": False,
    "images": 5,
    "scorer": "mean",
    "pool": "auto",
    "template": IMAGE_TEMPLATE,
    "modifiers": "per-image",
    "llm": "ollama:llama3.1:8b",
    "temperature": 0.5,
    "top_p": 0.9,
    "duplicates": "accept",
    "hotter": 0.0,
    "hints": 0,
    "generator": "sdxl",
    # As the generator's own model card says: 25 steps, guidance 5.0, 1024 pixels, float16 for sdxl.
    "diffusion": {
        **dict.fromkeys(("steps", "guidance", "size", "dtype", "revision", "scheduler")),
        "lora": (),
    },
}
"""The method as the paper has it (section 3.2, appendix D), whatever line.toml and the environment say."""

PRESETS: Mapping[str, Mapping[str, Any]] = {"paper": PAPER}


def with_preset(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a preset with those that were given beside it in the place of its own.

    Raises:
        UsageError: there is no such preset.
    """
    if name not in PRESETS:
        raise UsageError(f"{name!r:.40} is no preset", f"choose from {', '.join(PRESETS)}")
    preset = PRESETS[name]
    diffusion = {**preset.get("diffusion", {}), **given.get("diffusion", {})}
    return {**preset, **given, "diffusion": diffusion}
