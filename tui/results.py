"""What ``line results`` gives: one row a unit, for people, spreadsheets and programs."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.proposal import storable_text
from line_neurons.eval.tables import spreadsheet_cell
from line_neurons.evidence.wording import is_worked_on, origin
from line_neurons.tools.leases import standings
from line_neurons.tools.result_rows import UNIT_COLUMNS, Row, unit_row
from line_neurons.tools.run_store import Run, Unit
from line_neurons.tools.targets.registry import short_spec
from line_neurons.tui import terminal
from line_neurons.tui.showing import open_store


def results(store: Path, run_name: str, format_: str, output: Path | None) -> None:
    """Print the units of a run with their labels, or write them to a file; also while the run is being worked on.

    Args:
        store: the store's folder.
        run_name: the run, or the beginning of its name.
        format_: ``table``, ``csv``, ``jsonl`` or ``parquet``.
        output: the file, replaced when all rows are there; None: standard output.

    Raises:
        UsageError: there is no such run or format, or the format or the file does not fit.
        MissingPartError: parquet's package is not installed.
    """
    if format_ != "table" and format_ not in _WRITTEN:
        raise UsageError(f"{format_!r:.40} is not a format", f"use table, {', '.join(_WRITTEN)}")
    opened = open_store(store)
    run = opened.run(run_name)
    worked_on = is_worked_on(standings(opened).get(run.id))
    units = opened.units(run.id)
    if format_ == "table":
        if output is not None:
            raise UsageError("a table is printed and not written to a file", f"use --format {', '.join(_WRITTEN)}")
        _print(run, units)
        return
    if output is not None:
        _replace(output, _WRITTEN[format_]([unit_row(run, unit, worked_on=worked_on) for unit in units]))
        return
    if format_ == "parquet" and sys.stdout.isatty():
        raise UsageError("parquet is not for a terminal", "name a file with --output")
    # As bytes: CSV is UTF-8 whatever the terminal's encoding is.
    sys.stdout.buffer.write(_WRITTEN[format_]([unit_row(run, unit, worked_on=worked_on) for unit in units]))
    sys.stdout.buffer.flush()


def _print(run: Run, units: Sequence[Unit]) -> None:
    terminal.table(
        ["unit", "name", "label", "score", "AUC", "MAD", "margin", "origin", "second best", "its score", "state"],
        [
            [
                unit.unit, unit.name, unit.label, unit.score, unit.auc, unit.mad, unit.margin, origin(unit),
                unit.second_label, unit.second_score, unit.status + (f": {unit.error}" if unit.error else ""),
            ]
            for unit in units
        ],
        f"{short_spec(run.model)} {run.layer}, run {run.id}",
    )  # fmt: skip


def _csv(rows: Sequence[Row]) -> bytes:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(UNIT_COLUMNS)
    writer.writerows([spreadsheet_cell(row[name]) for name in UNIT_COLUMNS] for row in rows)
    return written.getvalue().encode()


def _jsonl(rows: Sequence[Row]) -> bytes:
    # ASCII only, so that nothing in a text can steer a terminal.
    return "".join(json.dumps({name: row[name] for name in UNIT_COLUMNS}) + "\n" for row in rows).encode()


def _parquet(rows: Sequence[Row]) -> bytes:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingPartError(
            "parquet files need the package pyarrow", "pip install 'line-neurons[parquet]'"
        ) from error
    kinds = {
        "text": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "flag": pa.bool_(),
        "texts": pa.list_(pa.string()),
    }
    schema = pa.schema([(name, kinds[kind]) for name, kind in UNIT_COLUMNS.items()])
    written = io.BytesIO()
    storable = [{name: _storable(value) for name, value in row.items()} for row in rows]
    pq.write_table(pa.Table.from_pylist(storable, schema=schema), written)
    return written.getvalue()


def _storable(value: Any) -> Any:
    if isinstance(value, tuple):
        return [storable_text(one) for one in value]
    return storable_text(value) if isinstance(value, str) else value


_WRITTEN: dict[str, Callable[[Sequence[Row]], bytes]] = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole, or leave what was there."""
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{str(path)!r} is not a file", "name a file with --output")
        # What a link points to is replaced, not the link.
        whole = path.resolve()
        part = whole.with_name(f".{whole.name}.{os.getpid()}")
        try:
            part.write_bytes(content)
            part.replace(whole)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{str(path)!r} cannot be written: {error.strerror}", "name another file with --output"
        ) from error
