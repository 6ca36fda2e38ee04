"""Where settings come from: flags, then the environment (LINE_...), then line.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
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
from line_neurons.agent.near_names import MISTYPED, near_names

CONFIG_FILE = "line.toml"
ENV_PREFIX = "LINE_"
NO_FLAG = frozenset({
    "template", "langchain", "retry_temperature_step", "control_seed", "exclude_for", "diffusion__channels_last",
})  # fmt: skip
"""Settings of line.toml and the environment that have no flag."""
_FLAGS = {"diffusion__batch": "--image-batch"}

RENAMED: Mapping[str, str] = {
    "in_flight": "max_concurrent_units",
    "batch_wait": "batch_timeout",
    "give_up": "max_consecutive_failures",
    "hotter": "retry_temperature_step",
}
"""Settings' names by the names that they had before."""

_RENAMED_VALUES: Mapping[tuple[str, str], str] = {("init", "bank"): "cache"}


def current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under their current names and values; a current name wins over an old one."""
    renamed: dict[str, Any] = {}
    for name, value in settings.items():
        current = RENAMED.get(name, name)
        if current == name or current not in settings:
            known = isinstance(value, str) and (current, value) in _RENAMED_VALUES
            renamed[current] = _RENAMED_VALUES[current, value] if known else value
    return renamed


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


def flag_of(setting: str) -> str:
    """Return the flag of a setting, ``diffusion__steps`` of a table's."""
    return _FLAGS.get(setting) or f"--{setting.removeprefix('diffusion__').replace('_', '-')}"


def variable_of(setting: str) -> str:
    """Return the variable of the environment of a setting."""
    return f"{ENV_PREFIX}{setting.upper()}"


def invalid_setting(error: ValidationError, file: str, known: Sequence[str]) -> UsageError:
    """Return the first invalid setting as an error, without values that may hold a key.

    Args:
        known: names of all settings, those of a table as ``diffusion__steps``.
    """
    first: Mapping[str, Any] = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    value = "" if first["type"] in {"missing", "model_attributes_type"} else f" = {first['input']!r:.80}"
    if first["loc"][:1] == ("langchain",):
        value = ""  # It may hold a key.
    if first["type"] == "extra_forbidden":
        table, _, entry = name.rpartition(".")
        # A line at the end of a file belongs to the table above it.
        near = near_names(
            entry, [other.rpartition("__")[2] for other in known if other.rpartition("__")[0] in {table, ""}]
        )
        placed = f"a setting that is not of [{table}] stands above that heading; " if table else ""
        return UsageError(
            f"unknown setting {name!r} in {file} or the environment{'; ' + near if near else ''}",
            f"{placed}`line init FILE` writes all",
        )
    detail = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return UsageError(f"settings: {detail}", f"check the flags, the environment and {file}")
    if first["type"] == "literal_error":
        near = near_names(str(first["input"]), re.findall(r"'([^']+)'", first["ctx"]["expected"]))
        detail += f"; {near}" if near else ""
    # A list's entries are counted after its name.
    setting = next((other for other in known if f"{name}.".startswith(f"{other.replace('__', '.')}.")), name)
    flag = "" if setting in NO_FLAG else f"the flag {flag_of(setting)}, "
    return UsageError(
        f"setting {name}{value}: {detail[0].lower()}{detail[1:]}", f"check {flag}{variable_of(setting)} and {file}"
    )


def unknown_variables(environment: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Return the variables ``LINE_...`` that are no settings, each with the ones that it resembles."""
    tables = {name.partition("__")[0] for name in (*known, *RENAMED)}
    unknown = [
        variable
        for variable in environment
        if variable.startswith(ENV_PREFIX)
        and variable.removeprefix(ENV_PREFIX).lower().partition("__")[0] not in tables
    ]
    names = [variable_of(name) for name in known]
    return {
        variable: near_names(variable, names, least=MISTYPED, prefix=ENV_PREFIX) for variable in sorted(unknown)
    }


def refuse_mistyped_variables(environment: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a mistyped variable of a setting as the settings file does; other programs' variables may stay.

    Raises:
        UsageError: a variable ``LINE_...`` is no setting and resembles one.
    """
    for variable, near in unknown_variables(environment, list(known)).items():
        if near:
            raise UsageError(f"unknown setting {variable} in the environment; {near}", "correct it, or unset it")


def check_toml(path: Path) -> None:
    """Raise ``UsageError`` if a settings file cannot be read as TOML."""
    try:
        tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}", "correct that line or remove the file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None
