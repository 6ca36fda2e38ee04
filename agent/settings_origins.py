"""Where the value of each setting in force comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from line_neurons.agent.presets import PRESETS
from line_neurons.agent.settings import Settings, load_settings, setting_names, settings_class
from line_neurons.agent.settings_sources import (
    CONFIG_FILE,
    RENAMED,
    current_names,
    flag_of,
    outside_sources,
    variable_of,
)

Origin = Literal["flag", "preset", "environment", "file", "default"]


@dataclass(frozen=True)
class SettingOrigin:
    """A setting in force.

    Args:
        name: with its table, ``diffusion.steps``.
        origin: the kind of place that it comes from.
        place: the flag, the preset, the variable or the path of the file; empty for a default.
        default: the value that it would have otherwise.
    """

    name: str
    value: Any
    origin: Origin
    place: str
    default: Any


def setting_origins(
    config: Path | None = None, *, preset: str | None = None, **flags: Any
) -> tuple[Settings, list[SettingOrigin]]:
    """Load settings as ``load_settings`` does, and return them with the origin of each.

    Raises:
        UsageError: see ``load_settings``.
    """
    settings = load_settings(config, preset=preset, **flags)
    given = current_names({name: value for name, value in flags.items() if value is not None})
    source, path = settings_class(config, preset, given.keys())
    environment, file = (found() for found in outside_sources(source))
    places: list[tuple[Origin, Mapping[str, Any]]] = [
        ("flag", given),
        ("preset", PRESETS[preset] if preset else {}),
        ("environment", environment),
        ("file", file if path else {}),
    ]
    defaults = Settings.model_construct()
    return settings, [_origin(name, settings, defaults, places, preset or "", path) for name in setting_names()]


def _origin(
    name: str,
    settings: Settings,
    defaults: Settings,
    places: list[tuple[Origin, Mapping[str, Any]]],
    preset: str,
    path: Path | None,
) -> SettingOrigin:
    origin: Origin = next((origin for origin, found in places if _has(found, name)), "default")
    place = {
        "flag": flag_of(name), "preset": preset, "environment": _variable(name),
        "file": str((path or Path(CONFIG_FILE)).absolute()), "default": "",
    }[origin]  # fmt: skip
    return SettingOrigin(name.replace("__", "."), _value(settings, name), origin, place, _value(defaults, name))


def _has(found: Mapping[str, Any], name: str) -> bool:
    table, _, entry = name.rpartition("__")
    inner = found.get(table, {}) if table else found
    return isinstance(inner, Mapping) and entry in inner


def _value(settings: Settings, name: str) -> Any:
    table, _, entry = name.rpartition("__")
    return getattr(getattr(settings, table) if table else settings, entry)


def _variable(name: str) -> str:
    """Return the variable that sets a setting, under its current or an earlier name."""
    names = [variable_of(name), *(variable_of(old) for old, current in RENAMED.items() if current == name)]
    there = [variable for variable in os.environ if variable.upper().partition("__")[0] in names]
    exact = [variable for variable in os.environ if variable.upper() in names]
    return next(iter(exact or there), variable_of(name))
