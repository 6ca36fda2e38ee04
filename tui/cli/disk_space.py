"""What ``line gc`` prints: how much smaller each database of a store is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from line_neurons.tools.doctor import disk_space
from line_neurons.tools.doctor.disk_space import Freed
from line_neurons.tui.cli import output as terminal


def give_back(store: Path, *, as_json: bool) -> None:
    """Give back what a store can spare, and print a line for each database.

    Raises:
        UsageError: there is no such store, or a process works on it.
        StoreError: a database cannot be used, or there is no room for a copy of it.
    """
    done: list[Freed] = []
    for one in disk_space.compact(store):
        done.append(one)
        if not as_json:
            terminal.line(_said(one))
    if as_json:
        terminal.dump({"store": str(store), "databases": [asdict(one) for one in done]})
    else:
        terminal.line(f"freed {_megabytes(sum(one.before - one.after for one in done))} of {store}")


def _said(one: Freed) -> str:
    pruned = f", checkpoints of {terminal.counted(one.pruned, 'finished unit')} pruned" if one.pruned else ""
    return f"{one.database}: {_megabytes(one.before)} before, {_megabytes(one.after)} now{pruned}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
