"""The command ``line facets``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli.shell import completion

if TYPE_CHECKING:
    from line_neurons.eval.reports.table import Report
    from line_neurons.tools.store.records import Run, Unit
    from line_neurons.tools.store.results.facets import UnitFacets

app = typer.Typer()

_RECORDED = "as recorded with the run"
_NUMBERS = (
    "facets", "groups", "polysemanticity", "limit", "clarity", "ms", "ms2", "max_auc", "max_mad", "covered",
    "sources", "images",
)  # fmt: skip
_FACET = ("label", "score", "auc", "mad", "share", "cosine", "origin", "step")


@opt.command(
    app,
    "facets",
    (*opt.MACHINE, *opt.FILES),
    moved=True,
    defaults=_RECORDED,
    examples=("line facets resnet50-layer4-1", "line facets resnet50-layer4-1 7 castle -o facets/"),
)
def facets(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Name of a run, or its beginning.", autocompletion=completion.RUNS)
    ],
    units: Annotated[
        list[str] | None, typer.Argument(metavar="UNIT", help="Units of the run, by number or name; default: all.")
    ] = None,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Write CSV and Markdown here.")
    ] = None,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Find what else units respond to: groups of their strongest images, each with its own label."""
    from line_neurons.graphs.runs.facets import find_facets
    from line_neurons.graphs.runs.reopening import reopen
    from line_neurons.tools.store.leases import acquire
    from line_neurons.tools.store.results.facets import put_facets
    from line_neurons.tools.store.runs import default_store, find_unit, open_store
    from line_neurons.tui.cli.eval import reports
    from line_neurons.tui.cli.jobs import trust_code
    from line_neurons.tui.cli.progress import ProgressReporter

    settings, changes = opt.reopening(config, flags)
    store = settings.store or default_store()
    opened = open_store(store)
    recorded = opened.run(run)
    every = opened.units(recorded.id)
    chosen = [find_unit(recorded, every, which) for which in dict.fromkeys(units or ())] or every
    opened.close()
    if not any(unit.status == "finished" for unit in chosen):
        raise UsageError(f"no unit of run {recorded.id} has a label yet", f"line resume {recorded.id}")
    trust_code(store, [recorded], trust=trust)
    with ProgressReporter() as reporter:
        changes = {**changes, "llm": "random", "vocabulary": None}
        components = reopen(recorded, settings.store, settings.assets, reporter.report_preparation, changes)
        deps = components.deps(recorded.layer, recorded.vocabulary or ())
        with acquire(components.runs, [recorded.id]):
            found = list(find_facets(deps, recorded, chosen, components.progress_for("facets")))
            put_facets(components.runs, found)
    reports.print_report(facet_report(recorded, chosen, found), output, as_json=json)


def facet_report(run: Run, units: Sequence[Unit], found: Sequence[UnitFacets]) -> Report:
    """Return the facets of units as tables."""
    from line_neurons.eval.reports.table import Report, Table

    names = {unit.unit: unit.name for unit in units}
    summary = tuple(
        (one.unit, names[one.unit], *(one.numbers.get(name) for name in _NUMBERS), one.told or None)
        for one in found
    )
    rows = tuple(
        (run.id, facet.unit, facet.facet, *(getattr(facet, name) for name in _FACET), ", ".join(facet.sources[:3]),
         len(facet.sources), len(facet.images))
        for one in found for facet in one.facets
    )  # fmt: skip
    split = sum(len(one.facets) > 1 for one in found)
    tables = (
        Table(
            "units",
            "How many things each unit responds to",
            ("unit", "name", *_NUMBERS, "note"),
            summary,
            "Facets: groups with a label of AUC .8 or more. Polysemanticity: 1 less the cosine of the two halves "
            "of the strongest sources; a unit splits above the limit, that of 95 % of probes for one class. MS "
            "as published, and of activations beyond two standard deviations (ms2).",
            ("name", "limit", "clarity", "max_mad", "sources", "images", "groups"),
        ),
        Table(
            "facets",
            "Facets",
            ("run", "unit", "facet", *_FACET, "strongest sources", "sources", "images"),
            rows,
            "",
            ("run", "cosine", "origin", "step", "mad", "images"),
        ),
    )
    note = f"{split} of {len(found)} units split."
    limits = (
        "Measured on units of known truth that are classes, on composed images: a hidden unit has no such truth, "
        "and two facets may be one object seen from two sides."
    )
    return Report("facets", "Facets of units", tables, {}, (note, limits))
