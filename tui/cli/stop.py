"""What ``line stop`` does: ask the process that works on a run to stop, and wait until it has."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.tools.store.leases import STALE_SECONDS, LeaseStatus, lease_status, request_stop
from line_neurons.tools.store.runs import RunStore, open_store
from line_neurons.tui.cli import output as terminal

_POLL_SECONDS = 0.2


def stop(store: Path, name: str, *, wait: bool, as_json: bool) -> None:
    """Ask the process that works on a run to stop after the steps in hand.

    Args:
        store: the store's folder.
        name: the run, or the beginning of its name.
        wait: come back only when nobody works on the run any more.
        as_json: print JSON.

    Raises:
        UsageError: there is no such run, or nobody works on it.
    """
    runs = open_store(store, read_only=False)
    run = runs.run(name).id
    found = lease_status(runs).get(run)
    if found is None or found.stale or not request_stop(runs, found.holder):
        left = f"{found.holder.name}, which worked on it, is gone; " if found else ""
        raise UsageError(f"nobody works on run {run}", f"{left}see `line runs`")
    if not as_json:
        terminal.line(f"Asked {found.holder.name} to stop run {run}: it ends the steps in hand, and keeps them.")
    if wait:
        _wait(runs, found)
    if as_json:
        asked = {"process": found.holder.process, "host": found.holder.host}
        terminal.dump({"run": run, "asked": asked, "stopped": wait})
    elif wait:
        terminal.line(f"Run {run} has stopped.")


def ask_holder(store: Path, run: str) -> bool:
    """Ask whoever holds a run to stop where nothing is lost; False if nobody holds it.

    Raises:
        StoreError: the store cannot be written.
    """
    with closing(RunStore(store)) as runs:
        held = lease_status(runs, check_liveness=False).get(run)
        return held is not None and request_stop(runs, held.holder)


def _wait(runs: RunStore, found: LeaseStatus) -> None:
    """Wait until a holder is done with its run, or dead."""
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
