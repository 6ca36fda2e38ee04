"""Settings of a run: line.toml < environment (LINE_...) < flags."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from line_neurons.agent.concepts import normalise_concept
from line_neurons.agent.errors import UsageError
from line_neurons.agent.presets import OLLAMA_SAMPLING, fixed_by, with_preset
from line_neurons.agent.prompts import IMAGE_TEMPLATE

CONFIG_FILE = "line.toml"


Pool = Literal["auto", "mean", "max", "cls", "mean-tokens"]
Layout = Literal["channels-first", "channels-last", "tokens"]
"""Of a layer's output, beside the images of a batch: [K, H, W] or [K, L]; [H, W, K]; [T, K]."""
Precision = Literal["float32", "float16", "bfloat16"]
ScorerName = Literal["mean", "auc", "mad"]
SCORERS_WITHOUT_CONTROL: frozenset[ScorerName] = frozenset({"mean"})


def _absolute(place: str) -> str:
    path = Path(place).expanduser()
    return str(path.absolute()) if place and path.exists() else place


class DiffusionSettings(BaseModel):
    """How a text-to-image pipeline draws; what is None is as the preset or the model's own files say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int | None = Field(default=None, ge=1, le=1000, description="Denoising steps.")
    guidance: float | None = Field(default=None, ge=0, le=50, description="Guidance scale.")
    size: int | None = Field(default=None, ge=16, le=4096, description="Width and height in pixels.")
    dtype: Precision | None = Field(default=None, description="Precision of the weights.")
    revision: str | None = Field(
        default=None, description="Revision of the hub repository: branch, tag or commit."
    )
    lora: tuple[str, ...] = Field(default=(), description="LoRA files or hub ids, each PATH or PATH=WEIGHT.")
    scheduler: str | None = Field(default=None, description="Name of a diffusers scheduler class.")
    offload: Literal["none", "model", "sequential"] = Field(
        default="none", description="What waits in CPU memory."
    )
    vae_slicing: bool | None = Field(
        default=None, description="Decode one image at a time; none: where the VAE can."
    )
    vae_tiling: bool = Field(default=False, description="Decode in tiles.")
    compile: bool = Field(default=False, description="Compile the denoiser with torch.compile.")
    channels_last: bool | None = Field(
        default=None, description="Memory layout of the convolutions; none: on a GPU."
    )
    batch: int | None = Field(default=None, ge=1, le=256, description="Images in one batch; none: by the device.")

    @field_validator("lora")
    @classmethod
    def _loras_from_anywhere(cls, loras: tuple[str, ...]) -> tuple[str, ...]:
        parts = (_absolute(lora).rpartition("=") for lora in loras)
        return tuple(f"{_absolute(place)}{equals}{rest}" for place, equals, rest in parts)


def _without_fixed(found: dict[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """What a source says of the settings, and parts of tables, that a preset does not fix.

    Tables of two sources are merged, so that an empty one of a preset would be filled otherwise.
    """
    left: dict[str, Any] = {}
    for name, value in found.items():
        own = fixed.get(name)
        if name not in fixed:
            left[name] = value
        elif own and isinstance(own, Mapping) and isinstance(value, Mapping):
            left[name] = {part: one for part, one in value.items() if part not in own}
    return left


class _Environment(EnvSettingsSource):
    def __call__(self) -> dict[str, Any]:
        return _without_fixed(super().__call__(), getattr(self.settings_cls, "fixed", {}))


class _File(TomlConfigSettingsSource):
    def __call__(self) -> dict[str, Any]:
        return _without_fixed(super().__call__(), getattr(self.settings_cls, "fixed", {}))


class Settings(BaseSettings):
    """Everything that decides how a run goes; recorded with the run.

    The numbers of the method default to the paper's (section 3.2 and appendix D); ``presets.PAPER`` has all of it.
    """

    model_config = SettingsConfigDict(
        env_prefix="LINE_", env_nested_delimiter="__", extra="forbid", validate_default=True
    )
    from_outside: ClassVar[bool] = True
    fixed: ClassVar[Mapping[str, Any]] = {}

    seed: int = Field(0, ge=0, lt=2**31, description="Run seed; all other seeds derive from it.")
    iterations: int = Field(10, ge=0, le=1000, description="Refinement iterations N before the summary.")
    summary: bool = Field(True, description="End with the summary step.")
    images: int = Field(5, ge=1, le=1000, description="Images per concept, n.")
    top: int = Field(5, ge=0, le=1000, description="Best classes of the control set on the first board.")
    random: int = Field(5, ge=0, le=1000, description="Random other classes on the first board.")
    random_pool: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Draw the random others from so many classes that all units share; 0: from all classes.",
    )
    patience: int = Field(
        0, ge=0, le=1000, description="End a search after so many iterations without a better concept; 0: never."
    )
    max_iterations: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="With patience: go on beyond N, up to so many, while a unit still improves; none: no further.",
    )
    restarts: int = Field(
        0, ge=0, le=100, description="Search so often again from a new board, for something else than was found."
    )
    scorer: ScorerName = Field("mean", description="Scorer psi.")
    modifiers: Literal["per-image", "per-concept"] = Field(
        "per-image", description="Draw angle and lighting for each image, or once for a concept."
    )
    template: str = Field(IMAGE_TEMPLATE, description="Prompt of the images.")

    llm: str = Field(
        "ollama:llama3.1:8b",
        description="Language model: ollama:NAME, langchain:package.module.Class, embedded, random.",
    )
    ollama: str = Field("", description="Ollama servers, with commas between; none: OLLAMA_HOST, or this machine.")
    context: int = Field(4096, ge=2048, le=1_000_000, description="Context length of Ollama models, in tokens.")
    reply_tokens: int = Field(512, ge=32, le=100_000, description="Longest answer of an Ollama model, in tokens.")
    timeout: float = Field(300, gt=0, le=86_400, description="Seconds to wait for an answer of a server.")
    think: Literal["auto", "on", "off"] = Field("auto", description="Let a thinking model of Ollama think.")
    langchain: dict[str, Any] = Field({}, description="Arguments of the LangChain chat model.")
    temperature: float = Field(0.5, ge=0, le=2, description="Sampling temperature.")
    top_p: float = Field(0.9, gt=0, le=1, description="Nucleus sampling.")
    # Runs from before these were settings have none: they left them to the file of the model, and still do.
    top_k: int | None = Field(
        OLLAMA_SAMPLING["top_k"], ge=0, description="Ollama: sample from so many of the likeliest tokens; 0: all."
    )
    min_p: float | None = Field(
        OLLAMA_SAMPLING["min_p"],
        ge=0,
        le=1,
        description="Ollama: least share of the likeliest token's probability.",
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
        description="Ollama: tokens in which repetitions are looked for; -1: the whole context.",
    )
    presence_penalty: float | None = Field(
        OLLAMA_SAMPLING["presence_penalty"],
        ge=-2,
        le=2,
        description="Ollama: penalty of tokens that are there already.",
    )
    frequency_penalty: float | None = Field(
        OLLAMA_SAMPLING["frequency_penalty"],
        ge=-2,
        le=2,
        description="Ollama: penalty of tokens by how often they are there.",
    )
    retries: int = Field(3, ge=0, le=20, description="How often a refused proposal is asked for again.")
    hotter: float = Field(0.2, ge=0, le=1, description="Added to the temperature at each asking again.")
    duplicates: Literal["refuse", "accept", "overwrite"] = Field(
        "refuse",
        description="Ask again for a new concept, or score a repeated one again: the board keeps the better "
        "score, or the new one and a concept less (as the paper's authors did).",
    )
    forbidden: Literal["off-board", "proposed"] = Field(
        "off-board",
        description="What a question forbids beside the board: what was tried and is not on it, or what was "
        "proposed before and nothing else (as in the paper, whose summary sees the top three alone).",
    )
    hints: int = Field(
        12, ge=0, le=100, description="Name up to so many drawable things near the best concepts; 0: none."
    )

    generator: str = Field(
        "sdxl", description="Where images come from: a preset, a folder or hub id, bank or bank:FOLDER."
    )
    diffusion: DiffusionSettings = Field(DiffusionSettings(), description="How a text-to-image model draws.")
    threshold: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Least similarity of a caption to a drawable concept; none: the bank's own.",
    )
    control_seed: int | None = Field(
        None, ge=0, lt=2**31, description="Seed of the image bank's control set; none: the run's seed."
    )
    init: Literal["control", "vocabulary", "bank", "model"] = Field(
        "control",
        description="First board: classes ranked on the control set, words of a list, concepts that the store "
        "has images of, or proposals of the language model.",
    )
    vocabulary: Path | None = Field(
        None, description="Word list of the first board, a word a line; none: ImageNet's class names."
    )
    control: str | None = Field(
        None,
        description="Control set: a folder, hf:DATASET, an .npz file, bank or none; "
        "by default bank if the first board comes from it, else none.",
    )
    control_images: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Images of each class of the control set, or of a whole set without classes; "
        "none: 50, of the bank 4.",
    )
    class_names: Path | None = Field(
        None,
        description="File of names for the class folders of the control set; none: the folders' own.",
    )
    image_range: Annotated[tuple[float, float] | None, NoDecode] = Field(
        None,
        description="Values of 16-bit and float images that are black and white, as LOW,HIGH; none: 0 to 65535, "
        "and 0 to 1 of floats.",
    )
    vocabulary_share: float = Field(
        1 / 3, gt=0, le=1, description="Share of the bank's captions that make the initial vocabulary."
    )
    exclude: tuple[str, ...] = Field((), description="Concepts kept out of the initial vocabulary.")
    exclude_for: dict[int, tuple[str, ...]] = Field(
        {}, description="Concepts kept off the first board of single units, by unit."
    )

    weights: Path | None = Field(
        None, description="A checkpoint of one's own for the target, FILE or FILE#NETWORK."
    )
    pool: Pool = Field("auto", description="Pooling; auto: mean of maps, class token of tokens.")
    layout: tuple[str, ...] = Field(
        (),
        description="Layout of layers of which it cannot be known: channels-first, channels-last or tokens; "
        "of one layer: LAYER=LAYOUT.",
    )
    precision: Precision = Field("float32", description="Precision of the target's forward pass.")
    channels_last: bool = Field(False, description="Memory layout of the target's convolutions.")
    device: str = Field("auto", description="Device of target and generator: auto, cpu, cuda ...")
    batch_size: int | None = Field(None, ge=1, description="Images in a forward pass; none: the target's own.")
    download: bool = Field(False, description="Let the library fetch official weights that are not here.")

    in_flight: int = Field(1, ge=1, le=1024, description="Units worked on at the same time.")
    llm_parallel: int = Field(1, ge=1, le=256, description="Questions to the language model at the same time.")
    batch_wait: float = Field(
        0.05, ge=0, le=60, description="Seconds that images of a unit wait for others to fill a batch."
    )
    give_up: int = Field(1, ge=1, description="Stop the run when so many units in a row have failed.")
    revisit: bool = Field(
        False, description="At the end, score every unit against every concept that any unit found."
    )

    label_dead: bool = Field(
        False, description="Search a unit, and label it, even if nothing could be its label; the label is marked."
    )

    store: Path | None = Field(None, description="Folder of runs, images and checkpoints.")
    assets: Path | None = Field(None, description="Folder of installed asset packs.")

    @property
    def capacity(self) -> int:
        """Concepts on the board."""
        return self.top + self.random

    @field_validator("template")
    @classmethod
    def _has_concept(cls, template: str) -> str:
        if "{concept}" not in template:
            raise ValueError("must contain {concept}")
        return template

    @field_validator("layout")
    @classmethod
    def _is_layout(cls, layouts: tuple[str, ...]) -> tuple[str, ...]:
        paths = [text.rpartition("=")[0] for text in layouts]
        for text, path in zip(layouts, paths, strict=True):
            if (name := text.removeprefix(f"{path}=")) not in get_args(Layout):
                raise ValueError(f"{name!r:.80} is none of {', '.join(get_args(Layout))}, nor LAYER=LAYOUT")
            if paths.count(path) > 1:
                raise ValueError(f"{path or 'all layers'} is given two layouts")
        return layouts

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

    @field_validator("weights", "vocabulary", "class_names")
    @classmethod
    def _from_anywhere(cls, path: Path | None) -> Path | None:
        """A run can be resumed from another folder than the one it was started in."""
        return path.expanduser().absolute() if path else None

    @field_validator("generator")
    @classmethod
    def _generator_from_anywhere(cls, generator: str) -> str:
        """A folder alone only where it is not also a preset's name or ``bank``, which have no ``/``."""
        for mark in ("=", ":"):
            name, found, place = generator.partition(mark)
            if found and Path(place).expanduser().exists():
                return f"{name}{mark}{_absolute(place)}"
        return _absolute(generator) if "/" in generator else generator

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
            self.control = "bank" if self.init == "control" else "none"
        if self.control == "none" and (self.init == "control" or self.scorer not in SCORERS_WITHOUT_CONTROL):
            needs = "init control" if self.init == "control" else f"scorer {self.scorer}"
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
    def _board_has_room(self) -> Settings:
        if self.capacity < 1:
            raise ValueError("top and random together must be at least 1")
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
        if not cls.from_outside:
            return (init_settings,)
        return (
            init_settings,
            _Environment(settings_cls),
            _File(settings_cls, settings_cls.model_config.get("toml_file")),
        )


def load_settings(config: Path | None = None, *, preset: str | None = None, **flags: Any) -> Settings:
    """Settings from a file, the environment, a preset and flags; later ones win.

    Args:
        config: the settings file; default ``line.toml`` in the working folder, if there is one.
        preset: name of settings that belong together; see ``agent.presets``.
        flags: values from the command line; those that are None are left out.

    Raises:
        UsageError: the file is missing or malformed, a value does not fit, there is no such preset, or it has no
            control set.
    """
    path = config or Path(CONFIG_FILE)
    if config is not None and not config.is_file():
        raise UsageError(f"there is no settings file {str(config)!r}", "name an existing file with --config")
    if os.path.lexists(path) and not path.is_file():
        what = "a folder" if path.is_dir() else "no file, or a link to none"
        raise UsageError(f"{str(path)!r} is {what}", "put a settings file in its place, or remove it")
    given = {name: value for name, value in flags.items() if value is not None}
    by_user = given.keys()
    if preset is not None:
        given = with_preset(preset, given)
    source: type[Settings] = Settings
    if path.is_file():
        _check_toml(path)
        source = type("Settings", (Settings,), {"model_config": {**Settings.model_config, "toml_file": path}})
    if preset is not None:
        source = type("Settings", (source,), {"fixed": fixed_by(preset, by_user)})
    try:
        settings = source(**given)
    except ValidationError as error:
        raise _unfit(error, path.name) from None
    except SettingsError as error:
        found = re.search(r'field "(\w+)"', str(error))
        name = f"LINE_{found[1].upper()}" if found else "a variable LINE_..."
        raise UsageError(
            f"{name} in the environment is not JSON", f'a list is written {name}=\'["one", "two"]\''
        ) from None
    if preset is not None and settings.control == "bank" and flags.get("control") != "bank":
        # It would take its place unasked.
        raise UsageError(
            f"preset {preset} begins with the ImageNet-1K validation set, and no control set is named",
            "name it with --control FOLDER or hf:DATASET; --control bank takes the image bank",
        )
    return settings


class _Given(Settings):
    """Settings of which nothing comes from the environment or a file."""

    from_outside = False


def unsent(recorded: Mapping[str, Any]) -> dict[str, None]:
    """The options of Ollama's sampling that a run, from before they were recorded, left to its model's file."""
    asked_ollama = str(recorded.get("llm")).startswith("ollama:")
    return dict.fromkeys(OLLAMA_SAMPLING.keys() - recorded.keys()) if asked_ollama else {}


def revised(recorded: Mapping[str, Any], changes: Mapping[str, Any]) -> Settings:
    """Recorded settings with some changed; neither the environment nor a file is read.

    What of Ollama's sampling was not sent is still not; see ``unsent``.

    Raises:
        UsageError: a changed value does not fit.
    """
    diffusion = {**recorded.get("diffusion", {}), **changes.get("diffusion", {})}
    try:
        return _Given(**{**unsent(recorded), **recorded, **changes, "diffusion": diffusion})
    except ValidationError as error:
        raise _unfit(error, CONFIG_FILE) from None


FORKABLE = frozenset({
    "seed", "iterations", "summary", "patience", "max_iterations", "llm", "ollama", "context", "reply_tokens",
    "timeout", "think", "langchain", "temperature", "top_p", "retries", "hotter", "hints", "diffusion", "device",
    "batch_size", "download", "in_flight", "llm_parallel", "batch_wait", "give_up", "revisit", "store", "assets",
    *OLLAMA_SAMPLING,
})  # fmt: skip
"""Settings that may be others in a fork: none of them changes what a score that was copied means."""


def fork_changes(recorded: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a fork that are other than those of the run that it goes on from.

    Args:
        recorded: the settings of that run.
        changes: what the user wants to be another.

    Raises:
        UsageError: a setting would make the scores that are copied incomparable with those to come.
    """
    if refused := sorted(changes.keys() - FORKABLE):
        raise UsageError(
            f"setting {refused[0]} cannot be another in a fork: scores before and after it would not compare",
            "start a new run with it",
        )
    if "seed" not in changes or recorded.get("control_seed") is not None:
        return dict(changes)
    # What scores are compared with stays, whatever is drawn anew.
    return {**changes, "control_seed": recorded.get("seed")}


def _unfit(error: ValidationError, file: str) -> UsageError:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    value = "" if first["type"] in {"missing", "model_attributes_type"} else f" = {first['input']!r:.80}"
    if first["loc"][:1] == ("langchain",):
        value = ""  # It may hold a key.
    if first["type"] == "extra_forbidden":
        return UsageError(f"unknown setting {name!r} in {file} or the environment", "see `line explain --help`")
    detail = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return UsageError(f"settings: {detail}", f"check the flags, the environment and {file}")
    flag = str(first["loc"][-1]).replace("_", "-")
    return UsageError(
        f"setting {name}{value}: {detail[0].lower()}{detail[1:]}",
        f"check the flag --{flag}, LINE_{name.replace('.', '__').upper()} and {file}",
    )


def _check_toml(path: Path) -> None:
    try:
        tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}", "mend that line or remove the file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None
