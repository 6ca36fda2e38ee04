"""Files and folders of a store: LINE's own, by name; no symbolic link is followed out of it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from line_neurons.agent.errors import StoreError

DATABASES = ("runs.db", "bank.db", "checkpoints.db", "replies.db", "digests.db", "evaluations.db")
FOLDERS = ("images", "controls", "locks", "loading", "logs", "embeddings", "sheets", "replays")

_HASH = "[0-9a-f]{64}"
_BYTE = re.compile("[0-9a-f]{2}")
_EMBEDDINGS = r"names-[0-9a-f]{32}\.npz"
_DATABASE = f"(?:{'|'.join(map(re.escape, DATABASES))})"
# A file that is being written, and what SQLite has beside it.
_PART = r"(?P<part>\.{}\.\d+-\d+)(?:-journal|-wal|-shm)?"
_OWN = {
    "images": re.compile(rf"[0-9a-f]{{2}}/{_HASH}\.png"),
    "controls": re.compile(rf"{_HASH}\.npz"),
    "embeddings": re.compile(_EMBEDDINGS),
    "logs": re.compile(r"\d{8}-\d{6}-\d{9}-[a-z]+\.log"),
    "locks": re.compile(r"[A-Za-z0-9_.-]+(?:@[A-Za-z0-9._-]+)?\.lock"),
    "loading": re.compile(r"\d+@[A-Za-z0-9._-]+\.json"),
}
"""Names of LINE's own files in a folder of the store."""

_LEFTOVERS = {
    "": re.compile(_PART.format(rf"{_DATABASE}(?:\.before-.+)?") + rf"|\.{_DATABASE}\.before-m\d+(?:-journal)?"),
    "images": re.compile("[0-9a-f]{2}/" + _PART.format(rf"{_HASH}\.png")),
    "controls": re.compile(_PART.format(rf"{_HASH}\.npz")),
    "sheets": re.compile(_PART.format(r"[A-Za-z0-9_.-]+\.png")),
    "embeddings": re.compile(_PART.format(_EMBEDDINGS) + r"|tmp\w{8}\.tmp"),
}
"""Names of partial files; ``part`` is the one that its writer holds locked."""


def open_no_link(path: str, flags: int) -> int:
    """Open a file that is no symbolic link; an ``opener`` for ``open``.

    Raises:
        OSError: it is a symbolic link (``ELOOP``), or cannot be opened.
    """
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def own_files(store: Path, folder: str) -> Iterator[Path]:
    """Yield LINE's own files in a folder of a store, by name; links are none."""
    yield from (path for path, _ in _matching(store, folder, _OWN[folder]))


def unfinished_files(store: Path) -> Iterator[tuple[Path, Path | None]]:
    """Yield partial files, each with the file that its writer holds locked, if it does."""
    for folder, pattern in _LEFTOVERS.items():
        for path, match in _matching(store, folder, pattern):
            part = match.groupdict().get("part")
            yield path, path.with_name(part) if part else None


def links(store: Path) -> list[Path]:
    """Return the symbolic links in a store that stand in the place of LINE's own files and folders."""
    places = [store / name for name in (*DATABASES, *FOLDERS)]
    found = [path for path in places if path.is_symlink()]
    images = store / "images"
    if images.is_dir() and images not in found:
        # A store is opened often: the listing itself says what a link is.
        with os.scandir(images) as listed:
            found += [images / one.name for one in listed if one.is_symlink() and _BYTE.fullmatch(one.name)]
    return sorted(found)


def refuse_links(store: Path) -> None:
    """Refuse to write to a store from which a symbolic link would lead out.

    Raises:
        StoreError: there is one, or the folder cannot be read.
    """
    try:
        found = links(store)
    except OSError as error:
        raise StoreError(
            f"the store {str(store)!r} cannot be used: {error.strerror}", "name another with --store"
        ) from error
    if found:
        raise StoreError(
            f"{found[0].name} in the store {str(store)!r} is a symbolic link, which would lead out of the store",
            "put what it leads to in its place; for a store on another disk, name its folder with --store",
        )


def _matching(store: Path, folder: str, pattern: re.Pattern[str]) -> Iterator[tuple[Path, re.Match[str]]]:
    root = store / folder
    if root.is_symlink():
        return
    depth = "??/*" if folder == "images" else "*"
    for path in sorted(root.glob(depth)):
        match = pattern.fullmatch(str(path.relative_to(root)))
        if match and not path.parent.is_symlink() and _is_regular(path):
            yield path, match


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        # It was removed meanwhile.
        return False
