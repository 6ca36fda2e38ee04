"""Commands that look after the installation and the store: ``line doctor`` and ``line gc``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.presets import SERVERS
from line_neurons.agent.settings import Settings, load_settings
from line_neurons.agent.text import shell_word
from line_neurons.tools.cache.unused import Unused
from line_neurons.tools.doctor import disk_space
from line_neurons.tools.doctor.disk_space import Freed
from line_neurons.tools.doctor.faults import FAULTS, Problem
from line_neurons.tools.doctor.repair import repair
from line_neurons.tools.doctor.store import active_runs, check
from line_neurons.tools.store.runs import has_runs, open_store
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.formatting import counted, megabytes

app = typer.Typer()


@opt.command(
    app,
    "doctor",
    (*SERVERS, "store"),
    examples=("line doctor", "line doctor --deep", "line doctor --store runs --fix"),
)
def doctor(
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Also run text encoder and embedded language model, import what text-to-image models need, and "
            "check all files of a store.",
        ),
    ] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Repair the store (removes only regenerable files).")] = False,
    *,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Check the installation, or a store.

    Reports of each component whether it is present, its version, whether it works, and the remedy; at the end
    whether the demo, a run with the settings in force, and the evaluation can start. Exit status 1 where that run
    cannot, or something is missing or broken. With --store or --fix only the store is checked: its databases,
    images and checkpoints.
    """
    store = opt.store_of(**flags)
    if fix or "store" in flags:
        sound = examine(store, fix=fix, deep=deep, as_json=json)
    else:
        sound = check_installation(store, opt.assets_of(), load_settings(**flags), deep=deep, as_json=json)
    if not sound:
        raise typer.Exit(1)


@opt.command(app, "gc", ("store",), examples=("line gc --dry-run", "line gc --store runs --json"))
def gc(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Free disk space: images that no run refers to, old checkpoints, unused database pages.

    Activations go with the images. No process may work on the store meanwhile. Runs, labels, histories, replies,
    and the images of runs and evaluations stay.
    """
    store = opt.store_of(**flags)
    unused = disk_space.survey(store) if dry_run else disk_space.collect(store)
    if not json:
        for text in _unused_lines(unused):
            terminal.line(text)
    freed: list[Freed] = []
    for database in () if dry_run else disk_space.compact(store):
        freed.append(database)
        if not json:
            terminal.line(_said(database))
    if json:
        kinds = {
            "images": len(unused.images),
            "activations": len(unused.vectors),
            "controls": len(unused.controls),
        }
        terminal.dump(
            {
                "store": str(store),
                "dry_run": dry_run,
                "unused": kinds | {"bytes": unused.size},
                "databases": [asdict(database) for database in freed],
            }
        )
    elif dry_run:
        terminal.line(f"line gc would free {megabytes(unused.size)} of {store}; nothing was removed")
    else:
        files = unused.image_bytes + unused.control_bytes
        size = files + sum(database.before - database.after for database in freed)
        terminal.line(f"freed {megabytes(size)} of {store}")


def _unused_lines(unused: Unused) -> list[str]:
    """Describe what no run refers to, a line for each kind."""
    kinds = (
        ("image", len(unused.images), unused.image_bytes),
        ("activation vector", len(unused.vectors), unused.vector_bytes),
        ("measured control set", len(unused.controls), unused.control_bytes),
    )
    return [
        f"{counted(number, kind)} that no run refers to: {megabytes(size)}"
        for kind, number, size in kinds
        if number
    ]


def check_installation(store: Path, assets: Path, settings: Settings, *, deep: bool, as_json: bool) -> bool:
    """Print the state of each component and what can start; False if a component is missing or broken.

    It is False, too, if a run with ``settings`` cannot start.
    """
    from line_neurons.tools.doctor.findings import Finding
    from line_neurons.tools.doctor.installation import check

    def report(finding: Finding) -> None:
        mark = "note" if finding.status == "warn" else finding.status
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        terminal.paragraph(
            f"{finding.part}: {finding.detail}{remedy}",
            style={"ok": "", "warn": "yellow"}.get(finding.status, "red"),
            lead=f"{mark:8}",
        )

    def schema(path: Path) -> str:
        return counted(len(open_store(path).runs()), "run") if has_runs(path) else "no runs yet"

    findings = check(
        root=assets,
        store=store,
        schema=schema,
        deep=deep,
        settings=settings,
        found=(lambda _: None) if as_json else report,
    )
    if as_json:
        terminal.dump(findings)
    return all(finding.status in {"ok", "warn"} for finding in findings)


def examine(store: Path, *, fix: bool, deep: bool, as_json: bool) -> bool:
    """Print the faults of a store, and repair it if asked to; False if an error is left.

    Raises:
        UsageError: there is no such store, or a process works on a store that is to be repaired.
        StoreError: it cannot be read or written.
    """
    if not store.is_dir():
        raise UsageError(f"there is no store at {str(store)!r}", "name its folder with --store")
    done: list[str] = []

    def report(line: str) -> None:
        done.append(line)
        if not as_json:
            terminal.line(line, lead="repaired ")

    found = repair(store, deep=deep, on_repair=report) if fix else check(store, deep=deep)
    if as_json:
        terminal.dump({"store": str(store), "mended": done, "problems": [_as_json(problem) for problem in found]})
    else:
        _report(store, found)
    return not any(FAULTS[problem.kind].is_error for problem in found)


def _report(store: Path, found: list[Problem]) -> None:
    for problem in found:
        stops = FAULTS[problem.kind].is_error
        terminal.line(
            problem.message, style="red" if stops else "yellow", lead=f"{'broken' if stops else 'note':8}"
        )
    if busy := active_runs(store):
        terminal.line(f"active and not checked: {', '.join(busy)}", lead="note    ")
    if any(FAULTS[problem.kind].repair for problem in found):
        terminal.line(f"repair with: line doctor --store {shell_word(str(store))} --fix")
    elif not found:
        terminal.line(f"store: no faults in {store}", lead="ok      ")


def _as_json(problem: Problem) -> dict[str, object]:
    kind = FAULTS[problem.kind]
    return {
        "kind": problem.kind,
        "detail": problem.message,
        "status": "broken" if kind.is_error else "warn",
        "mending": kind.repair,
        "items": [list(item) for item in problem.items],
    }


def _said(database: Freed) -> str:
    pruned = f", checkpoints of {counted(database.pruned, 'finished unit')} pruned" if database.pruned else ""
    return f"{database.database}: {megabytes(database.before)} before, {megabytes(database.after)} now{pruned}"
