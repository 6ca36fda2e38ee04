"""Atomic files and folders: there whole, or not at all; each is locked while its writer lives."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from line_neurons.agent.errors import UsageError
from line_neurons.tools.store.paths import open_no_link, unfinished_files

_BEFORE = "-before"
# What writes without a lock takes seconds.
_SURELY_DEAD = 3600.0


@contextmanager
def partial_file(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a file to write before it gets its name; it is removed when the body ends, unless it was renamed.

    Its folder is made if it does not exist.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = partial_path(path)
    try:
        with _locked(part) as file:
            yield part, file
    finally:
        part.unlink(missing_ok=True)


def write_file(path: Path, content: bytes, remedy: str = "name another with --output") -> Path:
    """Write a file whole, or leave what was there; of a link, the file that it points to.

    Raises:
        UsageError: it cannot be written; ``remedy`` says what to do.
    """
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{str(path)!r:.200} is not a file", remedy)
        with atomic_write(path.resolve()) as file:
            file.write(content)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{str(path)!r:.200} cannot be written: {reason}", remedy) from error
    return path


@contextmanager
def atomic_write(path: Path, *, new: bool = False, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file to write that gets its name when the body ends.

    Args:
        path: the file; its folder is made if it does not exist.
        new: leave a file of that name as it is, which another process may have made meanwhile.
        durable: wait for the disk, so that a power cut leaves no file that is cut short. A killed process never
            does.
    """
    with partial_file(path) as (part, file):
        yield file
        file.flush()
        if durable:
            os.fsync(file.fileno())
        if new:
            with suppress(FileExistsError):
                path.hardlink_to(part)
        else:
            part.replace(path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Make a folder to fill that gets its name when the body ends, in place of one that had it.

    Partial folders of killed processes are removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path)
    part = partial_path(path)
    before = part.with_name(f"{part.name}{_BEFORE}")
    try:
        part.mkdir()
        with ExitStack() as stack:
            stack.enter_context(_folder_locked(part))
            yield part
            if path.exists():
                stack.enter_context(_folder_locked(path))
                path.replace(before)
            try:
                part.replace(path)
            except OSError:
                if before.exists():
                    before.replace(path)
                raise
    finally:
        for left in (part, before):
            shutil.rmtree(left, ignore_errors=True)


def remove_unfinished(path: Path) -> None:
    """Remove what killed processes left beside a file or folder that they were writing."""
    left = re.compile(rf"\.{re.escape(path.name)}\.\d+-\d+(?:{_BEFORE})?")
    for other in [other for other in path.parent.iterdir() if left.fullmatch(other.name)]:
        # They take space, no more.
        with suppress(OSError):
            if other.is_symlink() or _is_held(other):
                continue
            if other.is_dir():
                shutil.rmtree(other)
            else:
                other.unlink()


def partial_path(path: Path) -> Path:
    """Return the name of a file while this thread writes it."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")


@contextmanager
def _folder_locked(folder: Path) -> Iterator[None]:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    while True:
        with open(part, "wb", opener=open_no_link) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Another process may have taken it for a leftover before it was locked.
            if os.fstat(file.fileno()).st_nlink:
                yield file
                return


def abandoned_files(store: Path) -> list[Path]:
    """Return the partial files of a store that have no living writer."""
    return sorted(
        path
        for path, part in unfinished_files(store)
        if (_is_old(path) if part is None else not _is_locked(path, part))
    )


def remove_abandoned(store: Path) -> None:
    """Remove the partial files of killed processes."""
    for path in abandoned_files(store):
        # They take space, no more.
        with suppress(OSError):
            path.unlink()


def _is_locked(path: Path, part: Path) -> bool:
    """Return whether the writer of ``part``, which ``path`` is or lies beside, lives."""
    try:
        return _is_held(part)
    except FileNotFoundError:
        # Either the writer has come to its end meanwhile, or only its journal is left.
        return not path.exists()
    except OSError:
        return True


def _is_held(path: Path) -> bool:
    """Return whether a living process holds the file or folder locked."""
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(number)
    return False


def _is_old(path: Path) -> bool:
    try:
        return path.stat().st_mtime < time.time() - _SURELY_DEAD
    except OSError:
        return False
