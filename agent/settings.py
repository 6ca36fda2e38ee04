"""Settings of a run: line.toml < environment (LINE_...) < flags."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from line_neurons.agent.errors import UsageError
from line_neurons.agent.prompts import IMAGE_TEMPLATE
from line_neurons.agent.proposal import normalise_concept

CONFIG_FILE = "line.toml"


class Settings(BaseSettings):
    """Everything that decides how a run goes; recorded with the run.

    The defaults of the method are the paper's (section 3.2 and appendix D).
    """

    model_config = SettingsConfigDict(env_prefix="LINE_", extra="forbid", validate_default=True)

    seed: int = Field(0, ge=0, lt=2**31, description="Run seed; all other seeds derive from it.")
    iterations: int = Field(10, ge=0, le=1000, description="Refinement iterations N before the summary.")
    summary: bool = Field(True, description="End with the summary step.")
    images: int = Field(5, ge=1, le=1000, description="Pictures per concept, n.")
    top: int = Field(5, ge=0, le=1000, description="Best classes of the control set on the first board.")
    random: int = Field(5, ge=0, le=1000, description="Random other classes on the first board.")
    scorer: Literal["mean", "auc", "mad"] = Field("mean", description="Scorer psi.")
    modifiers: Literal["per-image", "per-concept"] = Field(
        "per-image", description="Draw angle and lighting for each picture, or once for a concept."
    )
    template: str = Field(IMAGE_TEMPLATE, description="Prompt of the pictures.")

    llm: str = Field("embedded", description="Language model: embedded, embedded:PACK or random.")
    temperature: float = Field(0.5, ge=0, le=2, description="Sampling temperature.")
    top_p: float = Field(0.9, gt=0, le=1, description="Nucleus sampling.")
    retries: int = Field(3, ge=0, le=20, description="How often a refused proposal is asked for again.")
    hotter: float = Field(0.2, ge=0, le=1, description="Added to the temperature at each asking again.")
    duplicates: Literal["refuse", "accept"] = Field(
        "refuse", description="Ask again for a new concept, or score a repeated one again (as the paper did)."
    )
    hints: int = Field(
        12, ge=0, le=100, description="Name up to so many drawable things near the best concepts; 0: none."
    )

    generator: str = Field("bank", description="Where pictures come from: bank or bank:FOLDER.")
    threshold: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Least similarity of a caption to a drawable concept; none: the bank's own.",
    )
    control: str = Field("bank", description="Control set: bank, or a folder with a sub-folder for each class.")
    control_images: int = Field(4, ge=1, le=1000, description="Pictures per class of the bank's control set.")
    vocabulary_share: float = Field(
        1 / 3, gt=0, le=1, description="Share of the bank's captions that make the initial vocabulary."
    )
    exclude: tuple[str, ...] = Field((), description="Concepts kept out of the initial vocabulary.")
    exclude_for: dict[int, tuple[str, ...]] = Field(
        {}, description="Concepts kept off the first board of single units, by unit."
    )

    weights: Path | None = Field(None, description="A checkpoint of one's own for the target.")
    pooling: Literal["mean", "max"] = Field("mean", description="Pooling of convolutional layers.")
    tokens: Literal["cls", "mean"] = Field("cls", description="Pooling of token layers.")
    device: str = Field("auto", description="Device of the target: auto, cpu, cuda ...")
    batch_size: int | None = Field(None, ge=1, description="Pictures in a forward pass; none: the target's own.")
    download: bool = Field(False, description="Let the library fetch official weights that are not here.")

    store: Path | None = Field(None, description="Folder of runs, pictures and checkpoints.")
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

    @field_validator("exclude")
    @classmethod
    def _clean(cls, concepts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(normalise_concept(concept, max_words=10) for concept in concepts)

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
        toml = TomlConfigSettingsSource(settings_cls, settings_cls.model_config.get("toml_file"))
        return init_settings, env_settings, toml


def load_settings(config: Path | None = None, **flags: Any) -> Settings:
    """Settings from a file, the environment and flags; later ones win.

    Args:
        config: the settings file; default ``line.toml`` in the working folder, if there is one.
        flags: values from the command line; those that are None are left out.

    Raises:
        UsageError: the file is missing or malformed, or a value does not fit.
    """
    path = config or Path(CONFIG_FILE)
    if config is not None and not config.is_file():
        raise UsageError(f"there is no settings file {str(config)!r}", "name an existing file with --config")
    given = {name: value for name, value in flags.items() if value is not None}
    source: type[Settings] = Settings
    if path.is_file():
        _check_toml(path)
        source = type("Settings", (Settings,), {"model_config": {**Settings.model_config, "toml_file": path}})
    try:
        return source(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        value = "" if first["type"] in {"missing", "model_attributes_type"} else f" = {first['input']!r:.80}"
        if first["type"] == "extra_forbidden":
            raise UsageError(f"unknown setting {name!r} in {path.name}", "see `line explain --help`") from None
        detail = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"setting {name}{value}: {detail[0].lower()}{detail[1:]}",
            f"check the flag --{name.replace('_', '-')}, LINE_{name.upper()} and {path.name}",
        ) from None


def _check_toml(path: Path) -> None:
    try:
        tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}", "mend that line or remove the file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None
