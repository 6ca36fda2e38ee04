"""The command ``line replay``: repeat a run, and report how far the results agree."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from line_neurons.agent.errors import LineError, UsageError
from line_neurons.agent.presets import SERVERS
from line_neurons.agent.text import shell_word
from line_neurons.graphs.replay.compare import (
    SCHEMA,
    VERDICTS,
    Agreement,
    Difference,
    compare_environment,
    compare_units,
)
from line_neurons.graphs.replay.replay import Plan, components_of, plan, replay_folder, replay_run
from line_neurons.graphs.runs.code_trust import require_trust
from line_neurons.graphs.runs.environment import current_environment
from line_neurons.graphs.runs.runner import steps_of_unit
from line_neurons.tools.language_models.arguments import known_fingerprints
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import default_store, find_unit, open_store
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.exit_codes import INTERRUPTED
from line_neurons.tui.cli.invocation import command_line
from line_neurons.tui.cli.process.signals import draining
from line_neurons.tui.cli.progress import ProgressReporter
from line_neurons.tui.formatting import counted, plain

app = typer.Typer()

_LONGEST = 60


@opt.command(
    app,
    "replay",
    (*SERVERS, "timeout", "max_concurrent_units", "llm_parallel", *opt.MACHINE, *opt.FILES),
    defaults="as recorded",
    examples=(
        "line replay resnet50-layer4-1",
        "line replay resnet50-layer4-1 7 castle --tolerance 1e-4 --device cpu",
        "line replay resnet50-layer4-1 --strict --into replay",
    ),
)
def replay(
    run: opt.RunName,
    unit: Annotated[
        list[str] | None,
        typer.Argument(metavar="UNIT", help="Units of the run: numbers or class names; default: all."),
    ] = None,
    *,
    into: Annotated[
        Path | None,
        typer.Option(help="Store of the replay; default: a new folder in the store's folder replays."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse if a component differs from the recorded one.")
    ] = False,
    tolerance: Annotated[float, typer.Option(min=0, help="Largest difference of equal scores.")] = 0,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Repeat a recorded run without its cache, and report what differs.

    First the recorded environment is compared with this machine's, then each unit, up to its first different step.
    Status 0: all is equal, 1: something differs, 2: the run cannot be replayed, 130: interrupted; the same command
    continues.
    """
    settings, changes = opt.reopening(config, flags)
    store = settings.store or default_store()
    command = command_line()
    reporter = ProgressReporter()
    with closing(open_store(store)) as runs:
        recorded = runs.run(run)
        every = runs.units(recorded.id)
        planned = plan(runs, recorded, [find_unit(recorded, every, name).unit for name in unit or ()])
        for part in () if trust else planned.whole:
            require_trust(runs, part.run, changes)
        if into is None and not os.access(store, os.W_OK):
            raise UsageError(f"the store {store} is read-only", "name a folder for the replay with --into")
        place = into or replay_folder(runs, planned)
        if place.resolve() == store.resolve():
            raise UsageError(f"{place} is the store of run {recorded.id} itself", "name a new folder with --into")
        with reporter:
            components = components_of(runs, planned, place, settings, reporter.report_preparation, changes)
            differ, unknown = compare_environment(
                runs,
                replace(recorded, fingerprints=known_fingerprints(components[-1].language_model, recorded)),
                current_environment(components[-1], recorded.layer),
            )
        if not json:
            _report_environment(planned, place, differ, unknown)
        if strict and (
            others := [difference.what for difference in differ if difference.what.startswith("parts.")]
        ):
            raise UsageError(
                f"components differ from those of run {recorded.id}: {', '.join(others)}",
                "install the recorded ones, or omit --strict",
            )
        own = components[-1].settings
        reporter.steps_in_all = len(planned.units) * steps_of_unit(own)
        reporter.many = own.max_concurrent_units > 1 and len(planned.units) > 1
        with reporter, draining() as drain:
            try:
                done = replay_run(runs, planned, components, reporter.report, drain, command)
            except UsageError:
                raise
            except LineError as error:
                error.remedy = "; ".join(
                    filter(None, [error.remedy, "then run the same command again to continue"])
                )
                raise
        if done.status == "interrupted":
            terminal.note(f"Interrupted; every finished step is kept. Continue with the same command: {command}")
            raise typer.Exit(INTERRUPTED)
        found = compare_units(runs, planned, components[-1].runs, done, tolerance)
    if json:
        terminal.dump(_json(planned, place, done, differ, unknown, found, tolerance))
    else:
        _report_agreement(planned, place, done, found)
    if not all(agreement.agrees for agreement in found):
        raise typer.Exit(1)


def _report_environment(planned: Plan, place: Path, differ: Sequence[Difference], unknown: Sequence[str]) -> None:
    """Print what differs from the recorded environment, before the replay."""
    run, units = planned.run, counted(len(planned.units), "unit")
    terminal.line(f"Replay of {run.id}: {units}, in {place}", style="bold")
    for part in planned.whole[:-1]:
        terminal.line(f"It was forked, so unit {part.units[0].unit} of {part.run.id} is replayed first.")
    for unit, why in planned.left_out.items():
        terminal.line(f"Unit {unit} is left out: {why}.")
    if planned.note:
        terminal.line(f"{planned.note.capitalize()}.")
    if differ:
        terminal.table(
            ["differs", "recorded", "here"],
            [
                [difference.what, ", ".join(map(_short, difference.then)), _short(difference.now)]
                for difference in differ
            ],
            wrap=("recorded", "here"),
        )
    if unknown:
        terminal.line(f"Not recorded with the run, and so not compared: {', '.join(unknown)}.")
    if not differ:
        terminal.line("The environment is the same here" + (" as far as recorded." if unknown else "."))


def _report_agreement(planned: Plan, place: Path, done: Run, found: Sequence[Agreement]) -> None:
    columns: dict[str, list[object]] = {
        "unit": [str(agreement.unit) for agreement in found],
        "name": [agreement.name for agreement in found],
        "verdict": [agreement.verdict for agreement in found],
        "label": [agreement.label for agreement in found],
        "score": [agreement.score for agreement in found],
        "label now": [agreement.label_now for agreement in found],
        "score now": [agreement.score_now for agreement in found],
        "steps": [f"{agreement.equal_steps}/{agreement.steps}" for agreement in found],
        "images": [f"{agreement.equal_images}/{agreement.images}" for agreement in found],
        "first difference": [_place(agreement) for agreement in found],
    }
    terminal.table(
        list(columns),
        list(zip(*columns.values(), strict=True)),
        drop=("images", "steps", "first difference", "name"),
    )
    for agreement in found:
        if agreement.parted:
            then, now = (plain(_brief(value)) for value in (agreement.parted.then, agreement.parted.now))
            terminal.line(f"unit {agreement.unit}, {_place(agreement)}: {then} then, {now} now")
        if agreement.note:
            terminal.line(f"unit {agreement.unit}: {agreement.note}")
    counts = {verdict: sum(agreement.verdict == verdict for agreement in found) for verdict in VERDICTS}
    verdicts = [f"{counted(count, 'unit')} {verdict}" for verdict, count in counts.items() if count]
    terminal.line(f"{', '.join(verdicts)}{_within(found)}.", style="bold")
    terminal.line(f"Store of the replay: line show {done.id} --store {shell_word(str(place))}")


def _within(found: Sequence[Agreement]) -> str:
    """Return the largest differences, if there are any."""
    largest = {
        "scores": max((agreement.score_difference or 0 for agreement in found), default=0),
        "activations": max((agreement.activation_difference or 0 for agreement in found), default=0),
    }
    apart = [f"{what} of the same concept differ by at most {most:.3g}" for what, most in largest.items() if most]
    return f"; {' and '.join(apart)}" if apart else ""


def _place(agreement: Agreement) -> str:
    if agreement.parted is None:
        return ""
    again = f", request {agreement.parted.attempt}" if agreement.parted.attempt else ""
    return f"step {agreement.parted.step}{again}: {agreement.parted.what}"


def _short(text: str) -> str:
    """Return the beginning of a hash; other values unchanged."""
    return f"{text[:12]}..." if re.fullmatch(r"[0-9a-f]{64}", text) else text


def _brief(value: Any) -> str:
    if isinstance(value, list | tuple):
        value = ", ".join(_brief(item)[:12] if isinstance(item, str) else _brief(item) for item in value)
    text = repr(value) if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _json(
    planned: Plan,
    place: Path,
    done: Run,
    differ: Sequence[Difference],
    unknown: Sequence[str],
    found: Sequence[Agreement],
    tolerance: float,
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "run": planned.run.id,
        "replay": {"run": done.id, "store": str(place)},
        "agrees": all(agreement.agrees for agreement in found),
        "tolerance": tolerance,
        "differ": [asdict(difference) for difference in differ],
        "not_recorded": list(unknown),
        "left_out": {str(unit): why for unit, why in planned.left_out.items()},
        "note": planned.note,
        "units": [asdict(agreement) for agreement in found],
    }
