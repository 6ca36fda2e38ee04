"""The command ``line facets``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings_sources import flag_of
from line_neurons.tui.cli import options as opt

if TYPE_CHECKING:
    from line_neurons.agent.settings import Settings
    from line_neurons.eval.reports.table import Report
    from line_neurons.tools.store.records import Run, Unit
    from line_neurons.tools.store.results.facets import UnitFacets

app = typer.Typer()

_RECORDED = "as recorded with the run"
_NUMBERS = (
    "facets", "groups", "polysemanticity", "polysemanticity_low", "polysemanticity_high", "limit", "clarity", "ms",
    "ms_low", "ms_high", "ms2", "ms2_low", "ms2_high", "max_auc", "max_mad", "covered", "sources", "images",
)  # fmt: skip
_IN_FILES = (
    "name", "polysemanticity_low", "polysemanticity_high", "limit", "clarity", "ms_low", "ms_high", "ms2_low",
    "ms2_high", "max_mad", "sources", "images", "groups",
)  # fmt: skip
"""Columns that the terminal leaves out."""
_ON_SEARCH = tuple(name for name in opt.CHANGES if name not in {"revisit", *opt.MACHINE})
"""Settings that only a search needs."""
_FACET = ("label", "score", "auc", "mad", "share", "cosine", "origin", "step")


@opt.command(
    app,
    "facets",
    (*_ON_SEARCH, *opt.MACHINE, *opt.FILES),
    moved=True,
    defaults=_RECORDED,
    examples=(
        "line facets resnet50-layer4-1",
        "line facets resnet50-layer4-1 7 castle -o facets/",
        "line facets resnet50-layer4-1 7 --search",
    ),
)
def facets(
    run: opt.RunName,
    units: Annotated[
        list[str] | None, typer.Argument(metavar="UNIT", help="Units of the run, by number or name; default: all.")
    ] = None,
    *,
    search: Annotated[
        bool, typer.Option("--search", help="Also search for a label of each facet that has no good one yet.")
    ] = False,
    by: Annotated[
        str,
        typer.Option(
            metavar="SPACE",
            help="How images are compared: features of the layer, penultimate layer, text of their names, or "
            "another vision model, such as hf:facebook/dinov2-base.",
        ),
    ] = "features",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Write CSV and Markdown here.")
    ] = None,
    config: opt.Config = None,
    trust: opt.Trust = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Find what else units respond to: groups of their strongest images, each with its own label."""
    from line_neurons.tools.label_marks import ENDED
    from line_neurons.tools.store.runs import default_store, find_unit, open_store
    from line_neurons.tui.cli.eval import reports
    from line_neurons.tui.cli.jobs import trust_code

    settings, changes = opt.reopening(config, flags)
    _check(by, changes, search=search)
    store = settings.store or default_store()
    opened = open_store(store)
    recorded = opened.run(run)
    every = opened.units(recorded.id)
    chosen = [find_unit(recorded, every, which) for which in dict.fromkeys(units or ())] or every
    opened.close()
    if not any(unit.status == "finished" for unit in chosen):
        raise UsageError(f"no unit of run {recorded.id} has a label yet", f"line resume {recorded.id}")
    if search and any(unit.status not in ENDED for unit in every):
        raise UsageError(f"run {recorded.id} is unfinished", f"line resume {recorded.id}, then search for facets")
    trust_code(store, [recorded], trust=trust)
    numbers = {unit.unit for unit in chosen}
    chosen, found = _find(recorded, numbers, settings, changes, by, search=search)
    reports.print_report(facet_report(recorded, chosen, found), output, as_json=json)


def _check(by: str, changes: dict[str, Any], *, search: bool) -> None:
    given = next((name for name in _ON_SEARCH if name in changes), None)
    if given and not search:
        raise UsageError(f"{flag_of(given)} is for a search", "add --search, or leave it away")
    if search and by != "features":
        raise UsageError(f"a search compares images in the layer itself, not by {by!r:.60}", "leave --by away")


def _find(
    run: Run, numbers: set[int], settings: Settings, changes: dict[str, Any], by: str, *, search: bool
) -> tuple[list[Unit], list[UnitFacets]]:
    """Find the facets of units and store them; with ``search`` those without a good label are searched for."""
    from line_neurons.graphs.runs.facets.run_facets import store_facets
    from line_neurons.graphs.runs.facets.space import facet_space
    from line_neurons.graphs.runs.reopening import reopen
    from line_neurons.tools.store.leases import acquire
    from line_neurons.tools.store.steering_queue import submit_all
    from line_neurons.tui.cli.jobs import work_on
    from line_neurons.tui.cli.progress import ProgressReporter
    from line_neurons.tui.cli.runs.reopening import Reopening

    with ProgressReporter() as reporter, closing(Reopening(settings, reporter, changes)) as reopening:
        if search:
            components, _ = reopening.job(run)
        else:
            without = {**changes, "llm": "random", "vocabulary": None}
            components = reopen(run, settings.store, settings.assets, reporter.report_preparation, without)
        deps = components.deps(run.layer, run.vocabulary or ())
        space = facet_space(components, run, deps, by)

        def find() -> tuple[list[Unit], list[UnitFacets]]:
            units = [unit for unit in components.runs.units(run.id) if unit.unit in numbers]
            with acquire(components.runs, [run.id]):
                return units, store_facets(deps, run, units, components.progress_for("facets"), space)

        units, found = find()
        lacking = {
            unit.unit: [facet.sources[0] for facet in unit.facets[1:] if not facet.is_good] for unit in found
        }
        if search and any(lacking.values()):
            with components.runs.atomic():
                for unit, sources in lacking.items():
                    submit_all(components.runs, run, unit, [("facet", source) for source in sources])
            work_on([(components, run)], reporter)
            units, found = find()
        return units, found


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
            _IN_FILES,
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
