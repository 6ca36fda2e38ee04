"""Commands for a run that another process works on: ``line steer`` and ``line stop``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.steering import SteeringKind
from line_neurons.tools.steering.outcomes import outcomes
from line_neurons.tools.store.leases import STALE_SECONDS, LeaseStatus, lease_status, request_stop
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.runs import RunStore, find_unit, open_store
from line_neurons.tools.store.steering_queue import SteeringCommand, commands, find_waiting, submit_all
from line_neurons.tools.store.steering_queue import withdraw as withdraw_command
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.printing.run import store_flag
from line_neurons.tui.cli.printing.unit import print_steering, steering_json
from line_neurons.tui.formatting import is_worked_on
from line_neurons.tui.guidance_text import MAX_CANDIDATES, next_candidates

app = typer.Typer()

_POLL_SECONDS = 0.2


@opt.command(
    app,
    "steer",
    ("store", "assets"),
    examples=(
        "line steer resnet50-layer4-1 7 --pin castle --ban 'stone wall'",
        "line steer resnet50-layer4-1 castle --try 'medieval tower' --try-best 3",
        "line steer resnet50-layer4-1 7 --withdraw 'medieval tower'",
    ),
)
def steer(
    run: opt.RunName,
    unit: opt.UnitName,
    *,
    pin: Annotated[list[str] | None, typer.Option(help="Keep this concept on the board; repeatable.")] = None,
    unpin: Annotated[list[str] | None, typer.Option(help="Undo --pin; repeatable.")] = None,
    ban: Annotated[
        list[str] | None, typer.Option(help="Remove from the board, never the label; repeatable.")
    ] = None,
    unban: Annotated[list[str] | None, typer.Option(help="Undo --ban; repeatable.")] = None,
    try_: Annotated[list[str] | None, typer.Option("--try", help="Score this concept next; repeatable.")] = None,
    try_best: Annotated[
        int | None,
        typer.Option(
            "--try-best",
            metavar="K",
            min=1,
            max=MAX_CANDIDATES,
            help="Score the K next candidates of the response model, best first.",
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Discard the current proposal and request another; continue a finished unit."
        ),
    ] = False,
    withdraw: Annotated[
        list[str] | None,
        typer.Option(help="Withdraw a command that is waiting, by its number or concept; repeatable."),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="List the unit's steering commands with what became of them.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ban also what the search does not know, without a question.")
    ] = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Pin, ban or suggest concepts.

    A command is applied before the unit's next node, or when the run is resumed.
    """
    store, assets = opt.store_of(**flags), opt.assets_of(**flags)
    concepts: dict[SteeringKind, list[str]] = {
        "unpin": unpin or [],
        "pin": pin or [],
        "unban": unban or [],
        "ban": ban or [],
        "try": try_ or [],
    }
    submitted = [(kind, concept) for kind, named in concepts.items() for concept in named]
    submitted += [("again", "")] if again else []
    if not (submitted or try_best or withdraw or listing):
        raise UsageError(
            "no steering command is given",
            "use --pin, --unpin, --ban, --unban, --try, --try-best, --again, --withdraw, --list",
        )
    with closing(open_store(store, read_only=not (submitted or try_best or withdraw))) as runs:
        shown = runs.run(run)
        chosen = find_unit(shown, runs.units(shown.id), unit)
        submitted += [("try", concept) for concept in _candidates(runs, shown, chosen.unit, try_best or 0)]
        if not yes:
            _confirm_bans(runs, shown, chosen, concepts["ban"], assets, can_ask=not json)
        queued, withdrawn = _send(runs, shown, chosen.unit, submitted, withdraw or [])
        lease = lease_status(runs, check_liveness=False).get(shown.id)
        steered = outcomes(commands(runs, shown.id, chosen.unit), runs.steps(shown.id, chosen.unit))
    active = is_worked_on(lease)
    if json:
        terminal.dump(
            {
                "run": shown.id,
                "unit": chosen.unit,
                "worked_on": active,
                "wishes": [asdict(command) for command in queued],
                "withdrawn": [asdict(command) for command in withdrawn],
                **({"all": steering_json(steered)} if listing else {}),
            }
        )
        return
    if withdrawn:
        terminal.line(f"Withdrawn from unit {chosen.unit} of {shown.id}: {_named(withdrawn)}.")
    if queued:
        applied = _when_applied(shown, chosen, lease, store)
        terminal.line(f"Queued for unit {chosen.unit} of {shown.id}: {_named(queued)}. {applied}")
    if listing and steered:
        print_steering(steered)
    elif listing:
        terminal.line(f"Unit {chosen.unit} of {shown.id} has no steering commands.")


def _candidates(runs: RunStore, run: Run, unit: int, count: int) -> tuple[str, ...]:
    """Return the next candidates of a unit, or those of them that there are.

    Raises:
        UsageError: there are none.
    """
    if not count:
        return ()
    found = next_candidates(runs.steps(run.id, unit), commands(runs, run.id, unit))
    if not found:
        raise UsageError(
            f"unit {unit} of run {run.id} has no candidates that nobody tried",
            "runs with --llm guided, --hints-by improvement or --proposals have; or name one with --try",
        )
    return found[:count]


def _send(
    runs: RunStore, run: Run, unit: int, submitted: Sequence[tuple[SteeringKind, str]], withdraw: Sequence[str]
) -> tuple[list[SteeringCommand], list[SteeringCommand]]:
    """Withdraw waiting commands and submit others, all or nothing; return those that are new, and the others."""
    if not (submitted or withdraw):
        return [], []
    with runs.atomic():
        withdrawn = []
        for which in withdraw:
            for number in find_waiting(runs, run, unit, which):
                withdrawn.append(withdraw_command(runs, run, unit, number))
        return submit_all(runs, run, unit, submitted), withdrawn


def _confirm_bans(
    runs: RunStore, run: Run, unit: Unit, banned: Sequence[str], assets: Path, *, can_ask: bool
) -> None:
    """Ask whether concepts are banned that the search does not know.

    Raises:
        UsageError: there is no terminal to ask at.
        Exit: the user declined; nothing was written.
    """
    if not banned:
        return
    # It can read an image bank, which the other commands need not wait for.
    from line_neurons.tools.steering.ban_check import doubtful_ban

    can_ask = can_ask and bool(sys.stdin) and sys.stdin.isatty() and sys.stderr.isatty()
    for concept in banned:
        doubt = doubtful_ban(runs, run, unit.unit, concept, assets)
        if doubt is None:
            continue
        if not can_ask:
            raise UsageError(str(doubt), "correct it, or add --yes to ban it all the same")
        terminal.note(f"{doubt}.")
        if not typer.confirm("Ban it all the same?", err=True):
            terminal.note("Nothing was sent.")
            raise typer.Exit(2)


def _named(sent: Sequence[SteeringCommand]) -> str:
    return ", ".join(f"{command.kind} {command.concept}".rstrip() for command in sent)


def _when_applied(run: Run, unit: Unit, lease: LeaseStatus | None, store: Path) -> str:
    if is_worked_on(lease) and lease is not None:
        return f"{lease.holder.name} applies it before the unit's next node."
    if unit.status == "failed":
        return f"The run is not active and the unit failed; continue with: line retry {run.id}{store_flag(store)}"
    return f"The run is not active; continue with: line resume {run.id}{store_flag(store)}"


@opt.command(
    app,
    "stop",
    ("store",),
    examples=("line stop resnet50-layer4-1", "line stop resnet50-layer4-1 --wait"),
)
def stop(
    run: opt.RunName,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has stopped.")] = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Stop a running job after its current step.

    Finished steps are kept, as after Ctrl-C.
    """
    runs = open_store(opt.store_of(**flags), read_only=False)
    name = runs.run(run).id
    lease = lease_status(runs).get(name)
    if lease is None or lease.stale or not request_stop(runs, lease.holder):
        dead = f"{lease.holder.name}, which worked on it, is gone; " if lease else ""
        raise UsageError(f"run {name} is not active", f"{dead}see `line runs`")
    if not json:
        terminal.line(
            f"Stop requested: {lease.holder.name} finishes the current steps of run {name} and keeps them."
        )
    if wait:
        _wait(runs, lease)
    if json:
        holder = {"process": lease.holder.process, "host": lease.holder.host}
        terminal.dump({"run": name, "asked": holder, "stopped": wait})
    elif wait:
        terminal.line(f"Run {name} has stopped.")


def _wait(runs: RunStore, found: LeaseStatus) -> None:
    """Wait until a holder has released its run, or is dead."""
    run, token = found.holder.run, found.holder.token
    beats, heard = found.holder.beats, time.monotonic()
    while (
        (now := lease_status(runs, check_liveness=False).get(run)) and now.holder.token == token and not now.stale
    ):
        if now.holder.beats != beats:
            beats, heard = now.holder.beats, time.monotonic()
        elif time.monotonic() - heard > STALE_SECONDS:
            return
        time.sleep(_POLL_SECONDS)
