"""What ``line doctor`` says and does about a store alone."""

from __future__ import annotations

from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import shell_word
from line_neurons.tools.doctor.faults import FAULTS, Problem
from line_neurons.tools.doctor.repair import repair
from line_neurons.tools.doctor.store import active_runs, check
from line_neurons.tui.cli import output as terminal


def examine(store: Path, *, fix: bool, deep: bool, as_json: bool) -> bool:
    """Print what is wrong with a store, and mend it if that is wanted; True if nothing is left that is a fault.

    Raises:
        UsageError: there is no such store, or it is to be mended while a process works on it.
        StoreError: it cannot be read or written.
    """
    if not store.is_dir():
        raise UsageError(f"there is no store at {str(store)!r}", "name its folder with --store")
    done: list[str] = []

    def told(line: str) -> None:
        done.append(line)
        if not as_json:
            terminal.line(line, lead="mended  ")

    found = repair(store, deep=deep, on_repair=told) if fix else check(store, deep=deep)
    if as_json:
        terminal.dump({"store": str(store), "mended": done, "problems": [_as_json(problem) for problem in found]})
    else:
        _tell(store, found)
    return not any(FAULTS[problem.kind].is_error for problem in found)


def _tell(store: Path, found: list[Problem]) -> None:
    for problem in found:
        stops = FAULTS[problem.kind].is_error
        terminal.line(
            problem.message, style="red" if stops else "yellow", lead=f"{'broken' if stops else 'note':8}"
        )
    if busy := active_runs(store):
        terminal.line(
            f"{', '.join(busy)} is being worked on; what is in hand there is not looked at", lead="note    "
        )
    if any(FAULTS[problem.kind].repair for problem in found):
        terminal.line(f"to mend it: line doctor --store {shell_word(str(store))} --fix")
    elif not found:
        terminal.line(f"store: nothing is wrong with {store}", lead="ok      ")


def _as_json(problem: Problem) -> dict[str, object]:
    kind = FAULTS[problem.kind]
    return {
        "kind": problem.kind,
        "detail": problem.message,
        "status": "broken" if kind.is_error else "warn",
        "mending": kind.repair,
        "items": [list(item) for item in problem.items],
    }
