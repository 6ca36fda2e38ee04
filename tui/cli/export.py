"""Commands that hand on a run or labels: ``line results``, ``report``, ``export`` and ``import``."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from io import BytesIO
from json import loads
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.settings import load_settings
from line_neurons.eval.exchange import export as formats
from line_neurons.eval.exchange.output_files import open_output, output_file
from line_neurons.eval.exchange.run_tables import TABLES, WRITERS, write_table
from line_neurons.eval.exchange.snapshot import Snapshot, open_snapshot
from line_neurons.tools.label_marks import codes
from line_neurons.tools.run_problems import run_problems
from line_neurons.tools.store.best_so_far import with_best_so_far
from line_neurons.tools.store.results.facets import facets_of
from line_neurons.tools.store.runs import RunStore, find_unit, open_store
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.printing.run import remarks, store_flag
from line_neurons.tui.formatting import counted, estimate, label_text, megabytes, origin

app = typer.Typer()


@opt.command(
    app,
    "results",
    ("store",),
    examples=("line results resnet50-layer4-1", "line results resnet50-layer4-1 --format csv -o labels.csv"),
)
def results(
    run: opt.RunName,
    *,
    format_: Annotated[
        str, typer.Option("--format", metavar="[table|csv|jsonl|parquet]", help="Format of the rows.")
    ] = "table",
    output: Annotated[
        Path | None, opt.output("FILE", "File to write, or a folder for it; default: standard output.")
    ] = None,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Print or write one row per unit: label, score, evidence.

    The run may still be in progress.
    """
    if not json:
        print_results(opt.store_of(**flags), run, format_, output)
        return
    if format_ != "table" or output is not None:
        raise UsageError("--json prints the rows in a format of its own", "leave out --format and --output")
    with open_snapshot(opt.store_of(**flags), run) as snapshot:
        rows = BytesIO()
        _write(snapshot, "jsonl", rows)
        terminal.dump([loads(row) for row in rows.getvalue().splitlines()])


def print_results(store: Path, run_name: str, format_: str, output: Path | None) -> None:
    """Print the units of a run with their labels, or write them to a file.

    Raises:
        UsageError: there is no such run or format, or the format or the file does not fit.
        MissingPartError: parquet's package is not installed.
    """
    if format_ != "table" and format_ not in WRITERS:
        raise UsageError(f"{format_!r:.40} is not a format", choices(format_, ("table", *WRITERS)))
    if format_ == "table" and output is not None:
        raise UsageError("a table is printed and not written to a file", f"use --format {', '.join(WRITERS)}")
    with open_snapshot(store, run_name) as snapshot:
        if format_ == "table":
            _print(snapshot)
            remarks(run_problems(store, snapshot.runs, snapshot.run))
        elif output is not None:
            with open_output(output_file(output, f"{snapshot.run.id}.{format_}")) as file:
                _write(snapshot, format_, file)
        elif format_ == "parquet" and sys.stdout.isatty():
            raise UsageError("parquet is not for a terminal", "name a file with --output")
        else:
            # As bytes: CSV is UTF-8 whatever the terminal's encoding is.
            _write(snapshot, format_, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _write(snapshot: Snapshot, format_: str, file: BinaryIO) -> None:
    table = TABLES["units"]
    write_table(table, table.rows(snapshot), format_, file, {})


def _print(snapshot: Snapshot) -> None:
    run = snapshot.run
    units = with_best_so_far(snapshot.runs, run.id, snapshot.units())
    spreads = snapshot.spreads.of_units(units)
    marked = any(unit.marks for unit in units)
    facets = facets_of(snapshot.runs, run.id)
    others = {unit: ", ".join(found.labels[1:]) for unit, found in facets.items()}
    polysemanticity = {unit: found.numbers.get("polysemanticity") for unit, found in facets.items()}
    terminal.table(
        ["unit", "name", "label", *(["further labels"] if facets else []), "score", "AUC", "MAD",
         *(["polysemanticity"] if facets else []), "margin", "origin", "runner-up", "runner-up score",
         *(["marked"] if marked else []), "state"],
        [
            [
                unit.unit, unit.name, label_text(unit), *([others.get(unit.unit)] if facets else []),
                estimate(unit.score, spread), unit.auc, unit.mad,
                *([polysemanticity.get(unit.unit)] if facets else []), unit.margin, origin(unit),
                unit.second_label, unit.second_score,
                *([codes(unit.marks)] if marked else []),
                unit.status + (f": {unit.error}" if unit.error else ""),
            ]
            for unit, spread in zip(units, spreads, strict=True)
        ],
        f"{run.target_name} {run.layer}, run {run.id}",
        drop=("runner-up score", "runner-up", "MAD", "margin", "AUC", "origin", "polysemanticity"),
    )  # fmt: skip


@opt.command(
    app,
    "report",
    opt.FILES,
    examples=(
        "line report resnet50-layer4-1",
        "line report resnet50-layer4-1 7 castle -o castle.html --control-images",
        "line report resnet50-layer4-1 resnet50-layer3-1 -o report/",
    ),
)
def report(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Name of a run, or its beginning; see --all.")
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="UNIT|RUN",
            help="Units of the run, by number or class name; default: all. Or further runs: a folder with a "
            "report of each, and an index.",
        ),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        opt.output(
            "FILE|FOLDER",
            "NAME.html: one page with its images in it, to send or to print, for up to 100 units. Another "
            "name: a folder with a page for each unit, for whole layers and several runs. Default: RUN.html; of "
            "several runs: report/.",
        ),
    ] = None,
    every_run: Annotated[bool, typer.Option("--all", help="Report all runs of the store.")] = False,
    one_page: Annotated[
        bool, typer.Option("--one-page", help="Write a single page for more than 100 units, too.")
    ] = False,
    control_images: Annotated[
        bool,
        typer.Option(
            "--control-images",
            help="Open the run's control set and show its images with the highest activation of each unit; the "
            "store keeps only their activations.",
        ),
    ] = False,
    maps: Annotated[
        bool,
        typer.Option(
            "--maps", help="Open the run's target and show where in the label's images each unit responds."
        ),
    ] = False,
    control_pictures: Annotated[bool, typer.Option("--control-pictures", hidden=True)] = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Write an HTML report of runs: labels, images, searches, settings and cost."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from line_neurons.tui.report.writer import write_report, write_reports

    store = opt.store_of(**flags)
    with closing(open_store(store)) as opened:
        runs, units = _reported(opened, run, more or [], every_run=every_run)
    if len(runs) > 1 and one_page:
        raise UsageError("--one-page is for a single run", "leave it out: several runs need a folder")
    columns = TextColumn("units"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=terminal.err, transient=True, disable=not terminal.err.is_terminal) as bar:
        task = bar.add_task("units", total=None)
        options: dict[str, Any] = {
            "control_images": control_images or control_pictures,
            "maps": maps,
            "assets": load_settings(**flags).assets,
            "progress": lambda done, total: bar.update(task, completed=done, total=total),
        }
        if len(runs) > 1 or every_run:
            done = write_reports(store, runs, output or Path("report"), **options)
        else:
            file = output or Path(f"{runs[0]}.html")
            done = write_report(store, runs[0], file, units, one_page=one_page, **options)
    if json:
        name = {"runs": runs} if len(runs) > 1 or every_run else {"run": runs[0]}
        terminal.dump({"report": str(done.path), **name, "units": done.units, "bytes": done.size})
    else:
        of_runs = f"{len(runs)} runs, " if len(runs) > 1 else ""
        terminal.line(f"{done.path}: {of_runs}{counted(done.units, 'unit')}, {megabytes(done.size)}")


def _reported(
    opened: RunStore, first: str | None, more: Sequence[str], *, every_run: bool
) -> tuple[list[str], list[int] | None]:
    """Find the runs of a report, and the units of a single run; None: all.

    Raises:
        UsageError: there is no such run or unit, or units are named of several runs.
    """
    if every_run:
        if first is not None:
            raise UsageError(f"--all reports every run, and {first!r:.60} names one", "leave one of them out")
        if not (names := list(opened.names())):
            raise UsageError(
                "the store has no runs", "start one with `line explain`, or name a store with --store"
            )
        return names, None
    if first is None:
        raise UsageError(
            "no run is named", "name one, or several; --all reports every run; `line runs` lists them"
        )
    run = opened.run(first)
    every = opened.units(run.id)
    units, runs = dict[str, int](), [run.id]
    for name in more:
        try:
            units[name] = find_unit(run, every, name).unit
        except UsageError as error:
            try:
                runs.append(opened.run(name).id)
            except UsageError:
                raise UsageError(f"{error.message}, and no run {name!r:.60}", error.remedy) from error
    if units and len(runs) > 1:
        raise UsageError(
            f"of several runs all units are reported, and {next(iter(units))!r:.60} is a unit of {run.id}",
            "name the units of a single run, or runs only",
        )
    return list(dict.fromkeys(runs)), list(units.values()) or None


@opt.command(
    app,
    "export",
    ("store",),
    examples=(
        "line export resnet50-layer4-1 --format bundle -o run.zip",
        "line export resnet50-layer4-1 --format parquet --table steps -o steps.parquet",
        "line export resnet50-layer4-1 --format hf-dataset -o dataset/",
    ),
)
def export(
    run: Annotated[str, typer.Argument(help="Name of a run; of labels, for the format of another method.")],
    *,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            callback=formats.check_format,
            help="csv, jsonl, parquet; cosy, invert, clip-dissect, milan, prism; maia-units; "
            "milan-exemplars (needs the target and control images); hf-dataset; "
            "neuronpedia-json; bundle.",
        ),
    ],
    output: Annotated[Path, opt.output("FILE|FOLDER", "File or folder to write; NAME/: a file in it.")],
    table: Annotated[
        str, typer.Option(metavar="[units|steps|images]", help="csv, jsonl, parquet: what has a row each.")
    ] = "units",
    layer: Annotated[str | None, typer.Option(help="Layer, if a file of labels has several.")] = None,
    units_from: opt.UnitsFrom = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file or folder.")] = False,
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Write a run to a file or folder: tables, a data set, a bundle for another machine."""
    write_export(
        opt.store_of(**flags),
        run,
        format_,
        output,
        table=table,
        layer=layer,
        units_from=units_from,
        force=force,
        as_json=json,
    )


def write_export(store: Path, name: str, format_: str, output: Path, *, as_json: bool, **options: Any) -> None:
    """Write a run or labels, and print where; see ``exchange.export.export``."""
    done = formats.export(store, name, format_, output, **options)
    terminal.remarks(name, done.remarks)
    if as_json:
        terminal.dump({**asdict(done), "path": str(done.path)})
        return
    terminal.note(f"{done.said} written to {done.path}")
    if done.lacks:
        terminal.note(f"missing in the store, and left out: {done.lacks}")


@opt.command(
    app,
    "import",
    ("store",),
    examples=(
        "line import run.zip",
        "line import clip_dissect.csv --as clip-dissect --model torchvision:resnet50 --layer layer4",
        "line import results/claude/resnet152/layer4",
    ),
)
def import_(
    path: Annotated[
        Path,
        typer.Argument(help="Bundle of `line export`, file of labels, or folder of MAIA's or DEXTER's results."),
    ],
    *,
    name: Annotated[str, typer.Option("--as", help="Name of the imported labels.")] = "",
    model: Annotated[str | None, typer.Option(help="Target of the labels, if the file does not name it.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer, if the file names none or several.")] = None,
    units_from: opt.UnitsFrom = None,
    facets: opt.Facets = "first",
    json: opt.Json = False,
    **flags: Any,
) -> None:
    """Import another machine's run, or another method's labels for the evaluation."""
    store, path = opt.store_of(**flags), path.expanduser()
    if not path.is_file() and not path.is_dir():
        if path.exists():
            raise UsageError(
                f"{str(path)!r:.200} is a pipe, which can be read only once", "write it to a file first"
            )
        raise UsageError(
            f"there is no file {str(path)!r:.200}",
            "name a bundle of `line export`, a file of labels, or a folder of MAIA's or DEXTER's results",
        )
    if path.is_dir() and units_from is not None:
        raise UsageError(f"the units of {str(path)!r:.200} are numbered by its tool", "omit --units-from")
    if path.is_dir() or not _is_bundle(path):
        choice = {"name": name, "model": model, "layer": layer, "units_from": units_from}
        _labels(store, path, as_json=json, facets=opt.wants_facets(facets), **choice)
        return
    options = {"--as": name, "--model": model, "--layer": layer, "--units-from": units_from}
    options |= {"--facets": facets if opt.wants_facets(facets) else None}
    if given := [option for option, value in options.items() if value not in {None, ""}]:
        raise UsageError(f"{given[0]} is for labels, and {str(path)!r:.200} is a bundle", "omit it")
    _bundle(store, path, json)


def _is_bundle(path: Path) -> bool:
    # zipfile does not recognise a truncated bundle.
    with path.open("rb") as file:
        return file.read(2) == b"PK" or zipfile.is_zipfile(path)


def _bundle(store: Path, path: Path, as_json: bool) -> None:
    from line_neurons.eval.exchange.bundle_import import import_bundle

    done = import_bundle(store, path)
    if as_json:
        terminal.dump(asdict(done))
        return
    if not done.new:
        terminal.note(f"run {done.run} is here already; nothing was changed")
        return
    terminal.note(f"run {done.run} is here now: line show {done.run}{store_flag(store)}")
    if done.run != done.before:
        terminal.note(f"it was renamed from {done.before}, the name of another run here")
    if done.lost_images:
        terminal.note(f"{done.lost_images} of its images were lost before it was exported")


def _labels(store: Path, path: Path, *, as_json: bool, **choice: Any) -> None:
    from line_neurons.eval.labels.library import import_labels

    kept, labels = import_labels(store, path, **choice)
    if as_json:
        counts = {"labels": len(labels.every), "remarks": labels.remarks}
        terminal.dump({**kept._asdict(), "path": str(kept.path), **counts})
        return
    terminal.remarks(path.name, labels.remarks)
    number = counted(len(labels.every), "label")
    if kept.new:
        terminal.note(f"{number} of {labels.model} {labels.layer} kept as {kept.name}: line eval cosy {kept.name}")
    else:
        terminal.note(f"these {number} are here already as {kept.name}; nothing was changed")
