"""Options of the commands, generated from the fields of the settings.

An option that is not given leaves line.toml and the environment in force. ``diffusion__steps`` is ``steps`` of the
table ``[diffusion]``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer
from rich.markup import escape

from line_neurons.agent.diffusion_settings import DiffusionSettings
from line_neurons.agent.presets import OLLAMA_SAMPLING, SERVERS
from line_neurons.agent.renamed import RENAMED
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.eval.exchange.output_files import output_path

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

FILES = ("store", "assets")
BATCH = ("max_concurrent_units", "llm_parallel", "batch_timeout", "max_consecutive_failures", "revisit")
LANGUAGE_MODEL = (
    "llm", *SERVERS, "temperature", "top_p", *OLLAMA_SAMPLING, "context", "reply_tokens", "timeout", "think",
    "hints",
)  # fmt: skip
PIPELINE = tuple(f"diffusion__{name}" for name in ("offload", "vae_slicing", "compile", "batch"))
"""Options of a text-to-image pipeline that change no image."""
IMAGES = (
    "generator", "threshold",
    *(f"diffusion__{name}" for name in (
        "steps", "guidance", "size", "dtype", "revision", "lora", "scheduler", "vae_tiling",
    )),
)  # fmt: skip
TARGET = (
    "control", "control_images", "class_names", "image_range", "weights", "pool", "layout", "precision",
    "channels_last",
)  # fmt: skip
MACHINE = ("device", "batch_size", "download")

PANELS: Mapping[str, Sequence[str]] = {
    "Batch": BATCH[:-1],
    "Method": (
        "seed", "iterations", "summary", "images", "patience", "max_iterations", "restarts", "init", "vocabulary",
        "top", "random", "random_pool", "scorer", "modifiers", "duplicates", "forbidden", "retries", "label_dead",
        "exclude", "revisit",
    ),
    "Language model": LANGUAGE_MODEL,
    "Images": (*IMAGES, *PIPELINE),
    "Target and control set": (*TARGET, *MACHINE),
    "Files and output": FILES,
}  # fmt: skip
"""Panels of the help with their settings, in order."""

RUN = tuple(name for names in PANELS.values() for name in names if name not in BATCH)
"""Settings of a new run."""
CHANGES = (*BATCH, *LANGUAGE_MODEL, *PIPELINE, *MACHINE)
"""Settings that may change when a run is resumed."""
COMPONENTS = ("generator", "control", "weights", "class_names")
"""Settings of components that may have moved since a run was recorded; their content must be the same."""

NO_FLAG = frozenset({
    "template", "langchain", "retry_temperature_step", "control_seed", "vocabulary_share", "exclude_for",
    "diffusion__channels_last",
})  # fmt: skip
"""Settings of line.toml and the environment that have no flag."""

ON_ONLY = frozenset({"channels_last", "download", "diffusion__vae_tiling", "diffusion__compile"})
"""Switches without a ``--no-`` form."""

_SHORT = {"iterations": "-N", "images": "-n"}
_FLAGS = {"diffusion__batch": "--image-batch"}
_OLD_NAMES = {**RENAMED, "draw_batch": "diffusion__batch"}
_MOVED = "Components of the run that were moved; their content must be the same"
_FILES_PANEL = "Files and output"

Config = Annotated[
    Path | None,
    typer.Option(help="Settings file; default: line.toml in this folder.", rich_help_panel=_FILES_PANEL),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=_FILES_PANEL)]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Allow custom code from someone else's run.", rich_help_panel=_FILES_PANEL,
    ),
]  # fmt: skip
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="[paper]", help="Use the paper's method, whatever line.toml and the environment say.",
        rich_help_panel="Method",
    ),
]  # fmt: skip
UnitsFrom = Annotated[
    int | None,
    typer.Option(min=0, max=1, help="Number of the first unit in a file of labels, 0 or 1; default: 0."),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, or its beginning.")]
UnitName = Annotated[str, typer.Argument(metavar="UNIT", help="Unit of the run: its number or class name.")]
Model = Annotated[str, typer.Argument(help="Target model: torchvision:NAME, timm:NAME, hf:NAME, module:function.")]
Layers = Annotated[
    str, typer.Argument(help="Dotted path of a layer, or several separated by commas; see `line layers MODEL`.")
]
UNITS = "7, 10-20, names of output classes, all, random:50, cosy, or @FILE"


def output(metavar: str, text: str) -> Any:
    """Return the option ``-o``, which recognises a folder by the slash at its end."""
    return typer.Option("--output", "-o", parser=output_path, metavar=metavar, help=text)


def command(
    app: typer.Typer,
    name: str,
    settings: Iterable[str] = (),
    *,
    moved: bool = False,
    defaults: Mapping[str, Any] | str = "",
    examples: Sequence[str] = (),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command that takes settings as options; those given arrive in its ``**flags``, by setting.

    With ``moved`` it takes ``COMPONENTS``, too. ``defaults`` are the command's own, or a text in place of all.
    """
    options = [option for setting in settings for option in _options(setting, defaults)]
    if moved:
        options += [option for setting in COMPONENTS for option in _options(setting, defaults, _MOVED)]
    names = [option.name for option in options]

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function, eval_str=True).parameters.values()

        @functools.wraps(function)
        def run(**values: Any) -> None:
            given = nested({option: values.pop(option) for option in names})
            function(**values, **given)

        # Typer reads the signature; panels stand in the order of their first option.
        run.__signature__ = inspect.Signature([  # type: ignore[attr-defined]
            *(parameter for parameter in own if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD),
            *options,
            *(parameter for parameter in own if parameter.kind is Parameter.KEYWORD_ONLY),
        ])  # fmt: skip
        app.command(name, epilog="\n\n".join(["Examples:", *map(escape, examples)]))(run)
        return function

    return register


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given as settings, under current names and within their tables."""
    settings: dict[str, Any] = {}
    for name, value in sorted(options.items(), key=lambda option: option[0] not in _OLD_NAMES):
        if value is not None:
            *table, setting = _OLD_NAMES.get(name, name).split("__")
            (settings.setdefault(table[0], {}) if table else settings)[setting] = value
    return settings


def flag(setting: str) -> str:
    """Return the flag of a setting."""
    return _FLAGS.get(setting) or f"--{setting.removeprefix('diffusion__').replace('_', '-')}"


def field_of(setting: str) -> FieldInfo:
    """Return the field of a setting, ``diffusion__steps`` of the table's."""
    table, _, entry = setting.rpartition("__")
    return DiffusionSettings.model_fields[entry] if table else Settings.model_fields[setting]


def default_text(setting: str, defaults: Mapping[str, Any] | str = "") -> str:
    """Return the default of a setting as the help shows it."""
    if isinstance(defaults, str):
        if defaults and setting not in {*FILES, *SERVERS}:
            return defaults
        defaults = {}
    value = defaults.get(setting, field_of(setting).default)
    if isinstance(value, bool):
        return "on" if value else "off"
    return "not set" if value in (None, "", (), {}) else str(value)


def _options(setting: str, defaults: Mapping[str, Any] | str, panel: str = "") -> list[Parameter]:
    """Return the option of a setting, and a hidden one for each of its earlier names."""
    field = field_of(setting)
    kind = _parsed(type_of(field))
    names = [
        f"{flag(setting)}/--no-{flag(setting)[2:]}" if kind is bool and setting not in ON_ONLY else flag(setting)
    ]
    names += [_SHORT[setting]] if setting in _SHORT else []
    repeatable = "; repeatable" if get_origin(kind) is list else ""
    description = f"{(field.description or '').removesuffix('.')}{repeatable}."
    shown = typer.Option(
        *names,
        help=escape(f"{description}{bounds(field)} [default: {default_text(setting, defaults)}]"),
        metavar=_metavar(field),
        rich_help_panel=panel or next(name for name, members in PANELS.items() if setting in members),
        show_default=False,
    )
    earlier = {old: typer.Option(f"--{old.replace('_', '-')}", hidden=True) for old in _earlier(setting)}
    return [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option])
        for name, option in {setting: shown, **earlier}.items()
    ]


def _earlier(setting: str) -> list[str]:
    return [old for old, current in _OLD_NAMES.items() if current == setting]


def type_of(field: FieldInfo) -> Any:
    """Return the type of a setting, without None."""
    union = get_origin(field.annotation) in {Union, UnionType}
    return next(part for part in get_args(field.annotation) if part is not NoneType) if union else field.annotation


def _parsed(kind: Any) -> Any:
    """Return the type in which the command line parses a setting, which validates it itself."""
    if get_origin(kind) is tuple:
        return list[str] if get_args(kind)[-1] is Ellipsis else str
    return str if get_origin(kind) is Literal else kind


def _metavar(field: FieldInfo) -> str | None:
    """Return the choices of a setting."""
    kind = type_of(field)
    return f"[{' | '.join(get_args(kind))}]" if get_origin(kind) is Literal else None


def bounds(field: FieldInfo) -> str:
    """Return the bounds of a setting, such as `` [0<=x<=1000]``; empty if it has none."""
    signs = {"ge": "{}<=", "gt": "{}<", "le": "<={}", "lt": "<{}"}
    found = {name: sign.format(getattr(bound, name)) for bound in field.metadata
             for name, sign in signs.items() if hasattr(bound, name)}  # fmt: skip
    low, high = found.get("ge", found.get("gt", "")), found.get("le", found.get("lt", ""))
    return f" [{low}x{high}]" if found else ""


def store_of(**flags: Any) -> Path:
    """Return the store that the options, the environment or line.toml name, or the default one."""
    from line_neurons.tools.store.runs import default_store

    return load_settings(**flags).store or default_store()


def assets_of(**flags: Any) -> Path:
    """Return the folder of asset packs, as ``store_of`` does the store."""
    from line_neurons.tools.assets.location import assets_root

    return load_settings(**flags).assets or assets_root()


def reopening(config: Path | None, flags: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Return this machine's settings, and the settings of a recorded run that are to change."""
    return load_settings(config, **{name: flags.pop(name, None) for name in FILES}), flags
