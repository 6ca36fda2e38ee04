"""What ``line steer``, ``line fork`` and ``line show --prompt`` do."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings, fork_changes
from line_neurons.agent.steering import SteeringKind
from line_neurons.agent.text import shell_word
from line_neurons.tools.store.leases import lease_status
from line_neurons.tools.store.runs import default_store, find_unit, open_store
from line_neurons.tools.store.steering_queue import submit_all
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.formatting import is_worked_on

Asked = Sequence[tuple[SteeringKind, str]]


def steer(store: Path, name: str, which: str, asked: Asked, *, as_json: bool) -> None:
    """Ask things of a unit, all or none, and say who will take them.

    Args:
        store: the store's folder.
        name: the run, or the beginning of its name.
        which: the unit: its number or class name.
        asked: what is asked, with the concept.
        as_json: print JSON.

    Raises:
        UsageError: nothing is asked, or something makes no sense.
    """
    if not asked:
        raise UsageError("nothing is asked", "name --pin, --unpin, --ban, --try or --again")
    with closing(open_store(store, read_only=False)) as runs:
        run = runs.run(name)
        unit = find_unit(run, runs.units(run.id), which)
        written = submit_all(runs, run, unit.unit, asked)
        held = lease_status(runs, check_liveness=False).get(run.id)
    worked_on = is_worked_on(held)
    if as_json:
        terminal.dump(
            {"run": run.id, "unit": unit.unit, "worked_on": worked_on, "wishes": [asdict(one) for one in written]}
        )
        return
    said = ", ".join(f"{one.kind} {one.concept}".rstrip() for one in written)
    place = "" if store == default_store() else f" --store {shell_word(str(store))}"
    if worked_on and held is not None:
        then = f"{held.holder.name} takes it before the unit's next node."
    elif unit.status == "failed":
        then = f"Nobody works on the run, and the unit failed; take it up with: line retry {run.id}{place}"
    else:
        then = f"Nobody works on the run; take it up with: line resume {run.id}{place}"
    terminal.line(f"Asked of unit {unit.unit} of {run.id}: {said}. {then}")


def fork(
    name: str,
    which: str,
    step: int,
    concept: str,
    settings: Settings,
    changes: Mapping[str, Any],
    *,
    working: bool,
    as_json: bool,
    trust: bool = False,
) -> None:
    """Start a run from what a unit of another one had after a step, and work on it.

    Args:
        name: the run, or the beginning of its name.
        which: the unit: its number or class name.
        step: the last step that is kept.
        concept: a concept of one's own that comes next; empty for none.
        settings: where the store and the asset packs are.
        changes: settings that are other than recorded.
        working: work on the new run at once.
        as_json: print JSON.
        trust: run code of one's own that the run names, whoever began it.

    Raises:
        LineError: there is no such run, unit or step, or a setting cannot be another.
        Exit: with status 1 if the unit failed, 3 if no answer was usable, 130 if it was interrupted.
    """
    from line_neurons.graphs.runs import fork as forking
    from line_neurons.tools.language_models.ollama.address import without_passwords
    from line_neurons.tui.cli import run as labelling
    from line_neurons.tui.cli.progress import Watching

    store = settings.store or default_store()
    with closing(open_store(store, read_only=False)) as opened:
        run = opened.run(name)
        unit = find_unit(run, opened.units(run.id), which).unit
    allowed = fork_changes(run.settings, changes)
    labelling.vouch_for(store, [run], trust=trust)
    with Watching() as watching:
        components, _ = labelling.Reopening(settings, watching, allowed).job(run)
        command = shlex.join(["line", *without_passwords(sys.argv[1:])])
        new = forking.fork(components, run, unit, step, concept=concept, command=command)
        # Said before the work, and beside the results.
        terminal.note(f"Forked unit {unit} of {run.id} after step {step} as {new.id}.")
        if working:
            labelling.work_on([(components, new)], watching)
    if working:
        if status := labelling.conclude([(components, new)], as_json=as_json):
            raise typer.Exit(status)
    elif as_json:
        terminal.dump({"run": new.id, "forked_from": run.id, "unit": unit, "step": step})
    else:
        place = f" --store {shell_word(str(store))}" if settings.store else ""
        terminal.line(f"Work on it with: line resume {new.id}{place}")


def prompt(store: Path, name: str, which: str, step: int, *, as_json: bool) -> None:
    """Print the questions that a step asked the language model, and whether they are to the letter what was sent.

    Raises:
        UsageError: there is no such step, or no model was asked in it.
    """
    from line_neurons.graphs.loop.reconstruct import recorded_prompt

    with closing(open_store(store)) as runs:
        run = runs.run(name)
        unit = find_unit(run, runs.units(run.id), which)
        last = recorded_prompt(runs, run.id, unit.unit, step)
        entries = [entry for entry in runs.steps(run.id, unit.unit) if entry.step == step]
        asked = []
        for entry in entries:
            if entry.attempt < last.attempt and entry.origin != "typed":
                asked.append((recorded_prompt(runs, run.id, unit.unit, step, entry.attempt), entry.reply))
            elif entry.attempt == last.attempt:
                asked.append((last, entry.reply))
    if as_json:
        terminal.dump([asdict(one) | {"reply": reply} for one, reply in asked])
        return
    for one, reply in asked:
        terminal.line(f"step {step}, question {one.attempt}: {_SAID[one.matches]}", style="bold")
        for message in one.prompt.messages:
            for number, line in enumerate(message.content.splitlines()):
                terminal.line(line, lead=f"{'' if number else message.role:10}")
        for number, line in enumerate(reply.splitlines()):
            terminal.line(line, lead=f"{'' if number else 'reply':10}")


_SAID = {
    True: "as it was sent, by its recorded hash",
    False: "not as it was sent: its recorded hash is another",
    None: "as far as is known; an earlier version recorded no hash",
}
