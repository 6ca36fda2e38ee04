"""Free disk space of a store: what no run refers to, checkpoints that nothing resumes from, free pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from line_neurons.agent.errors import StoreError, UsageError
from line_neurons.tools.cache.unused import Unused, find_unused, remove_unused
from line_neurons.tools.doctor.repair import keep_others_out
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.migrations import refuse_newer
from line_neurons.tools.store.paths import DATABASES, refuse_links
from line_neurons.tools.store.removal.references import references
from line_neurons.tools.store.runs import RunStore, has_runs

_DONE = f"SELECT run, unit FROM units WHERE status IN ({', '.join('?' * len(DONE))})"  # noqa: S608
_SEVERAL = "SELECT thread_id FROM checkpoints GROUP BY thread_id HAVING count(*) > 1 ORDER BY thread_id"


@dataclass(frozen=True)
class Freed:
    """Space that was freed in a database.

    Args:
        database: the file's name.
        pruned: finished units whose checkpoints were pruned to the last one.
        before: its size in bytes, with its write-ahead log.
    """

    database: str
    pruned: int
    before: int
    after: int


def survey(store: Path) -> Unused:
    """Find what the cache of a store holds that none of its runs and evaluations refers to; changes nothing.

    Raises:
        UsageError: there is no such store.
        StoreError: a database cannot be read.
    """
    _require_store(store)
    return find_unused(store, references(store))


def collect(store: Path) -> Unused:
    """Remove what ``survey`` finds, while no process uses the store; a kill loses nothing else.

    Raises:
        UsageError: there is no such store, or a process uses it.
        StoreError: a database cannot be used.
    """
    _require_store(store)
    refuse_links(store)
    with ExitStack() as stack:
        with databases.translate_errors(store):
            keep_others_out(store, stack)
        unused = survey(store)
        remove_unused(store, unused)
    return unused


def compact(store: Path) -> Iterator[Freed]:
    """Prune the checkpoints of finished units and free unused pages of the databases.

    A kill or a full disk loses nothing: a unit's checkpoints are pruned in one transaction, and VACUUM is one.

    Yields:
        the space freed in each database.

    Raises:
        UsageError: there is no such store, or a process uses it.
        StoreError: a database cannot be used, or there is no room for a copy of it.
    """
    _require_store(store)
    refuse_links(store)
    with ExitStack() as stack:
        with databases.translate_errors(store):
            keep_others_out(store, stack)
        for name in DATABASES:
            if (store / name).exists():
                yield _compact(store, name)


def _require_store(store: Path) -> None:
    if not store.is_dir():
        raise UsageError(f"there is no store at {str(store)!r}", "name its folder with --store")


def _compact(store: Path, name: str) -> Freed:
    path = store / name

    def check(db: sqlite3.Connection) -> None:
        # Elsewhere no row is touched, whatever the schema.
        if name == "checkpoints.db":
            refuse_newer(db, path)

    before = _size(path)
    with (
        databases.translate_errors(path),
        _room_explained(path),
        closing(databases.connect(path, check, isolation_level=None)) as db,
    ):
        pruned = _prune(store, db) if name == "checkpoints.db" else 0
        if db.execute("PRAGMA freelist_count").fetchone()[0]:
            db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return Freed(name, pruned, before, _size(path))


@contextmanager
def _room_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
            raise
        raise StoreError(
            f"the store's {path.name} in {str(path.parent)!r} cannot be made smaller: {error}",
            "SQLite needs room for a copy of it, beside it and in the folder of temporary files (SQLITE_TMPDIR,"
            " TMPDIR): make space, then line gc again; nothing is lost",
        ) from error


def _prune(store: Path, db: sqlite3.Connection) -> int:
    """Prune the threads of finished units; return how many had more than one checkpoint."""
    from line_neurons.tools.store.checkpoints import PRUNE

    if not has_runs(store) or not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'checkpoints'").fetchone():
        return 0
    with closing(RunStore(store, read_only=True)) as runs:
        finished = {f"{run}/{unit}" for run, unit in runs.rows(_DONE, *DONE)}
    several = [thread for (thread,) in db.execute(_SEVERAL).fetchall() if thread in finished]
    for thread in several:
        db.execute("BEGIN IMMEDIATE")
        for statement in PRUNE:
            db.execute(statement, [thread])
        db.execute("COMMIT")
    return len(several)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
