"""The manifest of an installed pack: every file with size and SHA-256, and its origin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

NAME = "manifest.json"
_FORMAT = 1
_CHUNK = 1 << 20


@dataclass(frozen=True)
class FileEntry:
    """One file of a pack: path below the pack's folder, size in bytes, SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What was installed as one pack.

    Args:
        tree_sha256: the pack's version: digest of its pinned paths and contents.
        sources: one mapping for each archive: source, package, version, filename, sha256.
        files: every installed file, sorted by path.
    """

    pack: str
    tree_sha256: str
    sources: tuple[dict[str, Any], ...]
    files: tuple[FileEntry, ...]


def tree_digest(files: Iterable[FileEntry]) -> str:
    """Compute the SHA-256 over the sorted paths and contents of a tree."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda entry: entry.path):
        digest.update(f"{file.sha256} {file.path}\n".encode())
    return digest.hexdigest()


def content_digest(files: Iterable[FileEntry]) -> str:
    """Compute the digest of a tree without the licences of its packages, which differ between versions."""
    return tree_digest(file for file in files if not file.path.startswith("licences/"))


def hash_file(path: Path) -> str:
    """Compute the SHA-256 of a file, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def dump(manifest: Manifest) -> bytes:
    """Serialize the manifest to JSON."""
    return (json.dumps({"format": _FORMAT, **asdict(manifest)}, indent=1) + "\n").encode()


def read(folder: Path) -> Manifest:
    """Read the manifest of an installed pack.

    Raises:
        OSError: there is none.
        ValueError: it is not a manifest.
    """
    try:
        data = json.loads((folder / NAME).read_bytes())
        if data["format"] != _FORMAT:
            raise ValueError(f"{folder / NAME}: format {data['format']} is not {_FORMAT}")
        files = tuple(FileEntry(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in data["files"])
        return Manifest(str(data["pack"]), str(data["tree_sha256"]), tuple(data["sources"]), files)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / NAME} is not a manifest: {error!r}") from error
