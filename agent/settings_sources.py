"""Where settings come from: flags, then the environment (LINE_...), then line.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    TomlConfigSettingsSource,
)

from line_neurons.agent.errors import UsageError
from line_neurons.agent.renamed import RENAMED, current_names

CONFIG_FILE = "line.toml"
ENV_PREFIX = "LINE_"


def _without_fixed(found: dict[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a source's settings, and entries of tables, that a preset does not fix.

    Tables of two sources are merged, so an empty table of a preset would otherwise be filled.
    """
    left: dict[str, Any] = {}
    for name, value in found.items():
        table = fixed.get(name)
        if name not in fixed:
            left[name] = value
        elif table and isinstance(table, Mapping) and isinstance(value, Mapping):
            left[name] = {key: entry for key, entry in value.items() if key not in table}
    return left


class _Environment(EnvSettingsSource):
    def __call__(self) -> dict[str, Any]:
        variables = {old: f"{ENV_PREFIX}{old}".lower() for old in RENAMED}
        renamed = {old: self.env_vars[name] for old, name in variables.items() if name in self.env_vars}
        return _without_fixed(current_names(renamed | super().__call__()), getattr(self.settings_cls, "fixed", {}))


class _File(TomlConfigSettingsSource):
    def __call__(self) -> dict[str, Any]:
        return _without_fixed(current_names(super().__call__()), getattr(self.settings_cls, "fixed", {}))


def named_source(settings_cls: type[BaseSettings], named: PydanticBaseSettingsSource) -> InitSettingsSource:
    """Return the source of keyword arguments, under their current names."""
    return InitSettingsSource(settings_cls, current_names(named()))


def outside_sources(settings_cls: type[BaseSettings]) -> tuple[PydanticBaseSettingsSource, ...]:
    """Return the environment and, after it, the settings file."""
    return _Environment(settings_cls), _File(settings_cls, settings_cls.model_config.get("toml_file"))


def invalid_setting(error: ValidationError, file: str) -> UsageError:
    """Return the first invalid setting as an error, without values that may hold a key."""
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


def check_toml(path: Path) -> None:
    """Raise ``UsageError`` if a settings file cannot be read as TOML."""
    try:
        tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}", "correct that line or remove the file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None
