"""The command ``units``: the units of a layer, and how they respond on the control set."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.settings import load_settings
from line_neurons.agent.text import short_score
from line_neurons.tools.component_names import check_names
from line_neurons.tools.targets.latents.names import layer_of
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal

app = typer.Typer()

SORTS = ("unit", "density", "mean", "max")
_SHOWN = 50


@opt.command(
    app,
    "units",
    ("generator", "seed", "exclude", *opt.TARGET, *opt.MACHINE, *opt.FILES),
    defaults="as for line explain",
    examples=(
        "line units torchvision:mobilenet_v2 features.18",
        "line units torchvision:mobilenet_v2 features.18 --sae topk.safetensors --sort density --first 20",
        "line units torchvision:mobilenet_v2 features.18 --sae sae.pt --units density:.001-.1 -o units.csv",
    ),
)
def units(
    model: opt.Model,
    layer: Annotated[str, typer.Argument(help="Dotted path of a layer; see `line layers MODEL`.")],
    units: Annotated[
        list[str] | None, typer.Option("--units", help=f"Units to list: {opt.UNITS}; repeatable; default: all.")
    ] = None,
    sort: Annotated[
        str, typer.Option(metavar=f"[{'|'.join(SORTS)}]", help="Order: as selected, or the largest first.")
    ] = "unit",
    first: Annotated[int, typer.Option(min=0, help="Number of units that a terminal shows; 0: all.")] = _SHOWN,
    output: Annotated[Path | None, opt.output("FILE", "CSV file to write.")] = None,
    *,
    config: opt.Config = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """List the units of a layer: how often and how strongly they respond on the control set."""
    if sort not in SORTS:
        raise UsageError(f"{sort!r:.40} is no order", choices(sort, SORTS))
    settings = load_settings(config, **flags)
    check_names(settings, model)
    from line_neurons.eval.exchange.output_files import open_output, output_file
    from line_neurons.eval.reports.table import Table, as_csv
    from line_neurons.graphs.runs.components import Components
    from line_neurons.graphs.runs.unit_selection import select_with_statistics
    from line_neurons.tools.targets.latents.directions import Directions
    from line_neurons.tools.targets.latents.target import LatentTarget
    from line_neurons.tui.cli.progress import ProgressReporter

    layer = layer_of(settings, layer)
    with ProgressReporter() as reporter, redirect_stdout(sys.stderr):
        components = Components(model, settings, reporter.report_preparation)
        selected, names, found = select_with_statistics(components, layer, units or ["all"])
        code = components.target.code if isinstance(components.target, LatentTarget) else None
        random = code.random if isinstance(code, Directions) else {}
    values: dict[str, Any] = {"density": found.density, "mean": found.mean, "max": found.maximum}
    if sort in values:
        selected.sort(key=lambda unit: (-float(values[sort][unit]), unit))
    headings = ("unit", *(["name"] if names else []), "density", "mean", "max", "strongest class", "state")
    rows: list[tuple[Any, ...]] = [
        (
            unit,
            *([names[unit]] if names else []),
            float(found.density[unit]),
            float(found.mean[unit]),
            float(found.maximum[unit]),
            found.class_name(unit),
            "random" if unit in random else "alive" if found.alive[unit] else "dead",
        )
        for unit in selected
    ]
    if json:
        terminal.dump([dict(zip(headings, row, strict=True)) for row in rows])
        return
    alive = sum(bool(found.alive[unit]) for unit in selected)
    summary = f"{len(rows):,} of {len(found.alive):,} units, {alive:,} alive, on {found.images:,} control images"
    if output is not None:
        path = output_file(output, "units.csv")
        with open_output(path) as file:
            file.write(as_csv(Table("units", f"units of {layer}", headings, tuple(rows))))
        terminal.line(f"{path}: {summary}")
        return
    shown = rows[: first or None]
    numbers = len(headings) - 5
    terminal.table(
        list(headings),
        [
            [*row[:numbers], f"{row[numbers]:.2%}", short_score(row[-4]), short_score(row[-3]), *row[-2:]]
            for row in shown
        ],
    )
    terminal.line(summary + (f"; the first {len(shown)} are shown, see --first" if len(shown) < len(rows) else ""))
