"""How the images of a set are read: fingerprint, notes for the user, refusals."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from line_neurons.agent.errors import UsageError
from line_neurons.tools.images.reader import (
    GROUND,
    PLAIN,
    READER,
    Range,
    Traits,
    UnknownRangeError,
    format_range,
    range_of,
    traits_of,
)
from line_neurons.tools.parallel import parallel_map

Named = tuple[str, Callable[[], bytes]]
"""What an image of a set is called, and what reads its file."""

_HALF = 32_768


@dataclass(frozen=True)
class TraitSummary:
    """How the images of a set, or a part of it, differ from ordinary ones.

    Args:
        total: number of images whose traits are known.
        unusual: those that are not ordinary, with their names.
    """

    total: int = 0
    unusual: tuple[tuple[str, Traits], ...] = ()

    @classmethod
    def of(cls, images: Iterable[Named]) -> TraitSummary:
        """Summarise images; unreadable ones are skipped, as their decoder reports them."""
        total = 0
        unusual: list[tuple[str, Traits]] = []
        for name, traits in parallel_map(_traits, images):
            if traits is None:
                continue
            total += 1
            if traits != PLAIN:
                unusual.append((name, traits))
        return cls(total, tuple(unusual))

    @classmethod
    def from_json(cls, text: str) -> TraitSummary:
        """Parse what ``to_json`` wrote."""
        total, unusual = json.loads(text)
        return cls(int(total), tuple((str(name), Traits(**traits)) for name, traits in unusual))

    def to_json(self) -> str:
        """Serialize to text."""
        return json.dumps([self.total, [(name, asdict(traits)) for name, traits in self.unusual]])

    def __add__(self, other: TraitSummary) -> TraitSummary:
        """Combine the summaries of two parts of a set."""
        return TraitSummary(self.total + other.total, self.unusual + other.unusual)

    @property
    def deep(self) -> tuple[tuple[str, Traits], ...]:
        """The images with more than 8 bits."""
        return tuple((name, traits) for name, traits in self.unusual if traits.deep)

    def identity(self, value_range: Range | None) -> str:
        """Identify how images are read; empty where any decoder reads all alike."""
        if all(traits.plain for _, traits in self.unusual):
            return ""
        return f"read {READER} {list(value_range) if value_range and self.deep else 'full range'}"

    def notes(self, value_range: Range | None) -> tuple[str, ...]:
        """Say how unusual images were read, a line for each kind with their number."""
        counted = Counter(note for _, traits in self.unusual for note in _notes(traits, value_range))
        return tuple(f"{count} of {self.total} images: {note}" for note, count in sorted(counted.items()))

    def check(self, name: str, value_range: Range | None) -> None:
        """Check that the brightness of every image of the set called ``name`` is known.

        Raises:
            UsageError: the values of an image have no known range, or no 16-bit image of the set comes near the
                end of its range, as where 12 bits are stored in 16.
        """
        for image, traits in self.deep:
            with range_errors(f"{image} of {name}"):
                range_of(traits, value_range)
        whole = [one.high for _, one in self.deep if one.values.startswith("16-bit") and one.bits == 16]
        if value_range is None and whole and max(whole) < _HALF:
            bits = max(8, int(max(whole)).bit_length())
            raise UsageError(
                f"no value of the 16-bit images of {name} ({len(whole)}) is above {max(whole):.0f} of 65535:"
                f" they may hold {bits} bits, or be dark",
                f"state the range of their values: --image-range 0,{2**bits - 1}, or 0,65535 for the full one",
            )


def _traits(image: Named) -> tuple[str, Traits | None]:
    name, read = image
    try:
        return name, traits_of(read())
    except (OSError, ValueError):
        return name, None


def with_reading(fingerprint: str, identity: str) -> str:
    """Add how files are read (``TraitSummary.identity``) to their fingerprint.

    It stays as it is where any decoder reads them alike.
    """
    if not identity:
        return fingerprint
    digest = hashlib.sha256(f"{fingerprint}\n{identity}".encode()).hexdigest()
    return f"{fingerprint.partition(':')[0]}:{digest[:32]}"


@contextmanager
def range_errors(what: str) -> Iterator[None]:
    """Turn an unknown range of an image's values into an error for the user.

    Raises:
        UsageError: the range of its values is not known.
    """
    try:
        yield
    except UnknownRangeError as error:
        raise UsageError(f"{what} cannot be read: {error}", error.remedy) from error


def _notes(traits: Traits, value_range: Range | None) -> Iterator[str]:
    if traits.deep:
        yield f"{traits.values}, values read by the range {format_range(range_of(traits, value_range))}"
    if traits.turned:
        yield "turned as their EXIF data say"
    if traits.transparent:
        yield f"transparent, laid on {GROUND}"
    if traits.frames:
        yield "of several frames or pages, of which the first is read"
