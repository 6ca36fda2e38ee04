"""Content hashes of files, and metadata of images, remembered while the files do not change."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from line_neurons.agent.errors import StoreError
from line_neurons.tools.cache.checksums import checksum
from line_neurons.tools.images.reader import READER
from line_neurons.tools.images.reading import TraitSummary
from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.migrations import refuse_newer
from line_neurons.tools.store.sqlite import is_damaged, quarantine, translate_errors

logger = logging.getLogger(__name__)

_AT_ONCE = 256
_SETTLED_NS = 2_000_000_000
_State = tuple[str, int, int, int]
"""Path, size, and times of change in nanoseconds; while these stay, the content is trusted to stay."""

_Row = tuple[str, int, int, int, str, bytes]
_SCHEMA = 1
Result = TypeVar("Result")


class FileHashes:
    """SHA-256 of files; a file is read again only if its size or its times have changed.

    A remembered hash has a checksum, together with the path, size and times that it holds for; for one that does
    not fit a warning is logged and the file is read again. A file of the same size and times is trusted to be the
    same.

    Args:
        path: an SQLite file that remembers the hashes, made if it does not exist; None: remember nothing.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def of(self, files: Sequence[Path]) -> list[str]:
        """Return the SHA-256 of each file, hex; ``unreadable`` for one that cannot be read.

        Hashes are written every 256 files, so that interrupted hashing continues where it stopped. A corrupt
        SQLite file is quarantined, and a new one made.

        Raises:
            StoreError: the SQLite file cannot be used.
        """
        return self._repairing(lambda: self._of(files))

    def trait_summary(self, content: str) -> TraitSummary | None:
        """Return what is remembered of the images with a content; None if nothing is.

        Raises:
            StoreError: the SQLite file cannot be used.
        """
        return self._repairing(lambda: self._trait_summary(content))

    def remember(self, content: str, trait_summary: TraitSummary) -> None:
        """Remember what the images with a content hold, which never changes.

        Raises:
            StoreError: the SQLite file cannot be used.
        """
        self._repairing(lambda: self._remember(content, trait_summary))

    def _repairing(self, work: Callable[[], Result]) -> Result:
        if self._path is None:
            return work()
        try:
            with translate_errors(self._path):
                return work()
        except StoreError as error:
            if not is_damaged(self._path, error.__cause__):
                raise
        quarantine(self._path)
        with translate_errors(self._path):
            return work()

    def _trait_summary(self, content: str) -> TraitSummary | None:
        with self._opened() as db:
            row = db.execute("SELECT account FROM images WHERE content = ? AND reader = ?", (content, READER))
            found = row.fetchone()
        try:
            return TraitSummary.from_json(found[0]) if found else None
        except (ValueError, TypeError, AttributeError):
            return None

    def _remember(self, content: str, trait_summary: TraitSummary) -> None:
        with self._opened() as db, db:
            row = (content, READER, trait_summary.to_json())
            db.execute("INSERT OR REPLACE INTO images VALUES (?, ?, ?)", row)

    def _of(self, files: Sequence[Path]) -> list[str]:
        with self._opened() as db:
            found: list[str] = []
            for start in range(0, len(files), _AT_ONCE):
                rows: list[_Row] = []
                for file in files[start : start + _AT_ONCE]:
                    found.append(_file_hash(db, file, rows))
                with db:
                    db.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)", rows)
        return found

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        path = self._path
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        with closing(
            databases.connect(path, lambda db: refuse_newer(db, path, _SCHEMA))
            if path
            else sqlite3.connect(":memory:")
        ) as db:
            _make_table(db)
            db.execute(
                "CREATE TABLE IF NOT EXISTS images (content TEXT PRIMARY KEY, reader INTEGER, account TEXT)"
            )
            yield db


def hash_checksum(state: _State, sha256: str) -> bytes:
    """Compute the checksum of a remembered hash: it holds for one path, size and times."""
    return checksum(*map(str, state), sha256)


def _make_table(db: sqlite3.Connection) -> None:
    if _has_checksums(db):
        return
    db.execute("BEGIN IMMEDIATE")
    with db:
        # Another process may have been first.
        if not _has_checksums(db):
            # Hashes of an earlier version have no checksum, and are computed again.
            db.execute("DROP TABLE IF EXISTS digests")
            db.execute(
                "CREATE TABLE digests (path TEXT PRIMARY KEY, size INTEGER, modified INTEGER, changed INTEGER,"
                " sha256 TEXT, checksum BLOB)"
            )
            db.execute(f"PRAGMA user_version = {_SCHEMA:d}")


def _has_checksums(db: sqlite3.Connection) -> bool:
    statement = "SELECT 1 FROM pragma_table_info('digests') WHERE name = 'checksum'"
    return db.execute(statement).fetchone() is not None


def _file_hash(db: sqlite3.Connection, file: Path, rows: list[_Row]) -> str:
    try:
        before = file.stat()
        state: _State = (str(file.absolute()), before.st_size, before.st_mtime_ns, before.st_ctime_ns)
        known = db.execute(
            "SELECT sha256, checksum FROM digests WHERE path = ? AND size = ? AND modified = ? AND changed = ?",
            state,
        ).fetchone()
        if known and known[1] == hash_checksum(state, str(known[0])):
            return str(known[0])
        if known:
            logger.warning("the remembered hash of %r is damaged; the file is hashed again", state[0])
        with file.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return "unreadable"
    # A file that changed a moment ago may change once more without another time stamp.
    if time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) > _SETTLED_NS:
        rows.append((*state, sha256, hash_checksum(state, sha256)))
    return sha256
