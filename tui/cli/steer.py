"""Commands for a run that another process works on: ``line steer`` and ``line stop``."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.steering import SteeringKind
from line_neurons.tools.store.leases import STALE_SECONDS, LeaseStatus, lease_status, request_stop
from line_neurons.tools.store.runs import RunStore, find_unit, open_store
from line_neurons.tools.store.steering_queue import submit_all
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.printing.run import store_flag
from line_neurons.tui.formatting import is_worked_on

app = typer.Typer()

_POLL_SECONDS = 0.2


@opt.command(
    app,
    "steer",
    ("store",),
    examples=(
        "line steer resnet50-layer4-1 7 --pin castle --ban 'stone wall'",
        "line steer resnet50-layer4-1 castle --try 'medieval tower'",
        "line steer resnet50-layer4-1 7 --again",
    ),
)
def steer(
    run: opt.RunName,
    unit: opt.UnitName,
    *,
    pin: Annotated[list[str] | None, typer.Option(help="Keep this concept on the board; repeatable.")] = None,
    unpin: Annotated[list[str] | None, typer.Option(help="Undo --pin; repeatable.")] = None,
    ban: Annotated[
        list[str] | None, typer.Option(help="Remove from the board for good, never the label; repeatable.")
    ] = None,
    try_: Annotated[list[str] | None, typer.Option("--try", help="Score this concept next; repeatable.")] = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Discard the current proposal and request another; continue a finished unit."
        ),
    ] = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Pin, ban or suggest concepts.

    A command is applied before the unit's next node, or when the run is resumed.
    """
    store = opt.store_of(**flags)
    concepts: dict[SteeringKind, list[str]] = {
        "unpin": unpin or [],
        "pin": pin or [],
        "ban": ban or [],
        "try": try_ or [],
    }
    submitted = [(kind, concept) for kind, named in concepts.items() for concept in named]
    submitted += [("again", "")] if again else []
    if not submitted:
        raise UsageError("no steering command is given", "use --pin, --unpin, --ban, --try or --again")
    with closing(open_store(store, read_only=False)) as runs:
        shown = runs.run(run)
        chosen = find_unit(shown, runs.units(shown.id), unit)
        queued = submit_all(runs, shown, chosen.unit, submitted)
        lease = lease_status(runs, check_liveness=False).get(shown.id)
    active = is_worked_on(lease)
    if json:
        terminal.dump(
            {
                "run": shown.id,
                "unit": chosen.unit,
                "worked_on": active,
                "wishes": [asdict(command) for command in queued],
            }
        )
        return
    if active and lease is not None:
        applied = f"{lease.holder.name} applies it before the unit's next node."
    elif chosen.status == "failed":
        applied = (
            f"The run is not active and the unit failed; continue with: line retry {shown.id}{store_flag(store)}"
        )
    else:
        applied = f"The run is not active; continue with: line resume {shown.id}{store_flag(store)}"
    named = ", ".join(f"{command.kind} {command.concept}".rstrip() for command in queued)
    terminal.line(f"Queued for unit {chosen.unit} of {shown.id}: {named}. {applied}")


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
