"""The commands of ``line eval`` that make tables and figures from what a store keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from line_neurons.tui.cli import options as opt

tables_app = typer.Typer()

_Runs = Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, or the beginnings of their names.")]
_Folder = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FOLDER", help="Write CSV, Markdown, PNG and SVG here."),
]


@tables_app.command()
@opt.takes(opt.only("store"))
def table1(
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Evaluated runs and files (or METHOD=FILE), the reference first; default: all."),
    ] = None,
    *,
    output: _Folder = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Compare methods by CoSy's numbers, model by model and layer by layer (the paper's Table 1)."""
    from line_neurons.tui.cli.eval import reports as eval_tables

    eval_tables.give(eval_tables.table1(_store(**flags), sources or []), output, as_json=json)


@tables_app.command()
@opt.takes(opt.only("store"))
def winners(
    runs: _Runs,
    *,
    paper: Annotated[bool, typer.Option("--paper", help="Print the paper's figures as well.")] = False,
    output: _Folder = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Count predefined against generated winners (Table 2)."""
    from line_neurons.tui.cli.eval import reports as eval_tables

    eval_tables.give(eval_tables.winners(_store(**flags), runs, paper=paper), output, as_json=json)


@tables_app.command()
@opt.takes(opt.only("store"))
def trace(
    run: Annotated[str, typer.Argument(help="A run, or the beginning of its name.")],
    unit: Annotated[str, typer.Argument(help="A unit of it: its number or class name.")],
    *,
    output: _Folder = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Show the way of a unit's search: boards, steps, reasoning, winner (Tables 3, 6 and 7)."""
    from line_neurons.tui.cli.eval import reports as eval_tables

    eval_tables.give(eval_tables.trace(_store(**flags), run, unit), output, as_json=json)


@tables_app.command()
@opt.takes(opt.only("store"))
def steps(runs: _Runs, *, output: _Folder = None, json: opt.Json = False, **flags: Any) -> None:
    """Show at which step winners appear and what N iterations gain over a random proposer (Figure 5)."""
    from line_neurons.tui.cli.eval import reports as eval_tables

    eval_tables.give(eval_tables.steps(_store(**flags), runs), output, as_json=json)


@tables_app.command()
@opt.takes(opt.only("store"))
def proposals(runs: _Runs, *, output: _Folder = None, json: opt.Json = False, **flags: Any) -> None:
    """Show what language models proposed: how many usable, new, and better than the first board."""
    from line_neurons.tui.cli.eval import reports as eval_tables

    eval_tables.give(eval_tables.proposals(_store(**flags), runs), output, as_json=json)


@tables_app.command()
@opt.takes(opt.only("store"))
def compare(runs: _Runs, *, output: _Folder = None, json: opt.Json = False, **flags: Any) -> None:
    """Compare runs over the same units that differ in something, pair by pair (Figure 6, ablations)."""
    from line_neurons.tui.cli.eval import reports as eval_tables

    eval_tables.give(eval_tables.compare(_store(**flags), runs), output, as_json=json)


@tables_app.command()
@opt.takes(opt.only("store", "assets"))
def quality(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="RUN|LABELS...", help="Runs, imported labels and files, the reference first."),
    ],
    *,
    output: _Folder = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Mark labels of units that stand for a class: named, right, or a general word; similarity of the texts."""
    from line_neurons.agent.settings import load_settings
    from line_neurons.tools.assets.location import assets_root
    from line_neurons.tui.cli.eval import reports as eval_tables

    assets = load_settings(**flags).assets or assets_root()
    eval_tables.give(eval_tables.quality(_store(**flags), sources, assets), output, as_json=json)


@tables_app.command()
@opt.takes(opt.BATCH | opt.RUN)
def suite(
    model: Annotated[str, typer.Argument(help="The target, as for `line batch`.")],
    layer: Annotated[str, typer.Argument(help="Dotted path of a layer.")],
    units: Annotated[list[str], typer.Option(help="7, 10-20, names, all, random:50, cosy, or @FILE; repeatable.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where labels, tables and report are written.")
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(help="Another language model to compare with; repeatable. Default: random."),
    ] = None,
    baselines: Annotated[
        str | None,
        typer.Option(help="With commas between; default: all, with an image bank's captions in place of CLIP."),
    ] = None,
    cosy: Annotated[str, typer.Option(help="Options of `line eval cosy`, as one text.")] = "",
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be run and what is there.")] = False,
    *,
    config: opt.Config = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Evaluate a layer: searches that differ in one thing, baselines, CoSy, tables; goes on where it stopped."""
    from shlex import split

    from line_neurons.tui.cli.eval import suite as whole

    whole.suite(
        (model, layer),
        units,
        against or ["random"],
        None if baselines is None else [name.strip() for name in baselines.split(",") if name.strip()],
        split(cosy),
        config,
        flags,
        output.absolute(),
        only_plan=plan,
        as_json=json,
    )


def _store(**flags: Any) -> Path:
    from line_neurons.agent.settings import load_settings
    from line_neurons.tools.store.runs import default_store

    return load_settings(**flags).store or default_store()
