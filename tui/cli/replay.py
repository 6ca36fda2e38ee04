"""What ``line replay`` does: say what differs here, do a run again, and say how far it comes out the same."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from line_neurons.agent.errors import LineError, UsageError
from line_neurons.agent.settings import Settings
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
from line_neurons.graphs.runs.runner import last_step
from line_neurons.tools.language_models.ollama.address import without_passwords
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import default_store, find_unit, open_store
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.exit_codes import INTERRUPTED
from line_neurons.tui.cli.progress import Watching
from line_neurons.tui.cli.signals import draining

_LONGEST = 60


def replay(
    name: str,
    which: Sequence[str],
    into: Path | None,
    settings: Settings,
    changes: Mapping[str, Any],
    *,
    strict: bool,
    tolerance: float,
    as_json: bool,
    trust: bool = False,
) -> None:
    """Do a run again in a store of its own, and print what differs.

    Args:
        name: the run, or the beginning of its name.
        which: units of it, by number or class name; none: all.
        into: the folder of the replay's store; None for a new one below the run's store.
        settings: where the store and the asset packs are, and what else is this machine's own.
        changes: settings that do not alter what comes out, such as the device.
        strict: refuse where a part is not the one that the run had.
        tolerance: scores that differ by no more count as equal.
        as_json: print JSON.
        trust: run code of one's own that the run names, whoever began it.

    Raises:
        LineError: the run cannot be done again.
        Exit: with status 1 if something differs, 130 if it was interrupted.
    """
    store = settings.store or default_store()
    command = shlex.join(["line", *without_passwords(sys.argv[1:])])
    watching = Watching()
    with closing(open_store(store)) as runs:
        run = runs.run(name)
        every = runs.units(run.id)
        planned = plan(runs, run, [find_unit(run, every, one).unit for one in which])
        for one in () if trust else planned.whole:
            require_trust(runs, one.run, changes)
        if into is None and not os.access(store, os.W_OK):
            raise UsageError(f"nothing can be written in {store}", "name a folder for the replay with --into")
        place = into or replay_folder(runs, planned)
        if place.resolve() == store.resolve():
            raise UsageError(f"{place} is the store of run {run.id} itself", "name a new folder with --into")
        with watching:
            components = components_of(runs, planned, place, settings, watching.preparing, changes)
            differ, unknown = compare_environment(runs, run, current_environment(components[-1], run.layer))
        if not as_json:
            _say_circumstances(planned, place, differ, unknown)
        if strict and (others := [one.what for one in differ if one.what.startswith("parts.")]):
            raise UsageError(
                f"parts are not those that run {run.id} had: {', '.join(others)}",
                "install what it had, or leave out --strict",
            )
        own = components[-1].settings
        watching.steps_in_all = len(planned.units) * (last_step(own) + 1)
        watching.many = own.max_concurrent_units > 1 and len(planned.units) > 1
        with watching, draining() as drain:
            try:
                done = replay_run(runs, planned, components, watching.watch, drain, command)
            except UsageError:
                raise
            except LineError as error:
                error.remedy = "; ".join(filter(None, [error.remedy, "then the same command goes on"]))
                raise
        if done.status == "interrupted":
            terminal.note(f"Interrupted; every finished step is kept. The same command goes on: {command}")
            raise typer.Exit(INTERRUPTED)
        found = compare_units(runs, planned, components[-1].runs, done, tolerance)
    if as_json:
        terminal.dump(_json(planned, place, done, differ, unknown, found, tolerance))
    else:
        _say_agreement(planned, place, done, found)
    if not all(one.agrees for one in found):
        raise typer.Exit(1)


def _say_circumstances(planned: Plan, place: Path, differ: Sequence[Difference], unknown: Sequence[str]) -> None:
    """Say, before anything is done, what is other here than it was."""
    run, units = planned.run, terminal.counted(len(planned.units), "unit")
    terminal.line(f"Replay of {run.id}: {units}, in {place}", style="bold")
    for one in planned.whole[:-1]:
        terminal.line(f"It was forked, so unit {one.units[0].unit} of {one.run.id} is done again before.")
    for unit, why in planned.left_out.items():
        terminal.line(f"Unit {unit} is left out: {why}.")
    if planned.note:
        terminal.line(f"{planned.note.capitalize()}.")
    if differ:
        terminal.table(
            ["differs", "recorded", "here"],
            [[one.what, ", ".join(map(_short, one.then)), _short(one.now)] for one in differ],
        )
    if unknown:
        terminal.line(f"Not recorded with the run, and so not compared: {', '.join(unknown)}.")
    if not differ:
        terminal.line("What the run was made with is the same here" + (" as far as recorded." if unknown else "."))


def _say_agreement(planned: Plan, place: Path, done: Run, found: Sequence[Agreement]) -> None:
    terminal.table(
        ["unit", "name", "verdict", "label", "score", "label now", "score now", "steps", "images", "parts at"],
        [
            [
                str(one.unit),
                one.name,
                one.verdict,
                one.label,
                one.score,
                one.label_now,
                one.score_now,
                f"{one.equal_steps}/{one.steps}",
                f"{one.equal_images}/{one.images}",
                _place(one),
            ]
            for one in found
        ],
    )
    for one in found:
        if one.parted:
            then, now = (terminal.plain(_brief(value)) for value in (one.parted.then, one.parted.now))
            terminal.line(f"unit {one.unit}, {_place(one)}: {then} then, {now} now")
        if one.note:
            terminal.line(f"unit {one.unit}: {one.note}")
    counts = {verdict: sum(one.verdict == verdict for one in found) for verdict in VERDICTS}
    said = [f"{terminal.counted(count, 'unit')} {verdict}" for verdict, count in counts.items() if count]
    terminal.line(f"{', '.join(said)}{_within(found)}.", style="bold")
    terminal.line(f"Its own store: line show {done.id} --store {shell_word(str(place))}")


def _within(found: Sequence[Agreement]) -> str:
    """The largest differences, where there are any."""
    largest = {
        "scores": max((one.score_difference or 0 for one in found), default=0),
        "activations": max((one.activation_difference or 0 for one in found), default=0),
    }
    apart = [f"{what} of a same concept are at most {most:.3g} apart" for what, most in largest.items() if most]
    return f"; {' and '.join(apart)}" if apart else ""


def _place(one: Agreement) -> str:
    if one.parted is None:
        return ""
    again = f", question {one.parted.attempt}" if one.parted.attempt else ""
    return f"step {one.parted.step}{again}: {one.parted.what}"


def _short(text: str) -> str:
    """A hash by its beginning; other values as they are."""
    return f"{text[:12]}..." if re.fullmatch(r"[0-9a-f]{64}", text) else text


def _brief(value: Any) -> str:
    if isinstance(value, list | tuple):
        value = ", ".join(_brief(one)[:12] if isinstance(one, str) else _brief(one) for one in value)
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
        "agrees": all(one.agrees for one in found),
        "tolerance": tolerance,
        "differ": [asdict(one) for one in differ],
        "not_recorded": list(unknown),
        "left_out": {str(unit): why for unit, why in planned.left_out.items()},
        "note": planned.note,
        "units": [asdict(one) for one in found],
    }
