"""Database of the cache, and how files get into its folder."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.atomic_files import atomic_write
from line_neurons.tools.store.migrations import migrate, refuse_newer, schema_version
from line_neurons.tools.store.sqlite import translate_errors

# One tuple of statements for each schema version; SQLite's user_version holds how many were applied.
_MIGRATIONS = (
    (
        "CREATE TABLE draws (generator TEXT, prompt TEXT, seed INTEGER, image TEXT, size INTEGER,"
        " request TEXT, provenance TEXT, PRIMARY KEY (generator, prompt, seed))",
        "CREATE INDEX draws_image ON draws (image)",
        "CREATE TABLE activations (image TEXT, target TEXT, layer TEXT, vector BLOB,"
        " PRIMARY KEY (image, target, layer))",
        "CREATE TABLE controls (key TEXT PRIMARY KEY, classes TEXT, skipped TEXT)",
    ),
    # Earlier rows have no checksum, and are used as they are.
    tuple(f"ALTER TABLE {table} ADD COLUMN checksum BLOB" for table in ("draws", "activations", "controls")),
    # The number of all units where a vector has only those that are not 0; earlier vectors have all.
    ("ALTER TABLE activations ADD COLUMN units INTEGER",),
    # Sparse vectors may have their units in blocks, which earlier versions cannot read.
    (),
)


class CacheDatabase:
    """A folder with ``bank.db``, opened for several threads and processes.

    Attributes:
        lock: to be held while ``db`` is used.
        db: the database.

    Raises:
        StoreError: the folder cannot be written, or a newer version of the program made it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = threading.RLock()
        with self.mapped():
            root.mkdir(parents=True, exist_ok=True)
            self.db = databases.connect(
                root / "bank.db", self._refuse_newer, isolation_level=None, check_same_thread=False
            )
            try:
                self._migrate()
            except BaseException:
                self.db.close()
                raise

    def close(self) -> None:
        """Close the database."""
        with self.lock:
            self.db.close()

    def one(self, statement: str, values: tuple[str | int, ...]) -> Any:
        """Return the first row of a query, None if there is none."""
        with self.mapped(), self.lock:
            return self.db.execute(statement, values).fetchone()

    def write(self, path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
        """Write a file atomically; see ``atomic_write``."""
        with translate_errors(path), atomic_write(path, durable=durable) as file:
            write(file)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit all changes of the body, or none if it fails."""
        with self.mapped(), self.lock, databases.transaction(self.db):
            yield self.db

    def _migrate(self) -> None:
        def pending() -> str | None:
            self._refuse_newer(self.db)
            version = schema_version(self.db)
            return f"m{version + 1:03d}" if version < len(_MIGRATIONS) else None

        def apply() -> None:
            for statement in chain.from_iterable(_MIGRATIONS[schema_version(self.db) :]):
                self.db.execute(statement)
            self.db.execute(f"PRAGMA user_version = {len(_MIGRATIONS):d}")

        self.db.execute("PRAGMA synchronous = NORMAL")
        migrate(self.db, self.root / "bank.db", pending, apply)

    def _refuse_newer(self, db: sqlite3.Connection) -> None:
        refuse_newer(db, self.root / "bank.db", len(_MIGRATIONS))

    @contextmanager
    def mapped(self) -> Iterator[None]:
        """Raise errors of the database and of files as a ``StoreError``."""
        with translate_errors(self.root / "bank.db"):
            yield
