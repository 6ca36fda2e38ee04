"""Commands about settings: ``line config`` and ``line init``."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import near_names
from line_neurons.agent.settings import Settings, setting_names
from line_neurons.agent.settings_origins import SettingOrigin, setting_origins
from line_neurons.agent.settings_sources import CONFIG_FILE, ENV_PREFIX, flag_of
from line_neurons.eval.exchange.output_files import open_output, refuse_existing
from line_neurons.tools.language_models.secrets import redacted, url_without_secrets
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.shell import completion
from line_neurons.tui.formatting import setting_text

app = typer.Typer()


def _typed_names() -> dict[str, str]:
    """Return the names of settings by what a user may type: the name, its entry in a table, its flag."""
    names = {name: name.replace("__", ".") for name in setting_names()}
    return {
        typed: shown
        for name, shown in names.items()
        for typed in (flag_of(name).removeprefix("--").replace("-", "_"), shown)
    }


_WIDTH = 100
_HEAD = """\
# Settings of the runs that are started in this folder. A setting that is commented out has its default.
# Flags win over the environment (LINE_SEED=1), which wins over this file; `line config` shows what is in force.
"""


@opt.command(
    app,
    "config",
    (*opt.BATCH, *opt.RUN),
    examples=(
        "line config",
        "line config seed store --changed",
        "line config --batch --llm embedded --json",
    ),
)
def config_(
    setting: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SETTING",
            help="Settings to show, as named here or by their flags; default: all.",
            autocompletion=completion.choices(list(_typed_names().values())),
        ),
    ] = None,
    *,
    changed: Annotated[
        bool, typer.Option("--changed", help="Show only settings that are not at their default.")
    ] = False,
    batch: Annotated[bool, typer.Option("--batch", help="Show the settings of `line batch`.")] = False,
    preset: opt.Preset = None,
    config: opt.Config = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Show every setting in force, and where it comes from.

    That is a flag, a preset, the environment, line.toml or the default; flags given here count as those of a run.
    """
    named = {_named(name) for name in setting or ()}
    settings, found = setting_origins(config, preset=preset, **flags)
    shown = [_known_place(origin) for origin in (_of_batch(settings, found) if batch else found)]
    shown = [origin for origin in shown if origin.name in named or not named]
    shown = [origin for origin in shown if origin.origin != "default" or not changed]
    if json:
        terminal.dump([
            {"setting": origin.name, "value": _public(origin.name, origin.value), "from": origin.origin,
             "place": origin.place, "default": _public(origin.name, origin.default)}
            for origin in shown
        ])  # fmt: skip
        return
    if not shown:
        terminal.line(f"Every {'one of these settings' if named else 'setting'} is at its default.")
        return
    terminal.table(
        ["setting", "value", "from"],
        [[origin.name, setting_text(_public(origin.name, origin.value)), _from(origin)] for origin in shown],
        wrap=("value", "from"),
    )


def _named(name: str) -> str:
    """Return the setting that a user names.

    Raises:
        UsageError: there is none.
    """
    known = _typed_names()
    typed = name.strip().casefold().removeprefix(ENV_PREFIX.casefold()).replace("__", ".").replace("-", "_")
    if typed not in known:
        near = near_names(typed, known)
        raise UsageError(f"no setting is named {name!r:.80}{near and f'; {near}'}", "`line config` lists all")
    return known[typed]


@opt.command(app, "init", examples=("line init", "line init experiments/line.toml"))
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.", show_default=CONFIG_FILE)] = Path(
        CONFIG_FILE
    ),
) -> None:
    """Write a commented line.toml with all settings, their defaults and choices.

    It changes nothing until a line is uncommented. An existing file is not overwritten.
    """
    if file.is_dir():
        file /= CONFIG_FILE
    refuse_existing(file, force=False, remedy="name another file, or edit this one")
    with open_output(file) as written:
        written.write(commented_settings().encode())
    terminal.line(f"Written: {file}")
    if file.name != CONFIG_FILE or file.parent != Path():
        terminal.line(f"Runs in other folders use it with --config {file}")


def commented_settings() -> str:
    """Return a settings file with every setting commented out, at its default."""
    lines = [_HEAD]
    names = [name for panel in opt.PANELS.values() for name in panel]
    names += [name for name in setting_names() if name not in names]
    for panel, members in (*opt.PANELS.items(), ("Without a flag", names)):
        here = [name for name in members if "__" not in name and name in names]
        if here:
            lines.append(f"\n# ---- {panel} ----\n")
        for name in here:
            names.remove(name)
            lines += _entry(name)
    lines.append("\n# ---- Text-to-image models ----\n\n[diffusion]\n")
    for name in names:
        lines += _entry(name)
    return "".join(lines)


def _entry(name: str) -> Iterator[str]:
    field = opt.field_of(name)
    batch = f" `line batch`: {setting_text(opt.BATCH_DEFAULTS[name])}." if name in opt.BATCH_DEFAULTS else ""
    choices = opt.choices_of(name)
    for line in wrap(f"{field.description}{opt.bounds(field)}{choices and f' {choices}'}{batch}", _WIDTH):
        yield f"# {line}\n"
    value, place = _toml(field.default), f": {opt.default_text(name)}" if name in opt.FILES else ""
    yield (
        f"# {name.rpartition('__')[2]} = {value}\n"
        if value
        else f"# {name.rpartition('__')[2]} =  # not set{place}\n"
    )


def _toml(value: Any) -> str:
    """Return a default as TOML; empty if it is not set."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return "{}"
    return json_text.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def _of_batch(settings: Settings, found: list[SettingOrigin]) -> list[SettingOrigin]:
    """Return the settings as ``line batch`` uses them."""
    own = opt.batch_defaults(settings)
    return [
        replace(origin, value=own[origin.name], default=own[origin.name])
        if origin.origin == "default" and origin.name in own
        else origin
        for origin in found
    ]


def _known_place(origin: SettingOrigin) -> SettingOrigin:
    """Fill in the folders that are used where none is named."""
    if origin.value is not None or origin.name not in opt.FILES:
        return origin
    return replace(origin, value=opt.default_folder(origin.name))


def _from(origin: SettingOrigin) -> str:
    return origin.origin if origin.origin == "default" else f"{origin.origin} {origin.place}"


def _public(name: str, value: Any) -> Any:
    """Return a value without the keys and passwords in it."""
    if isinstance(value, Mapping):
        return redacted(value) if name == "langchain" else {str(key): entry for key, entry in value.items()}
    return url_without_secrets(value, "") if isinstance(value, str) else value
