"""Control sets of image files: a folder for each class, or one folder of images without classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import ControlChunk
from line_neurons.agent.text import storable_text
from line_neurons.tools.cache.file_hashes import FileHashes
from line_neurons.tools.control_sets.class_folders import ClassFolders, class_folders
from line_neurons.tools.control_sets.class_names import arrange, readable_names
from line_neurons.tools.control_sets.images import read_chunk
from line_neurons.tools.control_sets.names_file import is_number, read_class_names
from line_neurons.tools.control_sets.sampling import CHUNK, limits
from line_neurons.tools.images.folders import images_below
from line_neurons.tools.images.reader import Range
from line_neurons.tools.images.reading import ImageAccount, with_reading
from line_neurons.tools.images.skipped import Remarks

_NAMELESS = "a folder whose name is no word, so its images have no class; --class-names FILE names classes"


class FolderControlSet:
    """Image files; implements the port ``ControlSet``.

    Folders in the folder are classes (see ``class_folders``) and are called as they are named, with ``_`` read as
    a space and WordNet ids translated, or as a file of names says. A number is no name: images of such a folder
    have no class. A folder that has only images is a set without classes.

    Args:
        path: the folder.
        images: how many images of each class count, the first in the order of ``images_below``; of a folder
            without classes, how many of all. None: 50, and 50,000.
        digests: remembers the content hashes of the files.
        class_names: a file of names; see ``read_class_names``.
        flat: take all images below the folder as a set without classes.
        value_range: see ``image_reader.read_image``.

    Attributes:
        remarks: what was left out or read in a way of its own, a line for each reason.

    Raises:
        UsageError: the folder cannot be read or has no images, or its classes cannot be named.
        MissingPartError: see ``readable_names``.
    """

    def __init__(
        self,
        path: Path,
        images: int | None = None,
        digests: FileHashes | None = None,
        class_names: Path | None = None,
        *,
        flat: bool = False,
        value_range: Range | None = None,
    ) -> None:
        of_class, of_none = limits(images)
        self.path = path
        self._digests = digests or FileHashes()
        self._value_range = value_range
        remarks = Remarks(path)
        found: ClassFolders
        try:
            found, loose = ({}, tuple(images_below(path, remarks))) if flat else class_folders(path, remarks)
        except OSError as error:
            raise UsageError(
                f"the control set {path} cannot be read: {error.strerror}", "check the path and its permissions"
            ) from error
        if not found and not loose:
            raise UsageError(f"the folder {path} has no images", "give a folder with images in it")
        names = self._named(list(found), class_names, remarks)
        self._classes, index = arrange(names)
        if found:
            counted = (
                (label, file)
                for label, files in zip(index, found.values(), strict=True)
                for file in files[:of_class]
            )
            self._files = sorted(counted, key=lambda pair: pair[0])
        else:
            self._files = [(-1, file) for file in loose[:of_none]]
        self.remarks = remarks.lines()

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the classes, relative paths and contents of the images, wherever the folder stands.

        How they are read is in it where any of them is not read alike by every decoder.

        Raises:
            UsageError: the range of their values is not known.
        """
        self.account.check(str(self.path), self._value_range)
        return with_reading(self._content, self.account.identity(self._value_range))

    @property
    def image_notes(self) -> tuple[str, ...]:
        """How images that are not ordinary are read, with their number."""
        return self.account.notes(self._value_range)

    @cached_property
    def account(self) -> ImageAccount:
        """What the images hold beside ordinary pixels."""
        known = self._digests.account(self._content)
        if known is None:
            known = ImageAccount.of((self._name(file), file.read_bytes) for _, file in self._files)
            self._digests.remember(self._content, known)
        return known

    @cached_property
    def _content(self) -> str:
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
        """The images, class by class, 64 at a time; what is left out or cannot be decoded is told."""
        for first in range(start * CHUNK, len(self._files), CHUNK):
            part = self._files[first : first + CHUNK]
            told = self.remarks if first == 0 else ()
            unread = ((self._name(file), file.read_bytes, label) for label, file in part)
            yield read_chunk(unread, told, value_range=self._value_range)

    @property
    def total(self) -> int:
        """The number of chunks."""
        return -(-len(self._files) // CHUNK)

    def _name(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()

    def _named(self, folders: list[str], class_names: Path | None, remarks: Remarks) -> list[str]:
        """The names of the classes; empty where a folder's name is no word."""
        if class_names:
            if not folders:
                raise UsageError(
                    f"the control set {self.path} has no class folders that {class_names} could name",
                    "leave the class names away",
                )
            given = read_class_names(class_names, folders)
            return readable_names([given[folder] for folder in folders])
        for folder in folders:
            try:
                folder.encode()
            except UnicodeEncodeError:
                raise UsageError(
                    f"the name of the folder '{storable_text(folder):.200}' in {self.path} is not UTF-8",
                    "rename it, or name all classes in a file with --class-names",
                ) from None
        names = readable_names(["" if is_number(folder) else folder for folder in folders])
        for folder, name in zip(folders, names, strict=True):
            if not name:
                remarks.add(folder, _NAMELESS)
        for alike in _groups(zip(names, folders, strict=True)):
            remarks.add(" and ".join(alike), "names that read the same, taken as one class")
        for alike in _groups((name.casefold(), name) for name in dict.fromkeys(names)):
            remarks.add(" and ".join(alike), "classes whose names differ in upper and lower case alone")
        return names


def _groups(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """What stands after the same key, where that is more than one; none after an empty key."""
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return [values for key, values in found.items() if key and len(values) > 1]
