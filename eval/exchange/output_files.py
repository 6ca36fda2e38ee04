"""Output paths: atomic writes; existing files are kept unless ``--force`` is given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PosixPath
from typing import BinaryIO

from line_neurons.agent.errors import UsageError
from line_neurons.tools.store.atomic_files import atomic_folder, atomic_write, remove_unfinished


class FolderPath(PosixPath):
    """A path that was written with a slash at its end, which ``Path`` drops."""


def output_path(text: str) -> Path:
    """Return the path of ``-o``; a ``FolderPath`` where it ends with a slash."""
    return (FolderPath if text.endswith(os.sep) else Path)(text)


def output_file(output: Path, name: str) -> Path:
    """Return the file to write: ``output``, or ``name`` in it where it is a folder or written as one.

    A missing folder is created.

    Raises:
        UsageError: it cannot be created.
    """
    try:
        if not isinstance(output, FolderPath):
            return output / name if output.is_dir() else output
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(output, error) from error
    return Path(output) / name


def refuse_unwritable(output: Path) -> None:
    """Refuse an output that cannot be written, before the long work whose result it is for.

    Missing folders are made when it is written.

    Raises:
        UsageError: the last of its folders that exists is no folder, or may not be written to.
    """
    if _is_stream(output):
        return
    place = output.resolve()
    if not place.is_dir():
        place = next(folder for folder in place.parents if folder.exists())
    if not place.is_dir():
        raise UsageError(f"there is no folder {str(place)!r:.200}", "name another with --output")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(
            f"{str(output)!r:.200} cannot be written: {place} is read-only", "name another with --output"
        )


def refuse_existing(path: Path, *, force: bool, remedy: str = "choose another --output, or add --force") -> None:
    """Refuse to replace an existing file without ``force``.

    Raises:
        UsageError: it exists and ``force`` is not given.
    """
    if not force and os.path.lexists(path) and not _is_stream(path):
        raise UsageError(f"{str(path)!r:.200} exists already", remedy)


@contextmanager
def open_output(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write that replaces the existing one when the body ends, and not if it fails.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        if path.is_dir():
            raise UsageError(f"{str(path)!r:.200} is not a file", "name a file with --output")
        if _is_stream(path):
            with path.open("wb") as stream:
                yield stream
            return
        # The target of a link is replaced, not the link.
        whole = path.resolve()
        if not whole.parent.is_dir():
            raise UsageError(f"there is no folder {str(whole.parent)!r:.200}", "name another with --output")
        remove_unfinished(whole)
        with atomic_write(whole) as file:
            yield file
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error


@contextmanager
def output_folder(path: Path, mark: str) -> Iterator[Path]:
    """Create a folder to fill that gets its name when the body ends; a failure leaves nothing.

    Args:
        mark: a file that each export of this kind has; only a folder with it, or an empty one, is replaced.

    Raises:
        UsageError: it cannot be written, or something else is there.
    """
    try:
        if os.path.lexists(path) and not (path.is_dir() and (not any(path.iterdir()) or (path / mark).is_file())):
            raise UsageError(f"{str(path)!r:.200} is not a folder of an export", "name another with --output")
        with atomic_folder(path.resolve()) as folder:
            yield folder
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error


def _is_stream(path: Path) -> bool:
    """Return whether the output goes to another process or a device."""
    return path.is_fifo() or path.is_char_device()


def _unwritable(path: Path, error: Exception) -> UsageError:
    reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
    return UsageError(f"{str(path)!r:.200} cannot be written: {reason:.200}", "name another with --output")
