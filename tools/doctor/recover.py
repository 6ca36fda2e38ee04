"""Recover rows from a corrupt SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from line_neurons.tools.store.atomic_files import partial_path
from line_neurons.tools.store.sqlite import quarantine_path

_LOGS = ("-wal", "-shm")


def recover(path: Path) -> str:
    """Replace a corrupt database by one with the rows that can be read; the old file is kept.

    Where nothing can be read, a cache is only renamed, and the runs are left as they are.

    Args:
        path: ``runs.db`` or another database of a store.

    Returns:
        what was done, in a line.

    Raises:
        sqlite3.Error: the new one cannot be written.
        OSError: a file cannot be renamed.
    """
    part = partial_path(path)
    try:
        rows = _copy_rows(path, part)
        if rows is None and path.name == "runs.db":
            return f"{path.name} is left as it is: nothing in it can be read; put a backup in its place"
        kept = quarantine_path(path)
        # With its log: what is in there belongs to it, and would be taken for the new one's.
        for ending in _LOGS:
            if (log := path.with_name(f"{path.name}{ending}")).exists():
                log.replace(kept.with_name(f"{kept.name}{ending}"))
        path.replace(kept)
        if rows is None:
            return (
                f"{path.name} is kept as {kept.name}: nothing in it could be read; a new one is made when needed"
            )
        part.replace(path)
        return f"{path.name} was damaged: {rows} rows were recovered; the old file is kept as {kept.name}"
    finally:
        part.unlink(missing_ok=True)


def _copy_rows(path: Path, into: Path) -> int | None:
    """Copy tables, rows and indexes; return the number of rows, None if not even the tables can be read."""
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(into)) as new:
        old.text_factory = lambda text: text.decode("utf-8", "replace")
        try:
            entries = old.execute(
                "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
            ).fetchall()
            version = old.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError:
            return None
        count = 0
        with new:
            for kind, name, sql in entries:
                if kind == "table":
                    new.execute(sql)
                    count += _copy_table(old, new, name)
            for kind, _, sql in entries:
                if kind == "index":
                    # A unique index may not fit the recovered rows.
                    with suppress(sqlite3.IntegrityError):
                        new.execute(sql)
            new.execute(f"PRAGMA user_version = {int(version)}")
    return count


def _copy_table(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> int:
    quoted = '"' + table.replace('"', '""') + '"'
    columns = ["rowid", *(name for _, name, *_ in old.execute(f"PRAGMA table_info({quoted})"))]
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    put = f"INSERT OR IGNORE INTO {quoted} ({names}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
    for order in ("rowid", "rowid DESC"):
        for row in _readable(old, f"SELECT {names} FROM {quoted} ORDER BY {order}"):  # noqa: S608
            new.execute(put, row)
    return int(new.execute(f"SELECT count(*) FROM {quoted}").fetchone()[0])  # noqa: S608


def _readable(db: sqlite3.Connection, query: str) -> Iterator[tuple[object, ...]]:
    """Yield rows up to the first that cannot be read."""
    with suppress(sqlite3.DatabaseError):
        yield from db.execute(query)
