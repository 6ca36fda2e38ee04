"""Settings of a run: line.toml < environment (LINE_...) < flags."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from line_neurons.agent.concepts import normalise_concept
from line_neurons.agent.diffusion_settings import DiffusionSettings, absolute_path
from line_neurons.agent.engine_settings import EngineSettings
from line_neurons.agent.errors import UsageError
from line_neurons.agent.presets import OLLAMA_SAMPLING, SEARCH_SHARE, fixed_by, with_preset
from line_neurons.agent.prompts import IMAGE_TEMPLATE
from line_neurons.agent.setting_groups.guidance import FROM_CONTROL_SET, GuidanceSettings, check_init
from line_neurons.agent.setting_groups.target import TargetSettings
from line_neurons.agent.settings_sources import (
    CONFIG_FILE,
    ENV_PREFIX,
    check_toml,
    current_names,
    invalid_setting,
    named_source,
    outside_sources,
    refuse_mistyped_variables,
)

ScorerName = Literal["mean", "auc", "mad"]
SCORERS_WITHOUT_CONTROL: frozenset[ScorerName] = frozenset({"mean"})


class Settings(EngineSettings, GuidanceSettings, TargetSettings):
    """Settings of a run, recorded with it.

    The method's numbers default to the paper's (section 3.2, appendix D); ``presets.PAPER`` has all of them.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", validate_default=True
    )
    from_outside: ClassVar[bool] = True
    fixed: ClassVar[Mapping[str, Any]] = {}

    seed: int = Field(0, ge=0, lt=2**31, description="Run seed; all other seeds derive from it.")
    iterations: int = Field(10, ge=0, le=1000, description="Refinement iterations N before the summary.")
    summary: bool = Field(True, description="End with the summary step.")
    images: int = Field(5, ge=1, le=1000, description="Images per concept, n.")
    top: int = Field(5, ge=0, le=1000, description="Best-ranked concepts on the initial scoreboard.")
    random: int = Field(5, ge=0, le=1000, description="Random other concepts on the initial scoreboard.")
    random_pool: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Size of the pool, shared by all units, that random concepts are drawn from; 0: all concepts.",
    )
    patience: int = Field(
        0,
        ge=0,
        le=1000,
        description="Stop a search after this many iterations without a better concept; 0: never.",
    )
    max_iterations: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="With patience: upper limit of iterations while a unit improves; not set: no extra ones.",
    )
    restarts: int = Field(
        0, ge=0, le=100, description="Number of extra searches from a fresh board that exclude earlier labels."
    )
    restart_by: Literal["images", "words"] = Field(
        "images",
        description="What restarts exclude: concepts with the same images as earlier labels, or (as in the paper) "
        "all that was tried and words of earlier labels.",
    )
    facets: int = Field(
        0,
        ge=0,
        le=4,
        description="Number of extra searches, each for another facet: images that excite the unit, unlike those "
        "of its label.",
    )
    scorer: ScorerName = Field(
        "mean", description="Scorer: mean activation, or mean difference (mad) or AUC against the control set."
    )
    modifiers: Literal["per-image", "per-concept"] = Field(
        "per-image", description="Choose angle and lighting for each image, or once per concept."
    )
    template: str = Field(
        IMAGE_TEMPLATE,
        description="Prompt of the image generator; {concept}, {angle} and {lighting} are filled in.",
    )

    llm: str = Field(
        "ollama:llama3.1:8b",
        description="Language model: ollama:NAME, openai:MODEL, langchain:CLASS, embedded[:PACK]; or none: "
        "random, near or guided.",
    )
    ollama: str = Field(
        "", description="Ollama servers, separated by commas; not set: OLLAMA_HOST, or this machine."
    )
    base_url: str = Field(
        "", description="OpenAI-compatible servers of openai:MODEL, separated by commas; not set: OPENAI_BASE_URL."
    )
    context: int = Field(4096, ge=2048, le=1_000_000, description="Context length of Ollama models, in tokens.")
    reply_tokens: int = Field(512, ge=32, le=100_000, description="Longest reply of a server's model, in tokens.")
    timeout: float = Field(300, gt=0, le=86_400, description="Seconds to wait for a reply of a server.")
    think: Literal["auto", "on", "off"] = Field(
        "auto", description="Let a reasoning model of Ollama think before it replies."
    )
    langchain: dict[str, Any] = Field({}, description="Arguments of the LangChain chat model.")
    temperature: float = Field(0.5, ge=0, le=2, description="Sampling temperature.")
    top_p: float = Field(0.9, gt=0, le=1, description="Nucleus sampling.")
    # Runs recorded before these settings existed have none: the model's own file decides.
    top_k: int | None = Field(
        OLLAMA_SAMPLING["top_k"], ge=0, description="Ollama: sample from this many most likely tokens; 0: all."
    )
    min_p: float | None = Field(
        OLLAMA_SAMPLING["min_p"],
        ge=0,
        le=1,
        description="Ollama: minimum probability relative to the most likely token.",
    )
    typical_p: float | None = Field(
        OLLAMA_SAMPLING["typical_p"], gt=0, le=1, description="Ollama: locally typical sampling; 1: off."
    )
    repeat_penalty: float | None = Field(
        OLLAMA_SAMPLING["repeat_penalty"], gt=0, le=10, description="Ollama: penalty of repeated tokens; 1: none."
    )
    repeat_last_n: int | None = Field(
        OLLAMA_SAMPLING["repeat_last_n"],
        ge=-1,
        description="Ollama: number of last tokens checked for repetitions; -1: the whole context.",
    )
    presence_penalty: float | None = Field(
        OLLAMA_SAMPLING["presence_penalty"],
        ge=-2,
        le=2,
        description="Ollama, openai: penalty of tokens that occurred already.",
    )
    frequency_penalty: float | None = Field(
        OLLAMA_SAMPLING["frequency_penalty"],
        ge=-2,
        le=2,
        description="Ollama, openai: penalty of tokens by how often they occurred.",
    )
    retries: int = Field(3, ge=0, le=20, description="Retries per step after a refused proposal.")
    retry_temperature_step: float = Field(0.2, ge=0, le=1, description="Added to the temperature at each retry.")
    duplicates: Literal["refuse", "accept", "overwrite"] = Field(
        "refuse",
        description="A repeated concept is refused and another requested, or scored again: the board keeps the "
        "better score (accept), or the new one and one concept less (overwrite, as the paper's authors did).",
    )
    forbidden: Literal["off-board", "proposed"] = Field(
        "off-board",
        description="Concepts a request forbids: those tried that are not on the board, or all those proposed "
        "before and nothing else (as in the paper; its summary sees the top three only).",
    )
    hints: int = Field(
        12,
        ge=0,
        le=100,
        description="Caption hints in the prompt: things the image bank shows near the best concepts; 0: none.",
    )
    generator: str = Field(
        "sdxl",
        description="Image generator: preset (sdxl), folder, hub id, bank, bank+icons, render or bank:FOLDER.",
    )
    diffusion: DiffusionSettings = Field(DiffusionSettings(), description="Settings of a text-to-image pipeline.")
    threshold: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Minimum caption similarity for the image bank to show a concept; not set: the bank's own.",
    )
    control_seed: int | None = Field(
        None, ge=0, lt=2**31, description="Seed of the image bank's control set; not set: the run's seed."
    )
    init: Literal["control", "images", "vocabulary", "cache", "model"] = Field(
        "control",
        description="Initial scoreboard: classes ranked on the control set, what its strongest images share, "
        "words of a list, concepts in the store's cache, or proposals of the language model.",
    )
    vocabulary: Path | None = Field(
        None, description="Word list for init vocabulary, a word per line; not set: ImageNet's class names."
    )
    control: str | None = Field(
        None,
        description="Control set: a folder, hf:DATASET, an .npz file, bank or none; "
        "not set: bank with init control, else none.",
    )
    control_images: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Control images per class, or in total for a set without classes; not set: 50, of the bank 4.",
    )
    class_names: Path | None = Field(
        None,
        description="File of names for the class folders of the control set; not set: the folders' names.",
    )
    image_range: Annotated[tuple[float, float] | None, NoDecode] = Field(
        None,
        description="Black and white value of 16-bit and float images, as LOW,HIGH; not set: 0,65535, "
        "and 0,1 of floats.",
    )
    vocabulary_share: float | None = Field(
        None, gt=0, le=1, description="Share of the bank's captions to begin with; not set: all; of rendered: 1/3."
    )
    exclude: tuple[str, ...] = Field((), description="Concept to keep out of the initial vocabulary.")
    exclude_for: dict[int, tuple[str, ...]] = Field(
        {}, description="Concepts to keep off the initial scoreboard of single units, by unit."
    )

    device: str = Field("auto", description="Device of target and generator: auto, cpu, cuda ...")
    batch_size: int | None = Field(
        None, ge=1, description="Images per forward pass; not set: chosen for the target."
    )
    download: bool = Field(False, description="Download missing weights and data sets.")

    max_concurrent_units: int = Field(1, ge=1, le=1024, description="Units worked on at the same time.")
    llm_parallel: int = Field(1, ge=1, le=256, description="Requests to the language model at the same time.")
    batch_timeout: float = Field(
        0.05, ge=0, le=60, description="Seconds that images wait for others to fill a batch."
    )
    max_consecutive_failures: int = Field(1, ge=1, description="Stop after this many failed units in a row.")
    revisit: bool = Field(False, description="At the end, score every unit on every concept that any unit found.")

    label_dead: bool = Field(
        False, description="Label units that do not respond to anything, too; the label is marked."
    )

    store: Path | None = Field(None, description="Folder of runs, images and checkpoints.")
    assets: Path | None = Field(None, description="Folder of installed asset packs.")

    @property
    def capacity(self) -> int:
        """Concepts on the board."""
        return self.top + self.random

    @property
    def searches(self) -> int:
        """Most searches of a unit: the first, restarts, and those for facets."""
        return 1 + self.restarts + self.facets

    @field_validator("template")
    @classmethod
    def _has_concept(cls, template: str) -> str:
        if "{concept}" not in template:
            raise ValueError("must contain {concept}")
        return template

    @field_validator("exclude")
    @classmethod
    def _clean(cls, concepts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(normalise_concept(concept, max_words=10) for concept in concepts)

    @field_validator("image_range", mode="before")
    @classmethod
    def _two_numbers(cls, given: object) -> object:
        return tuple(given.split(",")) if isinstance(given, str) else given

    @field_validator("image_range")
    @classmethod
    def _ascends(cls, given: tuple[float, float] | None) -> tuple[float, float] | None:
        if given is not None and not (math.isfinite(given[0]) and given[0] < given[1] < math.inf):
            raise ValueError("must be two numbers LOW,HIGH, the first below the second")
        return given

    @field_validator("vocabulary", "class_names")
    @classmethod
    def _from_anywhere(cls, path: Path | None) -> Path | None:
        """Make paths absolute, so that a run can be resumed from another folder."""
        return path.expanduser().absolute() if path else None

    @field_validator("generator")
    @classmethod
    def _generator_from_anywhere(cls, generator: str) -> str:
        """Make a folder absolute; a bare name without ``/`` is a preset or ``bank``."""
        for mark in ("=", ":"):
            name, found, place = generator.partition(mark)
            if found and Path(place).expanduser().exists():
                return f"{name}{mark}{absolute_path(place)}"
        return absolute_path(generator) if "/" in generator else generator

    @field_validator("control")
    @classmethod
    def _control_from_anywhere(cls, control: str | None) -> str | None:
        prefix, place = ("hf:", control[3:]) if control and control.startswith("hf:") else ("", control or "")
        folder, at, split = place.partition("@")
        path = Path(folder).expanduser()
        known = not folder or control in {"bank", "none"} or not path.exists()
        return control if known else f"{prefix}{path.absolute()}{at}{split}"

    @model_validator(mode="after")
    def _fill_control(self) -> Settings:
        if self.control is None:
            self.control = "bank" if self.init in FROM_CONTROL_SET else "none"
        from_it = self.init in FROM_CONTROL_SET
        if self.control == "none" and (from_it or self.scorer not in SCORERS_WITHOUT_CONTROL):
            needs = f"init {self.init}" if from_it else f"scorer {self.scorer}"
            raise ValueError(f"{needs} needs a control set; name one with control")
        return self

    @model_validator(mode="after")
    def _further_iterations_fit(self) -> Settings:
        if self.max_iterations is None:
            return self
        if not self.patience:
            raise ValueError("max_iterations needs patience; name both")
        if self.max_iterations < self.iterations:
            raise ValueError(f"max_iterations {self.max_iterations} is below iterations {self.iterations}")
        return self

    @model_validator(mode="after")
    def _board_can_be_filled(self) -> Settings:
        if self.capacity < 1:
            raise ValueError("top and random together must be at least 1")
        check_init(self.init, self.llm)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags first, then the environment, then line.toml."""
        named = named_source(settings_cls, init_settings)
        return (named, *outside_sources(settings_cls)) if cls.from_outside else (named,)


def setting_names() -> list[str]:
    """Return the names of all settings, those of a table as ``diffusion__steps``."""
    entries = [f"diffusion__{entry}" for entry in DiffusionSettings.model_fields]
    return [name for name in Settings.model_fields if name != "diffusion"] + entries


def load_settings(config: Path | None = None, *, preset: str | None = None, **flags: Any) -> Settings:
    """Load settings from a file, the environment, a preset and flags; later ones win.

    Without ``config``, ``line.toml`` in the working folder is read if it exists. Flags that are None are ignored.

    Raises:
        UsageError: the file is missing or malformed, a value is invalid, or the preset is unknown or lacks a
            control set.
    """
    refuse_mistyped_variables(os.environ, setting_names())
    given = current_names({name: value for name, value in flags.items() if value is not None})
    by_user = given.keys()
    if preset is not None:
        given = with_preset(preset, given)
    source, path = settings_class(config, preset, by_user)
    try:
        settings = source(**given)
    except ValidationError as error:
        raise invalid_setting(error, path.name if path else CONFIG_FILE, setting_names()) from None
    except SettingsError as error:
        found = re.search(r'field "(\w+)"', str(error))
        name = f"LINE_{found[1].upper()}" if found else "a variable LINE_..."
        raise UsageError(
            f"{name} in the environment is not JSON", f'a list is written {name}=\'["one", "two"]\''
        ) from None
    if preset is not None and settings.control == "bank" and flags.get("control") != "bank":
        # The image bank would silently replace the paper's control set.
        raise UsageError(
            f"preset {preset} starts from the ImageNet-1K validation set, and no control set is named",
            "name it with --control FOLDER or hf:DATASET; --control bank uses the image bank",
        )
    return settings


def settings_class(
    config: Path | None, preset: str | None, by_user: Collection[str]
) -> tuple[type[Settings], Path | None]:
    """Return the class that reads the settings file, and the file if there is one; see ``load_settings``.

    Args:
        preset: a preset, which wins over file and environment.

    Raises:
        UsageError: the file is missing or malformed.
    """
    path = config or Path(CONFIG_FILE)
    if config is not None and not config.is_file():
        raise UsageError(f"there is no settings file {str(config)!r}", "name an existing file with --config")
    if os.path.lexists(path) and not path.is_file():
        what = "a folder" if path.is_dir() else "not a regular file, or a broken link"
        raise UsageError(f"{str(path)!r} is {what}", "put a settings file in its place, or remove it")
    source: type[Settings] = Settings
    found = path if path.is_file() else None
    if found:
        check_toml(path)
        source = type("Settings", (Settings,), {"model_config": {**Settings.model_config, "toml_file": path}})
    if preset is not None:
        source = type("Settings", (source,), {"fixed": fixed_by(preset, by_user)})
    return source, found


class _Recorded(Settings):
    """Settings that take nothing from the environment or a file."""

    from_outside = False


def unrecorded(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return what settings that an old run did not record stood for then, where that is not today's default.

    It left Ollama's sampling options to its model's file, and took the mean of detectors' queries and a third of a
    bank's captions; its restarts stayed away from words.
    """
    asked_ollama = str(recorded.get("llm")).startswith("ollama:")
    sampling = dict.fromkeys(OLLAMA_SAMPLING.keys() - recorded.keys()) if asked_ollama else {}
    then: dict[str, Any] = {"query_pool": "mean", "vocabulary_share": SEARCH_SHARE}
    if recorded.get("restarts"):
        then["restart_by"] = "words"
    return sampling | {name: value for name, value in then.items() if name not in recorded}


def revised(recorded: Mapping[str, Any], changes: Mapping[str, Any]) -> Settings:
    """Return recorded settings with changes; neither the environment nor a file is read.

    What was not recorded stays what it was; see ``unrecorded``.

    Raises:
        UsageError: a changed value does not fit.
    """
    diffusion = {**recorded.get("diffusion", {}), **changes.get("diffusion", {})}
    named = {**unrecorded(recorded), **current_names(recorded), **current_names(changes), "diffusion": diffusion}
    try:
        return _Recorded(**named)
    except ValidationError as error:
        raise invalid_setting(error, CONFIG_FILE, setting_names()) from None
