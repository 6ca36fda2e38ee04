"""Commands of ``line eval`` that make tables and figures from a store."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from line_neurons.tools.store.runs import open_store
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli.eval import options as shared
from line_neurons.tui.cli.eval import reports

app = typer.Typer()


@opt.command(
    app,
    "table1",
    ("store",),
    examples=("line eval table1", "line eval table1 resnet50-layer4-1 clip-dissect -o tables"),
)
def table1(
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Evaluated runs and files (or METHOD=FILE), the reference first; default: all."),
    ] = None,
    *,
    output: shared.Folder = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Compare methods by CoSy's scores, per model and layer (the paper's Table 1)."""
    reports.print_report(reports.table1(opt.store_of(**flags), sources or []), output, as_json=json)


@opt.command(
    app,
    "winners",
    ("store",),
    examples=("line eval winners resnet50-layer4-1", "line eval winners resnet50-layer4-1 --paper -o tables"),
)
def winners(
    runs: shared.Runs,
    *,
    paper: Annotated[bool, typer.Option("--paper", help="Print the paper's numbers, too.")] = False,
    output: shared.Folder = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Count predefined against generated labels (Table 2)."""
    from line_neurons.eval.reports.histories import histories
    from line_neurons.eval.reports.winner_table import winners as winner_table

    report = winner_table(histories(open_store(opt.store_of(**flags)), runs), paper=paper)
    reports.print_report(report, output, as_json=json)


@opt.command(
    app,
    "trace",
    ("store",),
    examples=("line eval trace resnet50-layer4-1 castle", "line eval trace resnet50-layer4-1 7 -o tables"),
)
def trace(
    run: opt.RunName,
    unit: opt.UnitName,
    *,
    output: shared.Folder = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Show a unit's search: boards, steps, reasoning, label (Tables 3, 6 and 7)."""
    from line_neurons.eval.reports.unit_trace import trace as unit_trace

    reports.print_report(unit_trace(open_store(opt.store_of(**flags)), run, unit), output, as_json=json)


@opt.command(
    app,
    "steps",
    ("store",),
    examples=(
        "line eval steps resnet50-layer4-1",
        "line eval steps resnet50-layer4-1 resnet50-layer4-2 -o figures",
    ),
)
def steps(runs: shared.Runs, *, output: shared.Folder = None, json: opt.Json = False, **flags: Any) -> None:
    """Show when labels appear, and the gain over a random proposer (Figure 5)."""
    from line_neurons.eval.reports.histories import histories
    from line_neurons.eval.reports.step_curves import steps as step_curves

    report = step_curves(histories(open_store(opt.store_of(**flags)), runs))
    reports.print_report(report, output, as_json=json)


@opt.command(
    app,
    "proposals",
    ("store",),
    examples=("line eval proposals resnet50-layer4-1", "line eval proposals resnet50-layer4-1 --json"),
)
def proposals(runs: shared.Runs, *, output: shared.Folder = None, json: opt.Json = False, **flags: Any) -> None:
    """Show how many proposals were usable, new, and better than the first board."""
    from line_neurons.eval.reports.histories import histories
    from line_neurons.eval.reports.proposals import proposals as proposal_tables

    opened = open_store(opt.store_of(**flags))
    searched = histories(opened, runs)
    steps = {run.run.id: [opened.steps(run.run.id, unit) for unit in run.searches] for run in searched}
    reports.print_report(proposal_tables(searched, steps), output, as_json=json)


@opt.command(
    app,
    "compare",
    ("store",),
    examples=(
        "line eval compare resnet50-layer4-1 resnet50-layer4-2",
        "line eval compare resnet50-layer4-1 resnet50-layer4-2 -o figures",
    ),
)
def compare(runs: shared.Runs, *, output: shared.Folder = None, json: opt.Json = False, **flags: Any) -> None:
    """Compare runs over the same units pair by pair (Figure 6, ablations)."""
    reports.print_report(reports.compare(opt.store_of(**flags), runs), output, as_json=json)


@opt.command(
    app,
    "quality",
    opt.FILES,
    examples=("line eval quality resnet50-fc-1", "line eval quality resnet50-fc-1 clip-dissect --json"),
)
def quality(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="RUN|LABELS", help="Runs, imported labels and files, the reference first."),
    ],
    *,
    units_from: opt.UnitsFrom = None,
    output: shared.Folder = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Compare labels with the classes that output units stand for."""
    reports.print_report(
        reports.quality(opt.store_of(**flags), sources, opt.assets_of(**flags), units_from), output, as_json=json
    )


@opt.command(
    app,
    "planted",
    opt.FILES,
    examples=(
        "line eval planted mobilenet_v2-units-1",
        "line eval planted mobilenet_v2-units-1 invert=invert.csv -o planted/",
    ),
)
def planted(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="RUN|LABELS", help="Runs, imported labels and files of planted units."),
    ],
    *,
    units_from: opt.UnitsFrom = None,
    output: shared.Folder = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Compare labels with the truth of planted units."""
    reports.print_report(
        reports.planted(opt.store_of(**flags), sources, opt.assets_of(**flags), units_from), output, as_json=json
    )


@opt.command(
    app,
    "facets",
    opt.FILES,
    examples=(
        "line eval facets resnet50-layer4-1",
        "line eval facets resnet50-layer4-1 prism=meta.csv -o facets/",
    ),
)
def facets(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="RUN|LABELS|FILE", help="Evaluated runs and labels, and PRISM's meta-evaluations."),
    ],
    *,
    output: shared.Folder = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Compare several labels of a unit: their cosine, and the best AUC and MAD, as PRISM does."""
    found = reports.facets(opt.store_of(**flags), sources, opt.assets_of(**flags))
    reports.print_report(found, output, as_json=json)
