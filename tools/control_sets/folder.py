"""Control sets of image files: class folders, or one folder without classes."""

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
from line_neurons.tools.control_sets.class_names import index_classes, readable_names
from line_neurons.tools.control_sets.images import read_chunk
from line_neurons.tools.control_sets.names_file import is_number, read_class_names
from line_neurons.tools.control_sets.sampling import CHUNK, limits
from line_neurons.tools.images.folders import images_below
from line_neurons.tools.images.reader import Range
from line_neurons.tools.images.reading import TraitSummary, with_reading
from line_neurons.tools.images.skipped import Remarks

_NAMELESS = "a folder with a name that is no word, so its images have no class; --class-names FILE names classes"


class FolderControlSet:
    """Image files; implements the port ``ControlSet``.

    Sub-folders are classes (see ``class_folders``), named after the folder, with ``_`` read as a space and WordNet
    ids translated, or by a file of names. A number is no name: images of such a folder have no class. A folder
    that has only images is a set without classes.

    Args:
        images: how many images of each class count, the first in the order of ``images_below``; of a folder
            without classes, how many of all. None: 50, and 50,000.
        class_names: a file of names; see ``read_class_names``.
        flat: take all images below the folder as a set without classes.
        value_range: see ``read_image``.

    Attributes:
    remarks: what was skipped or read in a special way, a line for each reason.

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
        self._classes, index = index_classes(names)
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
        """A hash of the classes, relative paths and contents of the images.

        How they are read is included where decoders differ.

        Raises:
            UsageError: the range of their values is not known.
        """
        self.trait_summary.check(str(self.path), self._value_range)
        return with_reading(self._content, self.trait_summary.identity(self._value_range))

    @property
    def image_notes(self) -> tuple[str, ...]:
        """How unusual images are read, with their number."""
        return self.trait_summary.notes(self._value_range)

    @cached_property
    def trait_summary(self) -> TraitSummary:
        """How the images differ from ordinary ones."""
        known = self._digests.trait_summary(self._content)
        if known is None:
            known = TraitSummary.of((self._name(file), file.read_bytes) for _, file in self._files)
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
        """Yield the images by class, 64 at a time; skipped ones are reported."""
        for first in range(start * CHUNK, len(self._files), CHUNK):
            part = self._files[first : first + CHUNK]
            dataset_errors = self.remarks if first == 0 else ()
            unread = ((self._name(file), file.read_bytes, label) for label, file in part)
            yield read_chunk(unread, dataset_errors, value_range=self._value_range)

    @property
    def total(self) -> int:
        """The number of chunks."""
        return -(-len(self._files) // CHUNK)

    @property
    def size(self) -> int:
        """The number of images."""
        return len(self._files)

    def _name(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()

    def _named(self, folders: list[str], class_names: Path | None, remarks: Remarks) -> list[str]:
        """Return the names of the classes; empty where a folder's name is no word."""
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
            remarks.add(" and ".join(alike), "classes with names that differ only in upper and lower case")
        return names


def _groups(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return values that share a key, where there are several; none for an empty key."""
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return [values for key, values in found.items() if key and len(values) > 1]
