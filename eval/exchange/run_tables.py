"""A run as tables: a row for each unit, step or image, as CSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, Literal

from line_neurons.agent.text import spreadsheet_cell, storable_text
from line_neurons.eval.exchange.snapshot import ImageOrigin, Snapshot
from line_neurons.tools.label_marks import note_with_doubts
from line_neurons.tools.packages import required_package
from line_neurons.tools.run_problems import recorded_doubts
from line_neurons.tools.store.best_so_far import with_best_so_far
from line_neurons.tools.store.columns import STEP_COLUMNS, UNIT_COLUMNS, Row, step_row, unit_row
from line_neurons.tools.store.results.facets import facets_of

Kind = Literal["text", "integer", "number", "flag", "texts", "json"]

_ROWS_AT_ONCE = 1000
_ALL = 1 << 20
_UNKNOWN = ImageOrigin(None, None, None, None)


@dataclass(frozen=True)
class Table:
    """A table of a run.

    Args:
        schema: its name and version, the last column of every row.
        columns: every column but ``schema`` with the kind of its values, in order.
    """

    schema: str
    columns: Mapping[str, Kind]
    rows: Callable[[Snapshot], Iterator[Row]]


def _unit_rows(snapshot: Snapshot) -> Iterator[Row]:
    units = with_best_so_far(snapshot.runs, snapshot.run.id, snapshot.units())
    doubts, facets = recorded_doubts(snapshot.runs, snapshot.run.id), facets_of(snapshot.runs, snapshot.run.id)
    for unit, spread in zip(units, snapshot.spreads.of_units(units), strict=True):
        found = facets[unit.unit].columns if unit.unit in facets else None
        yield unit_row(snapshot.run, unit, spread, worked_on=snapshot.worked_on, doubts=doubts, facets=found)


def _facet_rows(snapshot: Snapshot) -> Iterator[Row]:
    for found in facets_of(snapshot.runs, snapshot.run.id).values():
        for facet in found.facets:
            yield {name: getattr(facet, name) for name in _FACETS}


def _step_rows(snapshot: Snapshot) -> Iterator[Row]:
    for unit in snapshot.units():
        steps = snapshot.runs.steps(snapshot.run.id, unit.unit)
        for step, spread in zip(steps, snapshot.spreads.of_steps(steps), strict=True):
            yield {**step_row(step, spread), "name": unit.name, "board": step.board, "detail": step.detail}


def image_rows(snapshot: Snapshot) -> Iterator[Row]:
    """Yield a row for each image of each history entry, in the order of the units."""
    doubts = recorded_doubts(snapshot.runs, snapshot.run.id)
    for unit in snapshot.units():
        steps = snapshot.runs.steps(snapshot.run.id, unit.unit)
        spreads = snapshot.spreads.of_steps(steps)
        (label_spread,) = snapshot.spreads.of_units([unit])
        known = snapshot.image_origins([image for step in steps for image in step.images], unit.unit)
        for step, spread in zip(steps, spreads, strict=True):
            for place, image in enumerate(step.images):
                yield {
                    **{name: getattr(step, name) for name in _OF_STEP},
                    "name": unit.name,
                    "place": place,
                    "picture": image,
                    **known.get(image, _UNKNOWN)._asdict(),
                    "label": unit.label,
                    "label_score": unit.score,
                    "of_label": image in unit.images,
                    "note": note_with_doubts(unit.note, doubts if unit.label is not None else ()),
                    "spread": spread,
                    "label_spread": label_spread,
                }


_STEPS: dict[str, Kind] = {**STEP_COLUMNS, "name": "text", "board": "json", "detail": "json"}
_IMAGES: dict[str, Kind] = {
    "run": "text",
    "unit": "integer",
    "name": "text",
    "step": "integer",
    "attempt": "integer",
    "kind": "text",
    "concept": "text",
    "score": "number",
    "place": "integer",
    "picture": "text",
    "prompt": "text",
    "seed": "integer",
    "generator": "text",
    "activation": "number",
    "label": "text",
    "label_score": "number",
    "of_label": "flag",
    "note": "text",
    "spread": "number",
    "label_spread": "number",
}
_FACETS: dict[str, Kind] = {
    "run": "text",
    "unit": "integer",
    "facet": "integer",
    "label": "text",
    "score": "number",
    "auc": "number",
    "mad": "number",
    "share": "number",
    "sources": "json",
    "cosine": "number",
    "origin": "text",
    "step": "integer",
    "images": "texts",
}
_OF_STEP = ("run", "unit", "step", "attempt", "kind", "concept", "score")

TABLES = {
    "units": Table("line-neurons/units/1", UNIT_COLUMNS, _unit_rows),
    "steps": Table("line-neurons/steps/1", _STEPS, _step_rows),
    "pictures": Table("line-neurons/pictures/1", _IMAGES, image_rows),
    "facets": Table("line-neurons/facets/1", _FACETS, _facet_rows),
}
"""The tables by name."""


def write_table(
    table: Table, rows: Iterable[Row], format_: str, file: BinaryIO, provenance: Mapping[str, Any]
) -> int:
    """Write rows in portions and return their number.

    Args:
        format_: key of ``WRITERS``.
        provenance: provenance of the rows, for a Parquet file's metadata.

    Raises:
        MissingPartError: parquet's package is not installed.
    """
    columns: dict[str, Kind] = {**table.columns, "schema": "text"}
    count = 0

    def counted() -> Iterator[Row]:
        nonlocal count
        for row in rows:
            count += 1
            yield {name: table.schema if name == "schema" else row[name] for name in columns}

    WRITERS[format_](columns, counted(), file, {"schema": table.schema, **provenance})
    return count


def _csv(columns: Mapping[str, Kind], rows: Iterator[Row], file: BinaryIO, provenance: Mapping[str, Any]) -> None:
    text = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(kind, row[name]) for name, kind in columns.items()] for row in rows)
    # The caller closes the stream.
    text.detach()


def _cell(kind: Kind, value: Any) -> Any:
    if kind == "texts":
        # A truncated cell of ids would be wrong.
        return spreadsheet_cell(value, _ALL)
    if kind == "json":
        return None if value is None else spreadsheet_cell(json.dumps(value))
    return spreadsheet_cell(value)


def _jsonl(
    columns: Mapping[str, Kind], rows: Iterator[Row], file: BinaryIO, provenance: Mapping[str, Any]
) -> None:
    # ASCII only, without control characters for a terminal.
    for row in rows:
        file.write(json.dumps(row).encode() + b"\n")


def _parquet(
    columns: Mapping[str, Kind], rows: Iterator[Row], file: BinaryIO, provenance: Mapping[str, Any]
) -> None:
    with required_package("pyarrow", "parquet", needed="parquet files need"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    kinds = {
        "text": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "flag": pa.bool_(),
        "texts": pa.list_(pa.string()),
        "json": pa.string(),
    }
    fields = [(name, kinds[kind]) for name, kind in columns.items()]
    schema = pa.schema(fields, {"line-neurons": json.dumps(provenance)})
    with pq.ParquetWriter(file, schema) as writer:
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            storable = [{name: _storable(kind, row[name]) for name, kind in columns.items()} for row in some]
            writer.write_table(pa.Table.from_pylist(storable, schema=schema))


def _storable(kind: Kind, value: Any) -> Any:
    if kind == "json":
        return None if value is None else json.dumps(value)
    if kind == "texts":
        return [storable_text(item) for item in value]
    return storable_text(value) if isinstance(value, str) else value


WRITERS: dict[str, Callable[[Mapping[str, Kind], Iterator[Row], BinaryIO, Mapping[str, Any]], None]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
"""The formats of tables by name."""
