"""Command that deletes runs: ``line rm``."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.tools.cache.unused import image_sizes
from line_neurons.tools.store.leases import refuse_leased
from line_neurons.tools.store.removal.runs import RunContent, find_runs, images_of_runs, remove_runs, run_content
from line_neurons.tools.store.runs import open_store
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.printing.run import store_flag
from line_neurons.tui.cli.shell import completion
from line_neurons.tui.formatting import counted, megabytes

app = typer.Typer()


@opt.command(
    app,
    "rm",
    ("store",),
    examples=("line rm resnet50-layer4-1", "line rm resnet50-layer4-1 resnet50-layer4-2 --yes --store runs"),
)
def rm(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Names of runs, or their beginnings.", autocompletion=completion.RUNS),
    ],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without confirmation.")] = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Delete runs: their units, histories, checkpoints and evaluations.

    Images and activations stay for other runs; `line gc` removes those that no run refers to.
    """
    store = opt.store_of(**flags)
    with closing(open_store(store, read_only=False)) as opened:
        names = find_runs(opened, runs)
        for name in names:
            refuse_leased(opened, name)
        contents = [run_content(opened, name) for name in names]
        alone = images_of_runs(opened, names) - images_of_runs(opened, names, others=True)
        images, size = image_sizes(store, alone)
        if not yes:
            for content in contents:
                terminal.note(_described(content))
            _confirm(names)
        remove_runs(opened, names)
    if json:
        removed = [asdict(content) for content in contents]
        terminal.dump({"store": str(store), "removed": removed, "images": images, "image_bytes": size})
        return
    for content in contents:
        terminal.line(f"deleted {_described(content)}")
    if images:
        terminal.line(
            f"{counted(images, 'image')} ({megabytes(size)}) that no other run refers to: "
            f"line gc{store_flag(store)} removes them"
        )


def _confirm(names: list[str]) -> None:
    """Ask whether to delete the runs; a script names ``--yes`` instead.

    Raises:
        UsageError: there is no terminal to ask on.
        Abort: the answer is no.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"deleting {', '.join(names[:5])} needs a confirmation", "add --yes")
    typer.confirm(f"Delete {counted(len(names), 'run')} for good?", abort=True, err=True)


def _described(content: RunContent) -> str:
    """Describe a run and what it holds."""
    parts = [
        counted(number, noun)
        for number, noun in (
            (content.units, "unit"),
            (content.steps, "step"),
            (content.checkpoints, "checkpoint"),
            (content.evaluations, "evaluation"),
        )
        if number or noun == "unit"
    ]
    forks = ", ".join(content.forks)
    kept = f"; its forks stay, and can no longer be replayed: {forks}" if content.forks else ""
    return f"{content.run}: {', '.join(parts)}{kept}"
