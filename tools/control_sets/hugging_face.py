"""Control sets from Hugging Face datasets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import ControlChunk
from line_neurons.tools.cache.file_hashes import FileHashes
from line_neurons.tools.control_sets.class_names import drop_unused_classes, index_classes, readable_names
from line_neurons.tools.control_sets.hugging_face_columns import find_columns, read_image
from line_neurons.tools.control_sets.hugging_face_source import DatasetSplit, dataset_errors
from line_neurons.tools.control_sets.images import read_chunk
from line_neurons.tools.control_sets.sampling import CHUNK, first_of_each, limits
from line_neurons.tools.images.reader import READER, Range
from line_neurons.tools.images.reading import TraitSummary, with_reading


class DatasetControlSet:
    """Images of one split of a Hugging Face dataset; implements the port ``ControlSet``.

    Encoded images are passed on unchanged where any decoder reads them alike; arrays become PNG files. The labels
    are read first, so that only the images that count are decoded.

    Args:
        images: how many images of each class count, the first rows; of a set without classes, how many of all.
            None: 50, and 50,000.
        value_range: see ``read_image``.

    Raises:
        UsageError: the dataset has no column of images.
    """

    def __init__(
        self,
        source: DatasetSplit,
        images: int | None = None,
        digests: FileHashes | None = None,
        value_range: Range | None = None,
    ) -> None:
        self._limits = limits(images)
        self._images_a_class = images
        self._digests = digests or FileHashes()
        self._value_range = value_range
        self._source = source
        self._columns = find_columns(source.features, source.name)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the files or the hub's revision, the columns, and how many images count.

        How they are read is included where decoders differ; for a stream, whose images are unknown, always.

        Raises:
            UsageError: the range of their values is not known.
        """
        if self._source.remote:
            return with_reading(self._content, f"read {READER} {self._value_range or 'full range'}")
        self._account.check(f"the dataset {self._source.name}", self._value_range)
        return with_reading(self._content, self._account.identity(self._value_range))

    @property
    def image_notes(self) -> tuple[str, ...]:
        """How unusual images are read, with their number; of a stream, those downloaded so far."""
        return self._account.notes(self._value_range)

    @property
    def _account(self) -> TraitSummary:
        if self._source.remote:
            number, found = 0, TraitSummary()
            while (part := self._digests.trait_summary(self._part(number))) is not None:
                number, found = number + 1, found + part
            return found
        return self._account_here

    @cached_property
    def _account_here(self) -> TraitSummary:
        known = self._digests.trait_summary(self._content)
        if known is None:
            rows = self._chosen[1]
            roots = self._source.roots
            known = TraitSummary.of(
                (f"row {row}", partial(read_image, value, roots))
                for row, value in zip(rows, self._images(rows), strict=False)
            )
            self._digests.remember(self._content, known)
        return known

    def _look_at(self, part: str, trait_summary: TraitSummary) -> None:
        """Check and cache the traits of downloaded images."""
        trait_summary.check(f"the dataset {self._source.name}", self._value_range)
        self._digests.remember(part, trait_summary)

    def _part(self, number: int) -> str:
        return f"{self._content} chunk {number}"

    @cached_property
    def _content(self) -> str:
        columns = self._columns
        identity = [CHUNK, self._source.identity(), columns.image, columns.label, columns.names, self._limits]
        return f"dataset:{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]}"

    def classes(self) -> tuple[str, ...]:
        """The names of the classes that have images, sorted; empty if no class has a name.

        Raises:
            UsageError: a label counts a class that is not there, or the dataset cannot be read.
            MissingPartError: see ``readable_names``.
            BackendError: the labels could not be downloaded.
        """
        return self._chosen[0]

    def chunks(self, start: int = 0) -> Iterator[ControlChunk]:
        """Yield the images, in the order of the rows, 64 at a time; undecodable ones are reported.

        Raises:
            UsageError: the dataset cannot be read, or the range of the values of a stream's images is not known.
            BackendError: the images could not be downloaded.
        """
        _, rows, labels = self._chosen
        values = self._images(rows[start * CHUNK :])
        for first in range(start * CHUNK, len(rows), CHUNK):
            counted = zip(rows[first : first + CHUNK], labels[first : first + CHUNK], strict=True)
            part = self._part(first // CHUNK)
            chunk = read_chunk(
                (
                    (f"row {row}", partial(read_image, value, self._source.roots), label)
                    # In this order no image is taken beyond the chunk's rows.
                    for (row, label), value in zip(counted, values, strict=False)
                ),
                value_range=self._value_range,
                on_summary=partial(self._look_at, part) if self._source.remote else None,
            )
            if not chunk.images and not chunk.skipped:
                return
            yield chunk
            del chunk

    @property
    def total(self) -> int | None:
        """The number of chunks; None for a stream of unknown length without classes."""
        return None if self.size is None else -(-self.size // CHUNK)

    @property
    def size(self) -> int | None:
        """The number of images; None for a stream of unknown length without classes."""
        if self._columns.label is None and self._source.count is None:
            return None
        return len(self._chosen[1])

    @cached_property
    def _chosen(self) -> tuple[tuple[str, ...], Sequence[int], Sequence[int]]:
        """The classes, and the rows that count with their labels."""
        import numpy as np

        if self._columns.label is None:
            count = self._source.count
            rows = range(self._limits[1] if count is None else min(self._limits[1], count))
            return (), rows, [-1] * len(rows)
        raw, labels = self._labels(self._columns.label)
        names, index = index_classes(readable_names(raw))
        # The label -1 takes the last one.
        index.append(-1)
        counted, found = first_of_each((index[label] for label in labels), self._images_a_class, len(names))
        classes, kept = drop_unused_classes(names, np.array(found, np.int64))
        return classes, counted, kept.tolist()

    def _labels(self, column: str) -> tuple[Sequence[str], Iterable[int]]:
        """Return the dataset's class names, and each row's index among them; -1 for none."""
        values = self._column(column)
        names = self._columns.names
        if names is not None:
            return names, (self._checked(value, len(names)) for value in values)
        texts = [value or "" for value in values]
        distinct = sorted(set(texts))
        number = {text: index for index, text in enumerate(distinct)}
        return distinct, [number[text] for text in texts]

    def _checked(self, label: int | None, classes: int) -> int:
        if label is None:
            return -1
        if not -1 <= label < classes:
            raise UsageError(
                f"the dataset {self._source.name} has the label {label}, but {classes} classes",
                "repair the dataset, or give another split",
            )
        return label

    def _column(self, name: str) -> Iterator[Any]:
        with dataset_errors(self._source.name):
            for row in self._source.column(name):
                yield row[name]

    def _images(self, rows: Sequence[int]) -> Iterator[Any]:
        """Yield the values of the image column in the rows, which ascend."""
        from datasets import Dataset

        name = self._columns.image
        with dataset_errors(self._source.name):
            if not rows:
                return
            images = self._source.column(name)
            if isinstance(images, Dataset):
                yield from (row[name] for row in images.select(rows))
                return
            wanted = iter(rows)
            row = next(wanted)
            for number, found in enumerate(images.skip(row), start=row):
                if number == row:
                    yield found[name]
                    row = next(wanted, -1)
                    if row < 0:
                        return
