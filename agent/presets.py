"""Settings that belong together, by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from line_neurons.agent.engine_settings import ENGINE
from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.prompts import IMAGE_TEMPLATE

OLLAMA_SAMPLING: Mapping[str, Any] = {
    "top_k": 40,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_penalty": 1.1,
    "repeat_last_n": 64,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Ollama's sampling defaults, where neither a request nor the model's own file names others."""

SERVERS = ("ollama", "base_url")
"""Settings with addresses of servers."""

UNRECORDED = ("store", "assets", *SERVERS, *ENGINE)
"""Settings of this machine that are never recorded with a run."""

SEARCH_SHARE = 1 / 3
"""Share of an image bank's captions that a search begins with where there is to be something to find."""

PAPER: Mapping[str, Any] = {
    "seed": 0,
    "init": "control",
    "vocabulary": None,
    "vocabulary_share": SEARCH_SHARE,
    "exclude": (),
    "exclude_for": {},
    "top": 5,
    "random": 5,
    "random_pool": 0,
    "control": None,
    "control_images": 50,
    "class_names": None,
    "image_range": None,
    "layout": (),
    # The paper labels every unit; a label of one that nothing could be the label of is marked.
    "label_dead": True,
    "control_seed": None,
    "iterations": 10,
    "summary": True,
    "patience": 0,
    "max_iterations": None,
    "restarts": 0,
    "restart_by": "words",
    "facets": 0,
    "revisit": False,
    "images": 5,
    "scorer": "mean",
    "weights": None,
    "pool": "auto",
    "query_pool": "max",
    "tokens": "auto",
    "sae": None,
    "sae_input": None,
    "sae_activation": None,
    "sae_minus_b_dec": None,
    "sae_force": False,
    "directions": None,
    "precision": "float32",
    "channels_last": False,
    "template": IMAGE_TEMPLATE,
    "modifiers": "per-image",
    "llm": "ollama:llama3.1:8b",
    "langchain": {},
    "context": 4096,
    "reply_tokens": 512,
    "think": "off",
    "temperature": 0.5,
    "top_p": 0.9,
    # The paper names temperature and top_p alone; the authors' code leaves the rest to transformers.
    **OLLAMA_SAMPLING,
    "top_k": 50,
    "repeat_penalty": 1.0,
    "forbidden": "proposed",
    "duplicates": "overwrite",
    # Of unusable replies only: the paper does not mention them, and they would end the authors' own program.
    "retries": 3,
    "retry_temperature_step": 0.0,
    "hints": 0,
    "hints_by": "near",
    "candidates": None,
    "text_encoder": "minilm",
    "captioner": "captions",
    "proposals": 1,
    "generate": 1,
    "until": 0.0,
    "generator": "sdxl",
    "threshold": None,
    # As the generator's own model card says: 25 steps, guidance 5.0, 1024 pixels, float16 for sdxl.
    "diffusion": {
        **dict.fromkeys(("steps", "guidance", "size", "dtype", "revision", "scheduler", "channels_last")),
        "lora": (),
        "vae_tiling": False,
        "compile": False,
    },
}
"""The method of the paper (section 3.2, appendix D); docs/explain.md names our own choices."""

MACHINE: Mapping[str, frozenset[str]] = {
    "": frozenset({
        *SERVERS, *ENGINE, "timeout", "device", "batch_size", "download", "max_concurrent_units", "llm_parallel",
        "batch_timeout", "max_consecutive_failures", "store", "assets", "diffusion",
    }),
    "diffusion": frozenset({"offload", "vae_slicing", "batch"}),
}  # fmt: skip
"""Settings that decide where and how fast a run is processed, and no label; by table."""

BATCH: Mapping[str, Any] = {"max_concurrent_units": 16, "max_consecutive_failures": 10, "revisit": True}
"""Defaults of ``line batch`` that differ from the settings' own."""

PRESETS: Mapping[str, Mapping[str, Any]] = {"paper": PAPER}


def with_preset(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a preset, overridden by those that were given.

    Raises:
        UsageError: there is no such preset.
    """
    if name not in PRESETS:
        raise UsageError(f"{name!r:.40} is no preset", choices(name, PRESETS))
    preset = PRESETS[name]
    diffusion = {**preset.get("diffusion", {}), **given.get("diffusion", {})}
    return {**preset, **given, "diffusion": diffusion}


def fixed_by(name: str, given: Collection[str]) -> dict[str, Any]:
    """Return the settings that a preset fixes against files and the environment.

    A language model among the names of ``given`` settings brings its own arguments.
    """
    return {key: value for key, value in PRESETS[name].items() if key != "langchain" or "llm" not in given}
