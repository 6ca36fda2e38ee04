"""How the images of a set are read: what of it identifies the set, what the user is told, what is refused."""

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
    range_of,
    shown_range,
    traits_of,
)

Named = tuple[str, Callable[[], bytes]]
"""What an image of a set is called, and what reads its file."""

_HALF = 32_768


@dataclass(frozen=True)
class ImageAccount:
    """What the images of a set, or of a part of it, hold beside ordinary pixels; it follows from their content.

    Args:
        total: number of images that say what they are.
        unusual: those that are not ordinary, with their names.
    """

    total: int = 0
    unusual: tuple[tuple[str, Traits], ...] = ()

    @classmethod
    def of(cls, images: Iterable[Named]) -> ImageAccount:
        """The account of images; those that cannot be read are passed over, as whoever decodes them tells."""
        total = 0
        unusual: list[tuple[str, Traits]] = []
        for name, read in images:
            try:
                traits = traits_of(read())
            except (OSError, ValueError):
                continue
            total += 1
            if traits != PLAIN:
                unusual.append((name, traits))
        return cls(total, tuple(unusual))

    @classmethod
    def from_json(cls, text: str) -> ImageAccount:
        """The account that ``to_json`` wrote."""
        total, unusual = json.loads(text)
        return cls(int(total), tuple((str(name), Traits(**traits)) for name, traits in unusual))

    def to_json(self) -> str:
        """As text that can be kept."""
        return json.dumps([self.total, [(name, asdict(traits)) for name, traits in self.unusual]])

    def __add__(self, other: ImageAccount) -> ImageAccount:
        """The account of the images of both."""
        return ImageAccount(self.total + other.total, self.unusual + other.unusual)

    @property
    def deep(self) -> tuple[tuple[str, Traits], ...]:
        """The images with more than 8 bits."""
        return tuple((name, traits) for name, traits in self.unusual if traits.deep)

    def identity(self, value_range: Range | None) -> str:
        """What identifies how the images are read; empty where any decoder reads all of them alike.

        Args:
            value_range: the range that the user states.
        """
        if all(traits.plain for _, traits in self.unusual):
            return ""
        return f"read {READER} {list(value_range) if value_range and self.deep else 'full range'}"

    def notes(self, value_range: Range | None) -> tuple[str, ...]:
        """How images that are not ordinary were read, a line for each kind with their number.

        Args:
            value_range: the range that the user states.
        """
        counted = Counter(note for _, traits in self.unusual for note in _notes(traits, value_range))
        return tuple(f"{count} of {self.total} images: {note}" for note, count in sorted(counted.items()))

    def check(self, name: str, value_range: Range | None) -> None:
        """See that the brightness of every image is known.

        Args:
            name: what the set is called.
            value_range: the range that the user states.

        Raises:
            UsageError: the values of an image have no known range, or no 16-bit image of the set comes near the
                end of its range, as where 12 bits are kept in 16.
        """
        for image, traits in self.deep:
            with ranges_told(f"{image} of {name}"):
                range_of(traits, value_range)
        whole = [one.high for _, one in self.deep if one.values.startswith("16-bit") and one.bits == 16]
        if value_range is None and whole and max(whole) < _HALF:
            bits = max(8, int(max(whole)).bit_length())
            raise UsageError(
                f"no value of the 16-bit images of {name} ({len(whole)}) is above {max(whole):.0f} of 65535:"
                f" they may hold {bits} bits, or be dark",
                f"state the range of their values: --image-range 0,{2**bits - 1}, or 0,65535 for the full one",
            )


def with_reading(fingerprint: str, identity: str) -> str:
    """The fingerprint of files with how they are read; as it is where any decoder reads them alike.

    Args:
        fingerprint: a name, a colon and a hash.
        identity: see ``ImageAccount.identity``.
    """
    if not identity:
        return fingerprint
    digest = hashlib.sha256(f"{fingerprint}\n{identity}".encode()).hexdigest()
    return f"{fingerprint.partition(':')[0]}:{digest[:32]}"


@contextmanager
def ranges_told(what: str) -> Iterator[None]:
    """Refuse an image whose brightness is not known as an error for the user.

    Raises:
        UsageError: the range of its values is not known.
    """
    try:
        yield
    except UnknownRangeError as error:
        raise UsageError(f"{what} cannot be read: {error}", error.remedy) from error


def _notes(traits: Traits, value_range: Range | None) -> Iterator[str]:
    if traits.deep:
        yield f"{traits.values}, values read by the range {shown_range(range_of(traits, value_range))}"
    if traits.turned:
        yield "turned as their EXIF data say"
    if traits.transparent:
        yield f"transparent, laid on {GROUND}"
    if traits.frames:
        yield "of several frames or pages, of which the first is read"
