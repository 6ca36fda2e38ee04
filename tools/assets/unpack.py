"""Unpack the files of a pack from its archives into an empty folder."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from line_neurons.agent.errors import LineError
from line_neurons.tools.assets import qt_resources
from line_neurons.tools.assets.archives import Member, members, readable, zip_members
from line_neurons.tools.assets.manifest import FileEntry
from line_neurons.tools.assets.packs import FileRule

_CHUNK = 1 << 20


def unpack(
    archives: Sequence[Path], rules: Sequence[FileRule], tree: Path, written: Callable[[int], None]
) -> list[FileEntry]:
    """Write and flush the wanted members of archives below ``tree``; list the files.

    Args:
        archives: package archives; joined files take their parts in this order.
        rules: the first rule that fits a member's path decides; members without one are skipped.
        tree: an empty folder.
        written: called with the bytes written so far.

    Raises:
        LineError: a wanted member has an unsafe path, is a link, or two make the same file.
    """
    writer = _Writer(tree, written)
    try:
        for archive in archives:
            with readable(archive):
                for member in members(archive):
                    _take(member, rules, archive.name, writer)
    finally:
        writer.close()
    return writer.entries()


def _take(member: Member, rules: Sequence[FileRule], archive: str, writer: _Writer) -> None:
    found = _match(member.path, rules)
    if found is None or member.kind == "folder":
        return
    if member.kind != "file":
        raise LineError(f"{archive}: {member.path} is a link or a device, not a file")
    rule, target = found
    with member.open() as stream:
        if not rule.inside:
            writer.write(target, stream, archive, join=rule.join)
            return
        for path, contents in _read_inside(stream.read(), member.path):
            if inner := _match(path, rule.inside):
                writer.write(inner[1], BytesIO(contents), member.path, join=False)


def _read_inside(blob: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield path and contents of the files in a Qt resource file, or else in a zip file."""
    if name.endswith(".rcc"):
        yield from qt_resources.read(blob, name)
        return
    for inner in zip_members(BytesIO(blob)):
        if inner.kind == "file":
            with inner.open() as stream:
                yield inner.path, stream.read()


def _match(path: str, rules: Sequence[FileRule]) -> tuple[FileRule, str] | None:
    for rule in rules:
        if found := re.fullmatch(rule.member, path):
            return rule, found.expand(rule.target)
    return None


class _Writer:
    """Writes files below a folder with their hashes; joined files stay open."""

    def __init__(self, tree: Path, written: Callable[[int], None]) -> None:
        self._tree = tree
        self._written = written
        self._total = 0
        self._entries: dict[str, FileEntry] = {}
        self._joined: dict[str, tuple[BinaryIO, hashlib._Hash]] = {}

    def write(self, target: str, source: BinaryIO, origin: str, *, join: bool) -> None:
        """Copy ``source`` to the file ``target``, or to its end if it is joined from parts."""
        if target in self._joined and join:
            stream, digest = self._joined[target]
            self._copy(source, stream, digest)
            return
        if target in self._entries or target in self._joined:
            raise LineError(f"{origin}: two members make the same file {target}")
        path = self._safe(target, origin)
        path.parent.mkdir(parents=True, exist_ok=True)
        stream, digest = path.open("xb"), hashlib.sha256()
        self._joined[target] = stream, digest
        self._copy(source, stream, digest)
        if not join:
            self._finish(target)

    def close(self) -> None:
        """Flush and close the joined files."""
        for target in list(self._joined):
            self._finish(target)

    def entries(self) -> list[FileEntry]:
        """Return all files, sorted by path."""
        return sorted(self._entries.values(), key=lambda entry: entry.path)

    def _copy(self, source: BinaryIO, stream: BinaryIO, digest: hashlib._Hash) -> None:
        while chunk := source.read(_CHUNK):
            stream.write(chunk)
            digest.update(chunk)
            self._total += len(chunk)
            self._written(self._total)

    def _finish(self, target: str) -> None:
        stream, digest = self._joined.pop(target)
        with stream:
            stream.flush()
            os.fsync(stream.fileno())
            self._entries[target] = FileEntry(target, stream.tell(), digest.hexdigest())

    def _safe(self, target: str, origin: str) -> Path:
        parts = PurePosixPath(target).parts
        unsafe = not parts or target.startswith("/") or ".." in target.split("/")
        if unsafe or "\\" in target or "\0" in target or ":" in parts[0]:
            raise LineError(f"{origin} has a member that would be written outside its folder: {target!r}")
        return self._tree.joinpath(*parts)
