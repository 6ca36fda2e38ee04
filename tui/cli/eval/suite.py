"""Work of ``line eval suite``: a whole evaluation, on top of the other commands."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.presets import SEARCH_SHARE
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.agent.settings_sources import flag_of
from line_neurons.eval.suite import BASELINES, Command, Suite, variants
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.unit_selection import select_units
from line_neurons.tools.image_bank.bank import BUNDLED
from line_neurons.tools.image_bank.opening import uses_image_bank
from line_neurons.tools.store.atomic_files import write_file
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.exit_codes import INTERRUPTED
from line_neurons.tui.cli.invocation import Invocation, invoked
from line_neurons.tui.cli.jobs import batch_settings

_EXCLUDED = "exclude_for"
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
    run_command: Callable[[Command], int],
    *,
    edits_options: Sequence[str] | None,
    only_plan: bool,
    as_json: bool,
) -> None:
    """Run the missing commands of an evaluation and write its report, or print the plan.

    ``place`` is the target's spec and the layer; ``models`` are compared with the searches' own language model.
    Without ``baselines`` those that fit the image generator are run. ``run_command`` returns an exit status.

    Raises:
        LineError: model, layer, units or settings are invalid.
        Exit: with status 1 if a command failed, 130 if it was interrupted.
    """
    unknown = [name for name in baselines or () if name not in BASELINES]
    if unknown:
        raise UsageError(f"{unknown[0]!r:.40} is not a baseline", choices(unknown[0], BASELINES))

    def settings_of(changes: Mapping[str, Any]) -> Settings:
        return batch_settings(load_settings(config, **{"revisit": False, **flags, **changes}))

    flags = search_flags(flags, settings_of({}))
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
        searches=variants(base, [model for model in models if model != base.llm], excluded, exclude),
        settings_of=settings_of,
        options_of=lambda changes: [*as_options({"revisit": False, **searched, **changes}), *config_option],
        location_options=places,
        baselines=suiting(base) if baselines is None else baselines,
        cosy_options=cosy_options,
        edits_options=edits_options,
        folder=folder,
        runs=components.runs,
        has_classes=names is not None,
    )
    if only_plan:
        _print(whole.plan(), as_json=as_json)
        return
    status = whole.work(run_command, terminal.note)
    if status == INTERRUPTED:
        terminal.note("Interrupted; finished commands are kept. The same command continues.")
    elif as_json:
        terminal.dump({"report": str(folder / "report.md"), "not done": whole.failures})
    else:
        for name, reason in whole.failures.items():
            terminal.note(f"not done: {name}: {reason}")
        terminal.line(f"Report: {folder / 'report.md'}")
    if status:
        raise typer.Exit(status)


def selector_of(components: Components, layer: str, typed: Sequence[str], units: Sequence[int]) -> str:
    """Return one selector of units, as they were typed if that is unambiguous, else by number.

    Paths are made absolute, so that the file is found from any folder.
    """
    named = [selector.strip() for selector in typed]
    absolute = [f"@{Path(text[1:]).expanduser().absolute()}" if text.startswith("@") else text for text in named]
    together = ",".join(absolute)
    with suppress(UsageError):
        if select_units(components, layer, [together])[0] == list(units):
            return together
    return ",".join(map(str, units))


def search_flags(flags: Mapping[str, Any], base: Settings) -> Mapping[str, Any]:
    """Return the flags of a suite's searches: with a bank from a third of the captions, unless a share is set."""
    if base.control != "bank" or base.vocabulary_share is not None:
        return flags
    return {**flags, "vocabulary_share": SEARCH_SHARE}


def suiting(settings: Settings) -> list[str]:
    """Return the baselines that fit a search.

    An image bank has captions, which replace CLIP; Describe-and-Dissect needs a language model, not random words.
    """
    captioned = uses_image_bank(settings.generator)
    left_out = "clip-dissect", "describe-and-dissect"
    found = [name for name in BASELINES if (name not in left_out if captioned else not name.endswith("captions"))]
    asking = settings.llm != "random"
    return [name for name in found if asking or not name.startswith("describe-and-dissect")]


def _print(tasks: Sequence[Command], *, as_json: bool) -> None:
    if as_json:
        terminal.dump([{"name": task.name, "state": task.state, "command": task.shown} for task in tasks])
        return
    for task in tasks:
        terminal.line(f"{task.state:>10}  {task.name}")
        terminal.line(task.shown, lead=" " * 12)


def names_kept_out(components: Components, names: Mapping[int, str]) -> dict[str, list[str]]:
    """Return all names of the classes that units stand for, WordNet's and the image bank's included, by unit."""
    from line_neurons.eval.labels.wordnet import WordNet
    from line_neurons.eval.reports.label_quality import names_and_captions, true_classes
    from line_neurons.tools.store.records import Unit

    words = WordNet(components.assets / "wordnet")
    settings = components.settings
    bank = components.image_bank if settings.generator in BUNDLED or settings.control == "bank" else None
    units = [Unit("", unit, place, name=name) for place, (unit, name) in enumerate(names.items())]
    return {str(known.unit): list(names_and_captions(words, known)) for known in true_classes(words, units, bank)}


def execute(line: Any, task: Command) -> int:
    """Run a command in this process, as if it had been typed; ``line`` is the group of all commands.

    Raises:
        LineError: see the command.
    """
    excluded = task.exclude_file and json.loads(task.exclude_file.read_text(encoding="utf-8"))
    invocation = Invocation(task.arguments, {_EXCLUDED: excluded} if excluded else {})
    # The report holds what commands print.
    with (
        invoked(invocation),
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
    ):
        try:
            status = line.main(list(task.arguments), prog_name="line", standalone_mode=False)
        except Exception as error:
            # The parser refused an argument, such as an option named by --cosy.
            message = getattr(error, "format_message", None)
            if message is None:
                raise
            raise UsageError(message(), "see `line --help`") from error
    return int(status or 0)


def as_options(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as options of a command line, tables such as ``[diffusion]`` included."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        table = value if isinstance(value, dict) else {}
        flat |= {f"{name}__{entry}": inner for entry, inner in table.items()} or {name: value}
    arguments: list[str] = []
    for name, value in flat.items():
        flag = flag_of(name)
        if isinstance(value, bool):
            if value or name not in opt.ON_ONLY:
                arguments.append(flag if value else f"--no-{flag.removeprefix('--')}")
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            arguments += [flag, str(item)]
    return arguments
