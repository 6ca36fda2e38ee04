"""SQLite connections: busy timeouts and user-facing errors."""

from __future__ import annotations

import errno
import filecmp
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import StoreError, UsageError, reason_of
from line_neurons.agent.text import clean_text, shell_word
from line_neurons.tools.store.atomic_files import atomic_write, partial_file, partial_path, remove_unfinished
from line_neurons.tools.store.locks import file_lock
from line_neurons.tools.store.paths import refuse_links

logger = logging.getLogger(__name__)

BUSY_TIMEOUT = 30.0
"""Seconds to wait for a database while another process writes to it."""

# SQLite's MAX_PATHNAME, less what it appends.
_LONGEST_PATH = 500

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EROFS, errno.EACCES, errno.EPERM}

# What is lost without each file.
_WITHOUT = {
    "checkpoints.db": "unfinished units then restart, with the cached images and replies",
    "bank.db": "images are then generated again from the same requests",
}


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raise errors of the database at ``path``, or of another file in its place, as a ``StoreError``."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise store_error(path, error) from error


def store_error(path: Path, error: Exception) -> StoreError:
    """Return the user's error: the file, what is wrong with it, and what can be done."""
    return StoreError(f"the store's {_describe(path, error)}", _remedy(path, error))


def is_damaged(path: Path, error: BaseException | None) -> bool:
    """Return whether an error says that the file at ``path`` is no database, or a corrupt one."""
    return isinstance(error, sqlite3.Error) and (_code(error) in _DAMAGED or path.is_dir())


def quarantine(path: Path) -> bool:
    """Rename a corrupt database that can be made again, with a warning; return whether it was corrupt.

    Another process may have done so meanwhile: what is there now is checked first.

    Raises:
        StoreError: the folder cannot be written.
    """
    lock = path.parent / "locks" / f"{path.name}.lock"
    with translate_errors(path), file_lock(lock, refusal=UsageError, on_wait=lambda holder: None):
        if _is_whole(path):
            return False
        renamed = quarantine_path(path)
        path.replace(renamed)
        # They belong to the renamed file; SQLite would apply them to the new one.
        for log in ("-wal", "-shm"):
            path.with_name(f"{path.name}{log}").unlink(missing_ok=True)
    logger.warning("%s is damaged; it was renamed to %s, and a new one is made", path, renamed.name)
    return True


def quarantine_path(path: Path) -> Path:
    """Return the first free name for a corrupt database."""
    return next(
        renamed for number in count(1) if not (renamed := path.with_name(f"{path.name}.damaged-{number}")).exists()
    )


def connect(path: Path, check: Callable[[sqlite3.Connection], None], **options: Any) -> sqlite3.Connection:
    """Open a store's database to read and write, in WAL mode from its first byte.

    Args:
        path: the file; made if it does not exist.
        check: refuses a database that this version must not touch, before anything of it is changed.
        options: further arguments of ``sqlite3.connect``.

    Raises:
        StoreError: a symbolic link would lead out of the store, or foreign code is in the database.
        sqlite3.Error: it cannot be used.
        OSError: the folder cannot be written.
    """
    refuse_links(path.parent)
    if not path.exists():
        # Where a file cannot be linked or the folder not be written, SQLite makes the file, or says why it cannot.
        with suppress(OSError):
            _create(path)
    connection: sqlite3.Connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, **options)
    try:
        _refuse_foreign(connection, path)
        check(connection)
        enable_wal(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_readonly(path: Path, **options: Any) -> sqlite3.Connection:
    """Open an existing database read-only.

    What a killed process left half written is rolled back first: SQLite does that wherever a database is opened to
    be written, but lets nobody read it otherwise.

    Raises:
        StoreError: foreign code is in the database.
        sqlite3.Error: it cannot be opened.
    """
    uri, writable = path.resolve().as_uri(), os.access(path.parent, os.W_OK)
    if writable and path.with_name(f"{path.name}-journal").exists():
        with closing(sqlite3.connect(f"{uri}?mode=rw", uri=True, timeout=BUSY_TIMEOUT)) as db:
            db.execute("PRAGMA schema_version").fetchone()
    # SQLite makes no file beside one in a folder that nothing can be written in.
    alone = not writable and not path.with_name(f"{path.name}-wal").exists()
    connection: sqlite3.Connection = sqlite3.connect(
        f"{uri}?mode=ro{'&immutable=1' * alone}", uri=True, timeout=BUSY_TIMEOUT, **options
    )
    try:
        # A damaged database says so where something is read.
        with suppress(sqlite3.DatabaseError):
            _refuse_foreign(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Commit what the body writes all together or, if it raises, nothing; other writers wait."""
    # What is read before the first change must be as new as what is changed.
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        # Of some errors, such as a full disk, SQLite itself takes back the whole transaction.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def copy_database(path: Path, reason: str) -> Path:
    """Copy a database to ``NAME.before-REASON.bak``; no copy is overwritten, and none is kept twice."""
    stem = f"{path.name}.before-{reason}"
    remove_unfinished(path.with_name(stem))
    with partial_file(path.with_name(stem)) as (part, file):
        with (
            closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT)) as source,
            closing(sqlite3.connect(part)) as target,
        ):
            source.backup(target)
            # Else the copy would want to be opened for writing before it could be read.
            target.execute("PRAGMA journal_mode = DELETE").fetchone()
        os.fsync(file.fileno())
        names = (f"{stem}{f'-{number}' if number > 1 else ''}.bak" for number in count(1))
        copy = next(
            copy
            for copy in map(path.with_name, names)
            if not copy.exists() or filecmp.cmp(part, copy, shallow=False)
        )
        if not copy.exists():
            part.replace(copy)
    return copy


def _refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a database with foreign code: a view's query may have no end.

    Raises:
        StoreError: it has a view or a trigger.
    """
    foreign = db.execute("SELECT type, name FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchone()
    if foreign:
        raise StoreError(
            f"{path.name} in {str(path.parent)!r} has a {foreign[0]}, {clean_text(str(foreign[1]), 60)!r},"
            " which no version of line-neurons makes",
            "put a backup of the file in its place, or name another store with --store",
        )


def _create(path: Path) -> None:
    """Make an empty database in WAL mode, unless another process makes one at the same time."""
    part = partial_path(path)
    with atomic_write(path, new=True), closing(sqlite3.connect(part, timeout=BUSY_TIMEOUT)) as db:
        db.execute("PRAGMA journal_mode = WAL").fetchone()


def enable_wal(db: sqlite3.Connection) -> None:
    """Let readers and a writer not wait for each other."""
    if db.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        return
    # SQLite waits for other processes everywhere but here, where several may change the same old database.
    give_up = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def _is_whole(path: Path) -> bool:
    if not path.exists():
        return True
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT)) as database:
            return bool(database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.DatabaseError as error:
        if is_damaged(path, error):
            return False
        raise


def _code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _describe(path: Path, error: Exception) -> str:
    what = (error.strerror if isinstance(error, OSError) else "") or reason_of(error)
    place = f"{path.name} in {str(path.parent)!r}"
    if path.is_dir():
        return f"{place} is a folder, not a database"
    if _code(error) in _BUSY:
        return f"{place} was in use by another process for more than {BUSY_TIMEOUT:g} s: {what}"
    if is_damaged(path, error):
        return f"{place} is damaged: {what}"
    return f"{place} cannot be used: {what}"


def _remedy(path: Path, error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    code = _code(error)
    if code in _BUSY:
        return "wait for that process, or stop it"
    if is_damaged(path, error):
        remedy = (
            f"line doctor --store {shell_word(str(path.parent))} --fix, or put a backup of the file in its place"
        )
        if lost := _WITHOUT.get(path.name):
            remedy += f", or move it away with its -wal and -shm: {lost}"
        return remedy
    if code == sqlite3.SQLITE_FULL or number in _NO_ROOM:
        return "make space on its disk"
    if code == sqlite3.SQLITE_CANTOPEN and len(os.fsencode(path.resolve())) > _LONGEST_PATH:
        return f"SQLite opens no path of more than {_LONGEST_PATH} bytes: name a shorter one with --store"
    closed = code == sqlite3.SQLITE_CANTOPEN and path.parent.is_dir() and not os.access(path.parent, os.W_OK)
    if closed or code == sqlite3.SQLITE_READONLY or number in _NOT_ALLOWED:
        return "make the folder writable, or name another with --store"
    return "check that the folder exists, is writable and has free space, or name another with --store"
