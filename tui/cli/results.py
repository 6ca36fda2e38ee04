"""What ``line results`` gives: one row a unit, for people, spreadsheets and programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from line_neurons.agent.errors import UsageError
from line_neurons.eval.exchange.output_files import open_output, output_file
from line_neurons.eval.exchange.run_tables import TABLES, WRITERS, write_table
from line_neurons.eval.exchange.snapshot import Snapshot, open_snapshot
from line_neurons.tools.label_marks import codes
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.run_problems import run_problems
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli import show as showing
from line_neurons.tui.formatting import origin


def results(store: Path, run_name: str, format_: str, output: Path | None) -> None:
    """Print the units of a run with their labels, or write them to a file; also while the run is being worked on.

    Args:
        store: the store's folder.
        run_name: the run, or the beginning of its name.
        format_: ``table``, ``csv``, ``jsonl`` or ``parquet``.
        output: the file, or a folder for it, replaced when all rows are there; None: standard output.

    Raises:
        UsageError: there is no such run or format, or the format or the file does not fit.
        MissingPartError: parquet's package is not installed.
    """
    if format_ != "table" and format_ not in WRITERS:
        raise UsageError(f"{format_!r:.40} is not a format", f"use table, {', '.join(WRITERS)}")
    if format_ == "table" and output is not None:
        raise UsageError("a table is printed and not written to a file", f"use --format {', '.join(WRITERS)}")
    with open_snapshot(store, run_name) as snapshot:
        if format_ == "table":
            _print(snapshot.run, snapshot.units())
            showing.remarks(run_problems(store, snapshot.runs, snapshot.run))
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


def _print(run: Run, units: Sequence[Unit]) -> None:
    marked = any(unit.marks for unit in units)
    terminal.table(
        ["unit", "name", "label", "score", "AUC", "MAD", "margin", "origin", "second best", "its score",
         *(["marked"] if marked else []), "state"],
        [
            [
                unit.unit, unit.name, unit.label, unit.score, unit.auc, unit.mad, unit.margin, origin(unit),
                unit.second_label, unit.second_score, *([codes(unit.marks)] if marked else []),
                unit.status + (f": {unit.error}" if unit.error else ""),
            ]
            for unit in units
        ],
        f"{run.target_name} {run.layer}, run {run.id}",
    )  # fmt: skip
