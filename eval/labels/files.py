"""Read tables of labels (CSV, TSV, JSON, JSON lines, Parquet) as rows of texts by column."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from line_neurons.agent.errors import UsageError
from line_neurons.tools.json_text import loads
from line_neurons.tools.packages import required_package

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
"""Endings of files of labels; files with another ending are read as CSV."""

_MAX_BYTES = 1 << 28
_MAX_ROWS = 1_000_000
_FILES = "name a file of labels: CSV, .tsv, .json, .jsonl or .parquet"
_MAX_HEADING = 1 << 16
_MARKS = (",", "\t", ";")


class LabelTable(NamedTuple):
    """A table of texts.

    Args:
        header: its columns, each once.
        rows: every row that is not blank, with its line or number in the file; missing cells are empty.
        spreadsheet: the file may have texts escaped by ``spreadsheet_cell``.
    """

    header: list[str]
    rows: Sequence[tuple[int, dict[str, str]]]
    spreadsheet: bool


def read_table(path: Path) -> LabelTable:
    """Read a table of labels.

    The columns of a text file are separated by commas, tabs or semicolons: the mark that is most frequent in the
    heading.

    Raises:
        UsageError: it cannot be read, is larger than 256 MiB or a million rows, has a column twice, a row with
            more cells than columns or an unclosed quote, or has another format than its ending says.
        MissingPartError: it is Parquet, whose package is not installed.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path} is larger than {_MAX_BYTES >> 20} MiB", _FILES)
        read = {".json": _json, ".jsonl": _jsonl, ".parquet": _parquet}.get(path.suffix.casefold(), _csv)
        return read(path)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}", _FILES) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"{str(path)!r:.200} cannot be read: {reason!s:.200}", _FILES) from None


def read_text(path: Path, most: int, remedy: str) -> str:
    """Read a text file whole.

    Raises:
        UsageError: it has more than ``most`` bytes, is no UTF-8 text, or cannot be read.
    """
    try:
        if path.stat().st_size > most:
            limit = f"{most >> 20} MB" if most >> 20 else f"{most >> 10} kB"
            raise UsageError(f"{path} has more than {limit}", remedy)
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}", "correct it") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", remedy) from None


def _csv(path: Path) -> LabelTable:
    with path.open(encoding="utf-8-sig", newline="") as file:
        heading = file.readline(_MAX_HEADING)
        file.seek(0)
        # Strict: a quote that is not closed would otherwise take the rest of the file for one cell.
        table = csv.reader(file, delimiter=max(_MARKS, key=heading.count), strict=True)
        try:
            header = [cell.strip() for cell in next(table, [])]
            _refuse_twice(path, header)
            rows = []
            for row in table:
                if any(cell.strip() for cell in row):
                    rows.append((table.line_num, _cells_by_column(path, table.line_num, header, row)))
                    _refuse_many(path, len(rows))
        except csv.Error as error:
            raise UsageError(f"{path} line {table.line_num} is no CSV: {error}", "close its quotes") from None
    return LabelTable(header, rows, True)


def _cells_by_column(path: Path, line: int, header: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    if any(cell.strip() for cell in row[len(header) :]):
        raise UsageError(
            f"{path} line {line} has {len(row)} cells for {len(header)} columns",
            "quote texts that have the mark in them",
        )
    return dict(zip_longest(header, row[: len(header)], fillvalue=""))


def _refuse_many(path: Path, rows: int) -> None:
    if rows > _MAX_ROWS:
        raise UsageError(f"{path} has more than {_MAX_ROWS} rows", _FILES)


def _refuse_twice(path: Path, columns: Sequence[str]) -> None:
    counted = Counter(columns)
    if twice := [name for name in counted if name and counted[name] > 1]:
        raise UsageError(f"{path} has the column {twice[0]!r:.80} twice", "leave one of them")


def _json(path: Path) -> LabelTable:
    content = _parsed(path, "", path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise UsageError(f"{path} is no list of JSON objects", "write an object for each unit, or .jsonl")
    _refuse_many(path, len(content))
    return LabelTable(*_texts(enumerate(content, 1)), False)


def _jsonl(path: Path) -> LabelTable:
    rows = []
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            row = _parsed(path, f" line {number}", line) if line.strip() else {}
            if not isinstance(row, dict):
                raise UsageError(f"{path} line {number} is no JSON object", _FILES)
            if row:
                rows.append((number, row))
                _refuse_many(path, len(rows))
    return LabelTable(*_texts(rows), False)


def _parsed(path: Path, where: str, text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _refuse_twice(path, [name for name, _ in pairs])
        return dict(pairs)

    try:
        return loads(text, object_pairs_hook=once)
    except ValueError:
        raise UsageError(f"{path}{where} is no JSON object", _FILES) from None


def _parquet(path: Path) -> LabelTable:
    with required_package("pyarrow", "parquet", needed="parquet files need"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    try:
        with pq.ParquetFile(path) as file:
            _refuse_many(path, file.metadata.num_rows)
            _refuse_twice(path, file.schema_arrow.names)
            rows = file.read(use_threads=False).to_pylist()
    except (pa.ArrowException, MemoryError) as error:
        raise ValueError(f"it is no Parquet file: {str(error).splitlines()[0]:.100}") from None
    return LabelTable(*_texts(enumerate(rows, 1)), False)


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
