"""A bank of captioned images: its entries, its identity, and the vocabulary drawn from its captions."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

from line_neurons.tools.images.reader import PLAIN, Range, Traits
from line_neurons.tools.images.reading import ImageAccount

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Kind = Literal["cutout", "photo", "background"]
Split = Literal["search", "heldout", "shared"]
Selection = Literal["search", "heldout", "all"]

KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS: tuple[Split, ...] = get_args(Split)

_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One image of a bank.

    Args:
        id: path relative to the bank, with forward slashes; unique in the bank.
        path: where the file lies.
        caption: what is in the image, a short noun phrase in lower case.
        also: synonyms of the caption.
        broader: names of wider groups the thing belongs to ("bird" for a crow).
        kind: a cut-out with transparency, a whole photograph, or a background without a subject.
        scenes: the places and conditions a background shows; for a cut-out, places it is at home in.
        split: ``search`` and ``heldout`` images are never used together; ``shared`` ones serve both.
        sha256: hash of the file, in hex.
        traits: what the file holds beside ordinary pixels.
    """

    id: str
    path: Path
    caption: str
    also: tuple[str, ...]
    broader: tuple[str, ...]
    kind: Kind
    scenes: tuple[str, ...]
    split: Split
    sha256: str
    traits: Traits = PLAIN

    @property
    def names(self) -> tuple[str, ...]:
        """Every phrase the image may be drawn for: caption, synonyms, broader names."""
        return (self.caption, *self.also, *self.broader)

    @property
    def is_subject(self) -> bool:
        """Whether the image shows a thing rather than a background."""
        return self.kind != "background"


class Bank:
    """The readable images of one source, in the order of their ids.

    Args:
        name: what the bank is called in messages and provenance.
        entries: its images.
        skipped: images that could not be read, as ``name: reason``.
        remarks: what else was left out or read in a way of its own, a line for each reason.
        value_range: see ``image_reader.read_image``.

    Raises:
        UsageError: the range of the values of its images is not known.
    """

    def __init__(
        self,
        name: str,
        entries: Iterable[Entry],
        skipped: Sequence[str] = (),
        remarks: Sequence[str] = (),
        value_range: Range | None = None,
    ) -> None:
        self.name = name
        self.value_range = value_range
        self.entries: tuple[Entry, ...] = tuple(sorted(entries, key=lambda entry: entry.id))
        self.skipped: tuple[str, ...] = tuple(skipped)
        self.remarks: tuple[str, ...] = tuple(remarks)
        self.account.check(f"the image bank {name}", value_range)

    @cached_property
    def account(self) -> ImageAccount:
        """What its images hold beside ordinary pixels, the transparency of cut-outs left aside."""
        shown = (
            (entry.id, replace(entry.traits, transparent=entry.traits.transparent and entry.kind != "cutout"))
            for entry in self.entries
        )
        return ImageAccount(len(self.entries), tuple(one for one in shown if one[1] != PLAIN))

    @property
    def image_notes(self) -> tuple[str, ...]:
        """How images that are not ordinary are read, with their number."""
        return self.account.notes(self.value_range)

    @cached_property
    def fingerprint(self) -> str:
        """Hash over every image's content and description; file dates and places do not enter.

        How they are read is in it where some have more than 8 bits; a bank has always turned the others and laid
        them on white.
        """
        described = [
            [e.id, e.sha256, e.caption, e.also, e.broader, e.kind, e.scenes, e.split] for e in self.entries
        ]
        deep = ImageAccount(len(self.entries), self.account.deep).identity(self.value_range)
        identity = [_FORMAT, described, *([deep] if deep else [])]
        text = json.dumps(identity, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def select(self, selection: Selection) -> tuple[Entry, ...]:
        """The entries that a generator of one split may use."""
        if selection == "all":
            return self.entries
        return tuple(entry for entry in self.entries if entry.split in (selection, "shared"))

    def captions(self, selection: Selection = "search") -> tuple[str, ...]:
        """The distinct captions of things, sorted."""
        return tuple(sorted({entry.caption for entry in self.select(selection) if entry.is_subject}))

    def vocabulary(self, seed: int, share: float = 1 / 3) -> tuple[str, ...]:
        """A seeded share of the search captions, sorted: the names a search starts from.

        Args:
            seed: any integer; the same seed and captions give the same names.
            share: part of the captions in (0, 1]; at least one caption is given.
        """
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], not {share}")
        captions = self.captions("search")
        count = min(len(captions), max(1, math.ceil(share * len(captions))))
        # The digest, not the order in the list, decides, so that one added image moves one name.
        ranked = sorted(captions, key=lambda name: _digest(str(seed), name))
        return tuple(sorted(ranked[:count]))


def hold_out(groups: Sequence[tuple[str, str]], share: float = 1 / 3) -> list[Split]:
    """Assign images to splits by their content.

    Of every caption with two or more different images about ``share``, and at least one, is held out;
    captions with a single image stay in the search.

    Args:
        groups: (caption, sha256) of each image.
        share: part to hold out.

    Returns:
        The split of each image, in order.
    """
    hashes: dict[str, set[str]] = defaultdict(set)
    for caption, sha256 in groups:
        hashes[caption].add(sha256)
    held: set[str] = set()
    for caption in sorted(hashes):
        ordered = sorted(hashes[caption], key=lambda sha256: _digest(caption, sha256))
        if len(ordered) > 1:
            count = min(len(ordered) - 1, max(1, round(share * len(ordered))))
            held.update(ordered[:count])
    return ["heldout" if sha256 in held else "search" for _, sha256 in groups]


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()
