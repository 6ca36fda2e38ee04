"""A store's databases brought up to date: one process at a time, all or nothing, with a copy from before."""

from __future__ import annotations

import filecmp
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

from line_neurons.agent.errors import StoreError
from line_neurons.tools.store import sqlite as databases

_log = logging.getLogger(__name__)


@contextmanager
def migration(db: sqlite3.Connection, path: Path, step: Callable[[], str | None]) -> Iterator[str | None]:
    """Migrate a database in the body, in one transaction; of several processes the others wait.

    A database that holds something is copied beside itself first, as ``NAME.before-STEP.bak``, and a warning is
    logged that tells where. A copy is never overwritten, and not kept twice.

    Args:
        db: the database.
        path: its file.
        step: the name of the first migration that it lacks, None if it lacks none; asked within the transaction.

    Yields:
        What ``step`` gave.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        wanted = step()
        kept = _copied(path, wanted) if wanted and _holds_rows(db) else None
        yield wanted
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    if kept:
        _log.warning("%s was brought up to date; as it was before it is kept as %s", path, kept)


def refuse_newer(db: sqlite3.Connection, path: Path, known: int = 0) -> None:
    """See that a database's ``user_version`` is one that is known; what has never had another schema has 0.

    Raises:
        StoreError: a newer version of the program made it.
    """
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > known:
        raise StoreError(
            f"{str(path)!r} was made by a newer version (schema {version}, this one knows {known})",
            "update line-neurons, or name another folder with --store",
        )


def _holds_rows(db: sqlite3.Connection) -> bool:
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
    own = [name for name in names if not name.startswith(("sqlite_", "_"))]
    return any(db.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone() for name in own)  # noqa: S608


def _copied(path: Path, step: str) -> Path:
    """Copy a database that nobody changes now; it is there whole, or not at all."""
    part = path.with_name(f".{path.name}.before-{step}")
    try:
        part.unlink(missing_ok=True)
        with (
            closing(sqlite3.connect(path, timeout=databases.BUSY_TIMEOUT)) as source,
            closing(sqlite3.connect(part)) as target,
        ):
            source.backup(target)
            # Else the copy would want to be opened for writing before it could be read.
            target.execute("PRAGMA journal_mode = DELETE").fetchone()
        with part.open("rb") as file:
            os.fsync(file.fileno())
        names = (f"{path.name}.before-{step}{f'-{number}' if number > 1 else ''}.bak" for number in count(1))
        kept = next(
            file
            for file in map(path.with_name, names)
            if not file.exists() or filecmp.cmp(part, file, shallow=False)
        )
        if not kept.exists():
            part.replace(kept)
        return kept
    finally:
        part.unlink(missing_ok=True)
