"""Records as ``evaluations.db`` holds them."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from line_neurons.agent.text import storable_text
from line_neurons.tools.json_text import loads
from line_neurons.tools.store.sqlite import open_readonly, translate_errors

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Record = TypeVar("Record", bound=DataclassInstance)


def stored_fields(record: DataclassInstance) -> dict[str, Any]:
    """Return the fields of a record: texts that can be stored, and None for a number that is not finite."""
    return {
        name: storable_text(value) if isinstance(value, str) else value
        for name, value in finite(asdict(record)).items()
    }


def finite(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return numbers by name, with None for one that is not finite."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in numbers.items()
    }


def read_numbers(text: Any) -> dict[str, Any]:
    """Read numbers by name from the JSON object in a column.

    Raises:
        TypeError: it is no object, or no text.
        ValueError: it is no JSON.
    """
    found = loads(text)
    if not isinstance(found, dict):
        raise TypeError("no object")
    return found


@contextmanager
def opened_results(store: Path, table: str) -> Iterator[sqlite3.Connection | None]:
    """Open a store's results to read; None if there are none, or they are of a version without the table.

    Raises:
        StoreError: the database cannot be read.
    """
    path = store / "evaluations.db"
    if not path.is_file():
        yield None
        return
    with translate_errors(path), closing(open_readonly(path)) as db:
        known = db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        yield db if known else None


def read_records(
    db: sqlite3.Connection, table: str, kind: type[Record], where: Mapping[str, Any]
) -> list[tuple[int, Record, float]]:
    """Return key, record and date of the rows with some values of the record's fields, newest first."""
    names = [field.name for field in fields(kind)]
    chosen = {name: where[name] for name in names if name in where}
    condition = " AND ".join(f'"{name}" = :{name}' for name in chosen) or "1"
    columns = ", ".join(f'"{name}"' for name in names)
    ordered = f"{table} WHERE {condition} ORDER BY updated DESC, id DESC"
    rows = db.execute(f"SELECT id, updated, {columns} FROM {ordered}", chosen).fetchall()  # noqa: S608
    return [(int(key), kind(**dict(zip(names, values, strict=True))), float(when)) for key, when, *values in rows]


def read_rows(db: sqlite3.Connection, table: str, **where: int) -> list[dict[str, Any]]:
    """Return the rows of a table with some values, by column, in the order of their writing."""
    condition = " AND ".join(f"{name} = :{name}" for name in where)
    cursor = db.execute(f"SELECT * FROM {table} WHERE {condition} ORDER BY rowid", where)  # noqa: S608
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
