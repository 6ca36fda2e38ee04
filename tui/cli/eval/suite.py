"""What ``line eval suite`` does: one command for a whole evaluation, on top of the other commands."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, get_args

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.eval.suite import BASELINES, Command, Suite, variants
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import select_units
from line_neurons.tools.store.atomic_files import write_file
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.exit_codes import INTERRUPTED
from line_neurons.tui.cli.run import batch_settings

_EXCLUDED = "LINE_EXCLUDE_FOR"
_NOT_SEARCHES = ("store", "assets")


def suite(
    place: tuple[str, str],
    units: Sequence[str],
    models: Sequence[str],
    baselines: Sequence[str] | None,
    cosy_options: Sequence[str],
    config: Path | None,
    flags: Mapping[str, Any],
    folder: Path,
    *,
    only_plan: bool,
    as_json: bool,
) -> None:
    """Run what is missing of an evaluation and report, or print what would be run.

    Args:
        place: the target's spec and the layer.
        units: as ``line batch`` takes them.
        models: language models to compare with the suite's own.
        baselines: names of baselines; None: those that suit the source of images.
        cosy_options: options of ``line eval cosy``.
        config: the settings file.
        flags: options of the searches.
        folder: where files are written.
        only_plan: print the commands and do nothing.
        as_json: print JSON.

    Raises:
        LineError: model, layer, units or settings do not fit.
        Exit: with status 1 if something could not be done, 130 if it was interrupted.
    """
    unknown = [name for name in baselines or () if name not in BASELINES]
    if unknown:
        raise UsageError(f"{unknown[0]!r:.40} is no baseline", f"choose from {', '.join(BASELINES)}")

    def settings_of(changes: Mapping[str, Any]) -> Settings:
        return batch_settings(load_settings(config, **{"revisit": False, **flags, **changes}))

    base = settings_of({})
    components = Components(place[0], base)
    found, names = select_units(components, place[1], units)
    excluded = exclude = None
    if names is not None:
        exclude = names_kept_out(components, {unit: names[unit] for unit in found})
        excluded = folder / "kept-out.json"
        if not only_plan:
            write_file(excluded, json.dumps(exclude).encode())
    places = [part for name in _NOT_SEARCHES if name in flags for part in (f"--{name}", str(flags[name]))]
    config_option = ["--config", str(config)] if config else []
    searched = {name: value for name, value in flags.items() if name not in _NOT_SEARCHES}
    whole = Suite(
        model=components.spec,
        shown_model=components.shown_model,
        layer=place[1],
        units=found,
        selector=selector_of(components, place[1], units, found),
        searches=variants(base, [one for one in models if one != base.llm], excluded, exclude),
        settings_of=settings_of,
        options_of=lambda changes: [*as_options({"revisit": False, **searched, **changes}), *config_option],
        location_options=places,
        baselines=suiting(base) if baselines is None else baselines,
        cosy_options=cosy_options,
        folder=folder,
        runs=components.runs,
        has_classes=names is not None,
    )
    if only_plan:
        _print(whole.plan(), as_json=as_json)
        return
    status = whole.work(execute, terminal.note)
    if status == INTERRUPTED:
        terminal.note("Interrupted; what is done is kept, and the same command goes on.")
    elif as_json:
        terminal.dump({"report": str(folder / "report.md"), "not done": whole.failures})
    else:
        for name, reason in whole.failures.items():
            terminal.note(f"not done: {name}: {reason}")
        terminal.line(f"Report: {folder / 'report.md'}")
    if status:
        raise typer.Exit(status)


def selector_of(components: Components, layer: str, typed: Sequence[str], units: Sequence[int]) -> str:
    """One selector of units, as they were typed where that names the same ones, else by number.

    A file is named so that it is found from any folder.
    """
    named = [one.strip() for one in typed]
    absolute = [f"@{Path(one[1:]).expanduser().absolute()}" if one.startswith("@") else one for one in named]
    together = ",".join(absolute)
    with suppress(UsageError):
        if select_units(components, layer, [together])[0] == list(units):
            return together
    return ",".join(map(str, units))


def suiting(settings: Settings) -> list[str]:
    """The baselines that suit a search.

    An image bank has captions, which stand in for CLIP; Describe-and-Dissect asks the search's language model, and
    random words are none.
    """
    captioned = settings.generator.partition(":")[0] == "bank"
    left_out = "clip-dissect", "describe-and-dissect"
    found = [name for name in BASELINES if (name not in left_out if captioned else not name.endswith("captions"))]
    asking = settings.llm != "random"
    return [name for name in found if asking or not name.startswith("describe-and-dissect")]


def _print(tasks: Sequence[Command], *, as_json: bool) -> None:
    if as_json:
        terminal.dump([{"name": one.name, "state": one.state, "command": one.shown} for one in tasks])
        return
    for task in tasks:
        terminal.line(f"{task.state:>10}  {task.name}")
        terminal.line(task.shown, lead=" " * 12)


def names_kept_out(components: Components, names: Mapping[int, str]) -> dict[str, list[str]]:
    """Every name of the classes that units stand for, by unit: WordNet's and the image bank's as well."""
    from line_neurons.eval.labels.wordnet import WordNet
    from line_neurons.eval.reports.label_quality import names_and_captions, true_classes
    from line_neurons.tools.store.records import Unit

    words = WordNet(components.assets / "wordnet")
    bank = (
        components.image_bank if "bank" in {components.settings.generator, components.settings.control} else None
    )
    units = [Unit("", unit, place, name=name) for place, (unit, name) in enumerate(names.items())]
    return {str(one.unit): list(names_and_captions(words, one)) for one in true_classes(words, units, bank)}


def execute(task: Command) -> int:
    """Carry out a command in this process, as if it had been typed.

    Raises:
        LineError: see the command.
    """
    from line_neurons.tui.cli.main import app

    # What commands print stands in the report.
    with _typed(task), Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        try:
            status = app(list(task.arguments), standalone_mode=False)
        except Exception as error:
            # What the parser of the command line refuses, such as an option that --cosy brought.
            told = getattr(error, "format_message", None)
            if told is None:
                raise
            raise UsageError(told(), "see `line --help`") from error
    return int(status or 0)


@contextmanager
def _typed(task: Command) -> Iterator[None]:
    """Runs record the command that began them."""
    before, excluded = sys.argv, os.environ.get(_EXCLUDED)
    sys.argv = ["line", *task.arguments]
    if task.exclude_file:
        os.environ[_EXCLUDED] = task.exclude_file.read_text(encoding="utf-8")
    try:
        yield
    finally:
        sys.argv = before
        if task.exclude_file:
            os.environ.pop(_EXCLUDED)
            if excluded is not None:
                os.environ[_EXCLUDED] = excluded


def as_options(settings: Mapping[str, Any]) -> list[str]:
    """Settings as options of a command line, those of tables such as ``[diffusion]`` as well."""
    known = opt.RUN | opt.BATCH
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = value if isinstance(value, dict) else {}
        flat |= {f"{name}__{one}": told for one, told in inner.items()} or {name: value}
    arguments: list[str] = []
    for name, value in flat.items():
        option = _option(name, known[name])
        if isinstance(value, bool):
            on, _, off = option.partition("/")
            arguments += [on] if value else [off] if off else []
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            arguments += [option, str(one)]
    return arguments


def _option(name: str, declared: Any) -> str:
    told = next(one for one in get_args(declared) if isinstance(one, typer.models.OptionInfo))
    # Within Annotated the first name takes the place of the default.
    names = [one for one in (told.default, *(told.param_decls or ())) if isinstance(one, str)]
    return next((one for one in names if one.startswith("--")), f"--{name.replace('_', '-')}")
