"""The settings as keyword arguments of the Python interface, for type checkers and editors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from line_neurons.agent.diffusion_settings import DiffusionSettings, Precision
from line_neurons.agent.setting_groups.target import Pool, QueryPool, Tokens
from line_neurons.agent.settings import ScorerName


class SettingsArguments(TypedDict, total=False):
    """Any setting by name; see ``Settings`` for their meaning and defaults.

    ``preset`` is a whole method. The file of names for class folders, ``class_names``, is a setting of line.toml
    and the environment only: as an argument it has the names of a model's output units.
    """

    preset: Literal["paper"]
    seed: int
    iterations: int
    summary: bool
    images: int
    top: int
    random: int
    random_pool: int
    patience: int
    max_iterations: int | None
    restarts: int
    restart_by: Literal["images", "words"]
    facets: int
    scorer: ScorerName
    modifiers: Literal["per-image", "per-concept"]
    template: str
    llm: str
    ollama: str
    base_url: str
    context: int
    reply_tokens: int
    timeout: float
    think: Literal["auto", "on", "off"]
    langchain: Mapping[str, Any]
    temperature: float
    top_p: float
    top_k: int | None
    min_p: float | None
    typical_p: float | None
    repeat_penalty: float | None
    repeat_last_n: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    retries: int
    retry_temperature_step: float
    duplicates: Literal["refuse", "accept", "overwrite"]
    forbidden: Literal["off-board", "proposed"]
    hints: int
    hints_by: Literal["near", "improvement"]
    candidates: Literal["drawable", "vocabulary", "wordnet"] | None
    text_encoder: str
    captioner: str
    proposals: int
    generate: int
    until: float
    generator: str
    diffusion: DiffusionSettings | Mapping[str, Any]
    threshold: float | None
    control_seed: int | None
    init: Literal["control", "images", "vocabulary", "cache", "model"]
    vocabulary: Path | str | None
    control: str | None
    control_images: int | None
    image_range: tuple[float, float] | None
    vocabulary_share: float | None
    exclude: Sequence[str]
    exclude_for: Mapping[int, Sequence[str]]
    weights: Path | str | None
    pool: Pool
    query_pool: QueryPool
    tokens: Tokens
    sae: Any
    sae_input: Path | str | None
    sae_activation: str | None
    sae_minus_b_dec: bool | None
    sae_force: bool
    directions: Path | str | None
    layout: Sequence[str]
    precision: Precision
    channels_last: bool
    device: str
    generator_device: str
    target_device: str
    devices: str
    ray: str
    workers: int | None
    worker_gpus: float
    worker_cpus: float
    worker_memory: float
    worker_files: str
    trust_network: bool
    batch_size: int | None
    download: bool
    max_concurrent_units: int
    llm_parallel: int
    batch_timeout: float
    max_consecutive_failures: int
    revisit: bool
    label_dead: bool
    store: Path | str | None
    assets: Path | str | None
