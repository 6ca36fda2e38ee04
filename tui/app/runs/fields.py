"""Fields of the form for a new run: what `line batch` takes, as the settings and the registries describe it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from line_neurons.agent.errors import UsageError
from line_neurons.agent.presets import PRESETS
from line_neurons.agent.setting_groups.target import Layout
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.agent.settings_sources import flag_of
from line_neurons.tools.generators.presets import PRESETS as GENERATORS
from line_neurons.tools.language_models.registry import EMBEDDED
from line_neurons.tools.target_specs import IN_MEMORY, SOURCES, known_prefixes
from line_neurons.tools.targets.model_names import library_models
from line_neurons.tui.cli import options as opt
from line_neurons.tui.formatting import gigabytes, setting_text

Choice = tuple[str, str]
"""A value, and what is noted beside it."""

REQUIRED = {
    "model": f"The vision model; begins with {known_prefixes()}.",
    "layer": "Dotted path of a layer, or several separated by commas.",
    "units": f"Units: {opt.UNITS}.",
}
"""The arguments that have no default, with their descriptions."""

MAIN = (
    "weights", "layout", "llm", "generator", "init", "vocabulary", "control", "iterations", "images", "seed",
    "label_dead", "max_concurrent_units", "store",
)  # fmt: skip
"""Settings that are always in the form."""

MORE: Mapping[str, Sequence[str]] = {
    panel: tuple(name for name in (*(("preset",) if panel == "Method" else ()), *names) if name not in MAIN)
    for panel, names in opt.PANELS.items()
}
"""The other settings of the command, by panel of its help."""

SETTINGS = (*MAIN, *(name for names in MORE.values() for name in names))

_LABELS = {"llm": "language model", "control": "control set", "images": "images per concept"}
_FLAG_ONLY = "leave it empty: no option turns it off"


@dataclass(frozen=True)
class Field:
    """A field: its name, its label, what it means with its bounds, and what it may be."""

    name: str
    label: str
    about: str
    choices: tuple[Choice, ...] = ()


def field(name: str) -> Field:
    """Return the field of an argument or a setting."""
    label = _LABELS.get(name, name.removeprefix("diffusion__").replace("_", " "))
    if name in REQUIRED:
        return Field(name, label, REQUIRED[name], _OWN_CHOICES.get(name, ()))
    if name == "preset":
        return Field(
            name, label, "Use this method, whatever line.toml and the environment say.", _choices(PRESETS)
        )
    found = opt.field_of(name)
    about = f"{(found.description or '').removesuffix('.')}.{opt.bounds(found)}"
    return Field(name, label, about, _OWN_CHOICES.get(name, ()) or _typed_choices(name))


def _choices(values: Any) -> tuple[Choice, ...]:
    return tuple((value, "") for value in values)


def _typed_choices(name: str) -> tuple[Choice, ...]:
    kind = opt.type_of(opt.field_of(name))
    if kind is bool:
        return _choices(("on",) if name in opt.ON_ONLY else ("on", "off"))
    entry = get_args(kind)[0] if get_origin(kind) is tuple else kind
    return _choices(get_args(entry)) if get_origin(entry) is Literal else ()


def embedded_models() -> list[Choice]:
    """List the language models that need no server."""
    return [
        *((f"embedded:{name}", "on this machine") for name in EMBEDDED),
        ("guided", "no language model: what measured scores predict"),
        ("near", "no language model: the nearest candidates"),
        ("random", "baseline of random words"),
    ]


_OWN_CHOICES: Mapping[str, tuple[Choice, ...]] = {
    "units": (
        ("all", ""),
        ("random:50", "a random sample"),
        ("cosy", "the sample of the CoSy benchmark"),
        ("alive", "that respond to some control images"),
        ("alive:random:50", "a random sample of these"),
        ("strongest:100", "with the largest activations"),
    ),
    "llm": tuple(embedded_models()),
    "generator": (
        ("bank", "images of the bundled bank"),
        ("bank+icons", "and icons of 3D models"),
        ("bank+cutouts", "and cut-outs of its photographs"),
        ("bank+icons+cutouts", "and both"),
        ("render", "rendered 3D models"),
        ("bank+icons+render", "the bank, icons and 3D models"),
        ("bank+icons+cutouts+render", "all of these"),
        ("bank:", "and a folder of captioned images"),
        *((name, gigabytes(round(preset.gigabytes * 1e9))) for name, preset in GENERATORS.items()),
    ),
    "layout": _choices(get_args(Layout)),
    "control": (
        ("bank", "images of the bundled bank"),
        ("none", "no AUC and MAD"),
        ("hf:", "and a dataset of the Hugging Face hub"),
    ),
}


def model_choices() -> list[Choice]:
    """List torchvision's models from its source files, as importing it takes seconds, and the other sources."""
    others = [(f"{name}:", "and a name") for name in SOURCES if name not in {"torchvision", IN_MEMORY}]
    return [*((name, "") for name in torchvision_specs()), *others, ("FILE.py:FUNCTION", "your own model")]


def torchvision_specs() -> list[str]:
    """List torchvision's models."""
    return sorted(f"torchvision:{name}" for name in library_models("torchvision"))


def parsed(name: str, text: str) -> Any:
    """Return the text of a setting's field as the command line passes it to the settings.

    Raises:
        UsageError: the text is none of the values of a switch.
    """
    kind = str if name == "preset" else opt.type_of(opt.field_of(name))
    if kind is bool:
        if text == "off" and name in opt.ON_ONLY:
            raise UsageError(_FLAG_ONLY)
        if text not in {"on", "off"}:
            raise UsageError("is neither on nor off")
        return text == "on"
    if get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis:
        return [part.strip() for part in text.split(",")]
    return str(Path(text).expanduser()) if kind is Path else text


def option(name: str, text: str) -> list[str]:
    """Return the option of a setting as arguments of the command."""
    flag = "--preset" if name == "preset" else flag_of(name)
    value = parsed(name, text)
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    return [part for each in (value if isinstance(value, list) else [value]) for part in (flag, each)]


def settings_of(values: Mapping[str, str]) -> Settings:
    """Return the settings of a form; empty fields leave line.toml, the environment and the defaults in force.

    Raises:
        UsageError: a value is invalid, or two do not fit together.
    """
    given = {name: parsed(name, text) for name in SETTINGS if (text := values.get(name, ""))}
    return load_settings(preset=given.pop("preset", None), **opt.nested(given))


def defaults(settings: Settings) -> dict[str, str]:
    """Return what each setting is without a value in its field, as text."""
    shown = {name: setting_text(_value(settings, name)) for name in SETTINGS if name != "preset"}
    given = settings.model_fields_set
    shown |= {name: setting_text(value) for name, value in opt.BATCH_DEFAULTS.items() if name not in given}
    return shown | {"preset": setting_text(None)}


def _value(settings: Settings, name: str) -> Any:
    table, _, entry = name.rpartition("__")
    return getattr(getattr(settings, table), entry) if table else getattr(settings, name)
