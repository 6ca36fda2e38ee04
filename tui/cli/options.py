"""Options of the commands, generated from the fields of the settings.

An option that is not given leaves line.toml and the environment in force. ``diffusion__steps`` is ``steps`` of the
table ``[diffusion]``.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer
from rich.markup import escape

from line_neurons.agent import presets
from line_neurons.agent.diffusion_settings import DiffusionSettings
from line_neurons.agent.engine_settings import ENGINE
from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.presets import OLLAMA_SAMPLING, SERVERS, UNRECORDED
from line_neurons.agent.settings import Settings, load_settings, setting_names
from line_neurons.agent.settings_sources import RENAMED, flag_of, unknown_variables
from line_neurons.eval.exchange.output_files import output_path
from line_neurons.tui.cli.help import FILES_PANEL, PanelCommand
from line_neurons.tui.cli.output import note, set_verbosity
from line_neurons.tui.cli.shell import completion
from line_neurons.tui.formatting import setting_text

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

FILES = ("store", "assets")
NOT_SET: tuple[object, ...] = (None, "", (), [], {})
"""Values of a setting that is not set; its description says what happens then."""
BATCH_DEFAULTS = {**presets.BATCH, "llm_parallel": "by language model"}
"""Defaults of a batch as help and form show them; see ``batch_defaults``."""
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
LATENTS = ("sae", "sae_input", "sae_activation", "sae_minus_b_dec", "sae_force", "directions")
"""Options of units that a file makes of a layer's tokens."""
TARGET = (
    "control", "control_images", "class_names", "image_range", "weights", "pool", "query_pool", "tokens",
    *LATENTS, "layout", "precision", "channels_last",
)  # fmt: skip
MACHINE = ("device", "batch_size", "download")
WORKERS = ENGINE

PANELS: Mapping[str, Sequence[str]] = {
    "Batch": BATCH[:-1],
    "Method": (
        "seed", "iterations", "summary", "images", "patience", "max_iterations", "until", "restarts", "restart_by",
        "facets", "init", "captioner", "vocabulary", "vocabulary_share", "top", "random", "random_pool", "scorer",
        "modifiers", "duplicates", "forbidden", "retries", "label_dead", "exclude", "revisit", "hints_by",
        "candidates", "text_encoder", "proposals", "generate",
    ),
    "Language model": LANGUAGE_MODEL,
    "Images": (*IMAGES, *PIPELINE),
    "Target and control set": (*TARGET, *MACHINE),
    "Devices and workers": WORKERS,
    FILES_PANEL: FILES,
}  # fmt: skip
"""Panels of the help with their settings, in order."""

RUN = tuple(name for names in PANELS.values() for name in names if name not in BATCH)
"""Settings of a new run."""
CHANGES = (*BATCH, *LANGUAGE_MODEL, *PIPELINE, *MACHINE, *WORKERS)
"""Settings that may change when a run is resumed."""
COMPONENTS = ("generator", "control", "weights", "class_names")
"""Settings of components that may have moved since a run was recorded; their content must be the same."""

ON_ONLY = frozenset({"channels_last", "download", "trust_network", "diffusion__vae_tiling", "diffusion__compile"})
"""Switches without a ``--no-`` form."""

_UNITS_OF_WORKER = 4
"""Units at the same time that keep a worker busy, while others wait for the language model."""
_MOST_UNITS = 512
_SHORT = {"iterations": "-N", "images": "-n"}
_OLD_NAMES = {**RENAMED, "draw_batch": "diffusion__batch"}
_MOVED = "Components of the run that were moved; their content must be the same"

Config = Annotated[
    Path | None,
    typer.Option(help="Settings file; default: line.toml in this folder.", rich_help_panel=FILES_PANEL),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=FILES_PANEL)]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Allow custom code from someone else's run.", rich_help_panel=FILES_PANEL,
    ),
]  # fmt: skip
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Print results and errors only: no progress, no notes.",
        rich_help_panel=FILES_PANEL,
    ),
]  # fmt: skip
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Also print each step of each unit, and what libraries log.",
        rich_help_panel=FILES_PANEL,
    ),
]  # fmt: skip
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=FILES_PANEL)
]
_OUTPUT = tuple(
    Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=kind)
    for name, kind in {"quiet": Quiet, "verbose": Verbose, "debug": Debug}.items()
)
"""Options of every command."""
Preset = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.PRESET_NAMES, metavar="[paper]",
        help="Use the paper's method, whatever line.toml and the environment say.",
        rich_help_panel="Method",
    ),
]  # fmt: skip
UnitsFrom = Annotated[
    int | None,
    typer.Option(min=0, max=1, help="Number of the first unit in a file of labels, 0 or 1; default: 0."),
]
Facets = Annotated[
    str,
    typer.Option(
        metavar="[first|all]", help="Labels of a unit: the first, or all of its facets (rows of a file)."
    ),
]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="Name of a run, or its beginning.", autocompletion=completion.RUNS)
]
UnitName = Annotated[str, typer.Argument(metavar="UNIT", help="Unit of the run: its number or class name.")]
Model = Annotated[
    str,
    typer.Argument(
        help="Target model: torchvision:NAME, timm:NAME, hf:NAME, module:function.",
        autocompletion=completion.MODELS,
    ),
]
Layers = Annotated[
    str,
    typer.Argument(
        help="Dotted path of a layer, or several separated by commas; see `line layers MODEL`.",
        autocompletion=completion.LAYERS,
    ),
]
UNITS = "7, 10-20, names of output classes, all, random:50, cosy, alive, density:.001-.1, strongest:100, or @FILE"


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
            set_output(**{option.name: values.pop(option.name) for option in _OUTPUT})
            if settings:
                _report_unknown_variables()
            given = nested({option: values.pop(option) for option in names})
            function(**values, **given)

        # Typer reads the signature; panels stand in the order of their first option.
        run.__signature__ = inspect.Signature([  # type: ignore[attr-defined]
            *(parameter for parameter in own if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD),
            *options,
            *(parameter for parameter in own if parameter.kind is Parameter.KEYWORD_ONLY),
            *_OUTPUT,
        ])  # fmt: skip
        app.command(name, cls=PanelCommand, epilog="\n\n".join(["Examples:", *map(escape, examples)]))(run)
        return function

    return register


def set_output(*, quiet: bool, verbose: bool, debug: bool = False) -> None:
    """Set how much is printed, where an option says so; ``line`` itself looks for ``--debug``.

    Raises:
        UsageError: both are asked for.
    """
    if quiet and verbose:
        raise UsageError("--quiet and --verbose contradict each other", "give one of them")
    if quiet or verbose:
        set_verbosity(quiet=quiet, verbose=verbose)


def _report_unknown_variables() -> None:
    """Report variables ``LINE_...`` that are no settings; loading settings refuses the mistyped ones."""
    for variable, near in unknown_variables(os.environ, setting_names()).items():
        if not near:
            note(f"{variable} in the environment is no setting of LINE, and is ignored; `line config` lists all")


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given as settings, under current names and within their tables."""
    settings: dict[str, Any] = {}
    for name, value in sorted(options.items(), key=lambda option: option[0] not in _OLD_NAMES):
        if value is not None:
            *table, setting = _OLD_NAMES.get(name, name).split("__")
            (settings.setdefault(table[0], {}) if table else settings)[setting] = value
    return settings


def field_of(setting: str) -> FieldInfo:
    """Return the field of a setting, ``diffusion__steps`` of the table's."""
    table, _, entry = setting.rpartition("__")
    return DiffusionSettings.model_fields[entry] if table else Settings.model_fields[setting]


def default_text(setting: str, defaults: Mapping[str, Any] | str = "") -> str:
    """Return the default of a setting as the help shows it; empty where it is not set."""
    if setting in FILES:
        return _from_home(default_folder(setting))
    if isinstance(defaults, str):
        if defaults and setting not in UNRECORDED:
            return defaults
        defaults = {}
    value = defaults.get(setting, field_of(setting).default)
    return "" if value in NOT_SET else setting_text(value)


def _from_home(folder: Path) -> str:
    """Return a folder with ``~`` for the home of the user."""
    home = Path("~").expanduser()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def batch_defaults(settings: Settings) -> dict[str, Any]:
    """Return the defaults of a batch, where they are not those of every run.

    Raises:
        UsageError: an address of language model servers is invalid.
    """
    from line_neurons.tools.engines.engine import worker_count
    from line_neurons.tools.language_models.registry import default_parallel

    parallel = default_parallel(settings)
    units = max(presets.BATCH["max_concurrent_units"], _UNITS_OF_WORKER * worker_count(settings) + parallel)
    return {**presets.BATCH, "llm_parallel": parallel, "max_concurrent_units": min(units, _MOST_UNITS)}


def _options(setting: str, defaults: Mapping[str, Any] | str, panel: str = "") -> list[Parameter]:
    """Return the option of a setting, and a hidden one for each of its earlier names."""
    field = field_of(setting)
    kind = _parsed(type_of(field))
    names = [
        f"{flag_of(setting)}/--no-{flag_of(setting)[2:]}"
        if kind is bool and setting not in ON_ONLY
        else flag_of(setting)
    ]
    names += [_SHORT[setting]] if setting in _SHORT else []
    repeatable = "; repeatable" if get_origin(kind) is list else ""
    description = f"{(field.description or '').removesuffix('.')}{repeatable}."
    default = default_text(setting, defaults)
    shown = typer.Option(
        *names,
        help=escape(f"{description}{bounds(field)}{default and f' [default: {default}]'}"),
        metavar=_metavar(field),
        autocompletion=_completion(setting),
        rich_help_panel=panel or next(name for name, members in PANELS.items() if setting in members),
        show_default=False,
    )
    earlier = {old: typer.Option(f"--{old.replace('_', '-')}", hidden=True) for old in _earlier(setting)}
    return [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option])
        for name, option in {setting: shown, **earlier}.items()
    ]


def _completion(setting: str) -> completion.Names | None:
    kind = type_of(field_of(setting))
    return completion.choices(get_args(kind)) if get_origin(kind) is Literal else completion.SETTINGS.get(setting)


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


def choices_of(setting: str) -> str:
    """Return the choices of a setting as ``[a | b]``; empty if it has none."""
    return _metavar(field_of(setting)) or ""


def default_folder(setting: str) -> Path:
    """Return the folder of ``store`` or ``assets`` that is used where none is named."""
    from line_neurons.tools.assets.location import assets_root
    from line_neurons.tools.store.runs import default_store

    return {"store": default_store, "assets": assets_root}[setting]()


def store_of(**flags: Any) -> Path:
    """Return the store that the options, the environment or line.toml name, or the default one."""
    return load_settings(**flags).store or default_folder("store")


def assets_of(**flags: Any) -> Path:
    """Return the folder of asset packs, as ``store_of`` does the store."""
    return load_settings(**flags).assets or default_folder("assets")


def reopening(config: Path | None, flags: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Return this machine's settings, and the settings of a recorded run that are to change."""
    return load_settings(config, **{name: flags.pop(name, None) for name in FILES}), flags


def wants_facets(facets: str) -> bool:
    """Return whether all labels of a unit are wanted.

    Raises:
        UsageError: the value is neither ``first`` nor ``all``.
    """
    if facets not in {"first", "all"}:
        raise UsageError(f"{facets!r:.40} is none of the labels of a unit", choices(facets, ("first", "all")))
    return facets == "all"
