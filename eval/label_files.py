"""Tables of labels as files have them: CSV, JSON lines and Parquet, each row as texts by column."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from line_neurons.agent.errors import MissingPartError, UsageError

SUFFIXES = (".csv", ".jsonl", ".parquet")
"""How names of files of labels end; what has another ending is taken for CSV."""

_MAX_BYTES = 1 << 28
_MAX_ROWS = 1_000_000
_FILES = "name a file of labels: CSV, .jsonl or .parquet"


class Rows(NamedTuple):
    """A table of texts.

    Args:
        header: its columns.
        rows: every row that is not blank, after its line or number in the file; missing cells are empty.
        spreadsheet: texts that a spreadsheet would take for formulas may be marked in it; see
            ``tables.spreadsheet_cell``.
    """

    header: list[str]
    rows: Iterable[tuple[int, dict[str, str]]]
    spreadsheet: bool


def rows_of(path: Path) -> Rows:
    """Read a table of labels.

    Raises:
        UsageError: it cannot be read, is larger than 256 MiB, or is not of the kind that its name ends with.
        MissingPartError: it is Parquet, whose package is not installed.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path} is larger than {_MAX_BYTES >> 20} MiB", _FILES)
        return {".jsonl": _jsonl, ".parquet": _parquet}.get(path.suffix.casefold(), _csv)(path)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}", _FILES) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"{str(path)!r:.200} cannot be read: {reason!s:.200}", _FILES) from None


def _csv(path: Path) -> Rows:
    table = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
    try:
        header = [cell.strip() for cell in next(table, [])]
        rows = [
            (table.line_num, dict(zip_longest(header, row[: len(header)], fillvalue="")))
            for row in table
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise UsageError(f"{path} line {table.line_num} is no CSV: {error}", _FILES) from None
    return Rows(header, rows, True)


def _jsonl(path: Path) -> Rows:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            row = ()
        if row is not None and not isinstance(row, dict):
            raise UsageError(f"{path} line {number} is no JSON object", _FILES)
        if row:
            rows.append((number, row))
    return Rows(*_texts(rows), False)


def _parquet(path: Path) -> Rows:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingPartError(
            "parquet files need the package pyarrow", "pip install 'line-neurons[parquet]'"
        ) from error
    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > _MAX_ROWS:
                raise UsageError(f"{path} has more than {_MAX_ROWS} rows", _FILES)
            rows = file.read(use_threads=False).to_pylist()
    except (pa.ArrowException, MemoryError) as error:
        raise ValueError(f"it is no Parquet file: {str(error).splitlines()[0]:.100}") from None
    return Rows(*_texts(enumerate(rows, 1)), False)


def _texts(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    header: dict[str, None] = {}
    found = []
    for number, row in rows:
        header |= dict.fromkeys(row)
        found.append((number, dict(_cells(row))))
    return list(header), [(number, {name: row.get(name, "") for name in header}) for number, row in found]


def _cells(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in row.items():
        yield name, "" if value is None else repr(value) if isinstance(value, float) else str(value)
