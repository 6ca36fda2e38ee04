"""Migrate a store's databases: one process at a time, all or nothing, with a copy from before."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.errors import StoreError
from line_neurons.tools.store.sqlite import copy_database, transaction

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

_log = logging.getLogger(__name__)


def migrate(
    db: sqlite3.Connection, path: Path, pending: Callable[[], str | None], apply: Callable[[], None]
) -> None:
    """Apply the pending migrations of a database in one transaction; of several processes the others wait.

    ``pending`` gives the name of the first migration that the database lacks, None if it lacks none. A database
    with rows is copied first, and a warning says where.
    """
    if pending() is None:
        return
    copy = None
    with transaction(db):
        # Another process may have migrated it while this one waited.
        if step := pending():
            copy = copy_database(path, step) if _has_rows(db) else None
            apply()
    if copy:
        _log.warning("%s was migrated; the copy from before is %s", path, copy)


def migrate_schema(
    schema: Migrations, db: Database, path: Path, check: Callable[[sqlite3.Connection], None]
) -> None:
    """Apply the pending migrations of a schema that the database itself records; ``check`` is run first."""

    def pending() -> str | None:
        check(db.conn)
        steps = schema.pending(db)
        return steps[0].name.partition("_")[0] if steps else None

    migrate(db.conn, path, pending, lambda: schema.apply(db))


def schema_version(db: sqlite3.Connection) -> int:
    """Return the ``user_version`` of a database."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def refuse_newer(db: sqlite3.Connection, path: Path, known: int = 0) -> None:
    """Refuse a database with a ``user_version`` above ``known``; a schema that never changed has 0.

    Raises:
        StoreError: a newer version of the program wrote it.
    """
    version = schema_version(db)
    if version > known:
        raise StoreError(
            f"{str(path)!r} was made by a newer version (schema {version}, this one knows {known})",
            "update line-neurons, or name another folder with --store",
        )


def _has_rows(db: sqlite3.Connection) -> bool:
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
    own = [name for name in names if not name.startswith(("sqlite_", "_"))]
    return any(db.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone() for name in own)  # noqa: S608
