"""Control sets of picture files: a folder for each class, or one folder of pictures without classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import ControlChunk
from line_neurons.tools.control_sets.class_names import arrange, readable_names
from line_neurons.tools.control_sets.digests import FileDigests
from line_neurons.tools.control_sets.pictures import SUFFIXES, read_chunk
from line_neurons.tools.control_sets.selection import CHUNK, limits

_REMEDY = "give a folder with a folder of pictures for each class, or a folder of pictures"


class FolderControlSet:
    """Picture files; implements the port ``ControlSet``.

    Folders in the folder are classes and are called as they are named, with ``_`` read as a space and WordNet
    ids translated; pictures beside them are left out and told. A folder that has only pictures is a set without
    classes.

    Args:
        path: the folder.
        images: how many pictures of each class count, the first by file name; of a folder without classes, how
            many of all. None: 50, and 50,000.
        digests: remembers the content hashes of the files.

    Raises:
        UsageError: the folder cannot be read or has no pictures, or its classes cannot be named.
        MissingPartError: see ``readable_names``.
    """

    def __init__(self, path: Path, images: int | None = None, digests: FileDigests | None = None) -> None:
        of_class, of_none = limits(images)
        self.path = path
        self._digests = digests or FileDigests()
        try:
            folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] != ".")
            loose = _pictures(path)
            found = {folder: files for folder in folders if (files := _pictures(folder))}
        except OSError as error:
            raise UsageError(f"the control set {path} cannot be read: {error.strerror}", _REMEDY) from error
        if not found and not loose:
            raise UsageError(f"the control set {path} has no pictures", self._what_to_give_instead(folders))
        self._classes, index = arrange(readable_names([folder.name for folder in found]))
        if found:
            counted = (
                (label, file)
                for label, files in zip(index, found.values(), strict=True)
                for file in files[:of_class]
            )
            self._files = sorted(counted, key=lambda pair: pair[0])
            self._beside = loose
        else:
            self._files = [(-1, file) for file in loose[:of_none]]
            self._beside = []

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the classes, relative paths and contents of the pictures, wherever the folder stands."""
        digest = hashlib.sha256(f"chunks of {CHUNK}\n".encode())
        files = [file for _, file in self._files]
        for (label, file), content in zip(self._files, self._digests.of(files), strict=True):
            name = self._classes[label] if label >= 0 else ""
            digest.update(f"{name}\0{self._name(file)}\0{content}\n".encode("utf-8", "surrogateescape"))
        return f"folder:{digest.hexdigest()[:32]}"

    def classes(self) -> tuple[str, ...]:
        """The class names, sorted; empty for a folder without classes."""
        return self._classes

    def chunks(self, start: int = 0) -> Iterator[ControlChunk]:
        """The pictures, class by class, 64 at a time; what cannot be decoded is left out and told."""
        for first in range(start * CHUNK, len(self._files), CHUNK):
            part = self._files[first : first + CHUNK]
            beside = self._told_beside() if first == 0 else []
            yield read_chunk(((self._name(file), file.read_bytes, label) for label, file in part), beside)

    @property
    def total(self) -> int:
        """The number of chunks."""
        return -(-len(self._files) // CHUNK)

    def _name(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()

    def _told_beside(self) -> list[str]:
        if not self._beside:
            return []
        more = f" and {len(self._beside) - 1} more" if len(self._beside) > 1 else ""
        return [f"{self._name(self._beside[0])}{more}: in no class folder"]

    def _what_to_give_instead(self, folders: list[Path]) -> str:
        for folder in folders:
            if any(_pictures(inner) for inner in folder.iterdir() if inner.is_dir()):
                return f"its class folders are one level down: give {folder}"
        if any(file.suffix in {".parquet", ".arrow", ".tar"} for file in self.path.rglob("*")):
            return f"for the files of a Hugging Face dataset give hf:{self.path}"
        return _REMEDY


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in SUFFIXES and file.name[0] != "." and file.is_file()
    )
