"""Photographs for CoSy, unchanged and each used once, found by their WordNet names."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import NotDrawableError, UsageError
from line_neurons.agent.ports import ControlChunk
from line_neurons.agent.seeds import derive_rng
from line_neurons.eval.cosy.formulas import depicted_concepts
from line_neurons.eval.labels.wordnet import WordNet
from line_neurons.tools.control_sets import control_activations
from line_neurons.tools.control_sets.images import read_chunk
from line_neurons.tools.control_sets.sampling import CHUNK
from line_neurons.tools.image_bank.folder import CAPTIONS_FILE
from line_neurons.tools.images.folders import images_below
from line_neurons.tools.images.reader import PLAIN, Range
from line_neurons.tools.images.reading import TraitSummary, with_reading
from line_neurons.tools.images.skipped import Remarks
from line_neurons.tools.store.atomic_files import write_file

if TYPE_CHECKING:
    from line_neurons.agent.ports import Activations, Progress
    from line_neurons.graphs.runs.components import Components
    from line_neurons.tools.image_bank.bank import Bank, Entry

PHOTOGRAPHS = "photos"
"""Prefix of the specs of this source, before a colon and a folder."""

_COLUMNS = ("file", "caption", "also", "broader", "kind", "split")
_ID = re.compile(r"n(\d{8})(?!\d)")
# WordNet 3.0's synsets "physical entity" and "person".
_PHYSICAL, _PERSON = 1930, 7846


@dataclass(frozen=True)
class CaptionResult:
    """The captions written for the photographs of a folder.

    Args:
        synsets: number of different subjects.
        unnamed: files without an id that WordNet has.
        remarks: other files in the folder, a line for each reason.
    """

    file: Path
    photographs: int
    synsets: int
    unnamed: tuple[str, ...]
    remarks: tuple[str, ...]


def caption_photographs(folder: Path, words: WordNet) -> CaptionResult:
    """Write the table of captions of a folder whose photographs, or their folders, are named by WordNet ids.

    ImageNet's files are (``n02123045_tabby.JPEG``, ``n02123045/ILSVRC2012_val_00000123.JPEG``). The names of a
    photograph are the nouns of its synset, and its broader names those of all hypernyms: "cat" and "animal" find a
    tabby. A noun counts by its most frequent meaning: "mouse" finds no computer mouse, and "key" no space bar.
    Every photograph is held out: searches do not use it.

    Args:
        words: WordNet 3.0, whose noun offsets are the ids.

    Raises:
        UsageError: the folder has such a table or cannot be written to, or nothing in it has such an id.
    """
    table = folder / CAPTIONS_FILE
    if table.exists():
        raise UsageError(f"{table} exists already", "use it as it is, or move it away")
    rows, unnamed = [], []
    remarks = Remarks(folder)
    names: dict[int, tuple[str, str, str]] = {}
    for path in sorted(images_below(folder, remarks)):
        relative = path.relative_to(folder)
        synset = _synset(relative, words)
        if synset is None:
            unnamed.append(relative.as_posix())
            continue
        if synset not in names:
            own = _usual_names(synset, words) or words.lemmas[synset][:1]
            broader = [name for up in words.hypernyms(synset) for name in _usual_names(up, words)]
            names[synset] = own[0], ";".join(own[1:]), ";".join(broader)
        rows.append((relative.as_posix(), *names[synset], "photo", "heldout"))
    if not rows:
        raise UsageError(
            f"no photograph in {folder} is named by a WordNet id",
            "name files or folders by ids such as n02123045, or write captions.csv, see docs/image-bank.md",
        )
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows((_COLUMNS, *rows))
    write_file(table, text.getvalue().encode(), "make the folder writable")
    return CaptionResult(table, len(rows), len(names), tuple(unnamed), remarks.lines())


def _synset(path: Path, words: WordNet) -> int | None:
    """Return the innermost id in a path that is a synset of WordNet."""
    for part in reversed(path.parts):
        found = _ID.match(part)
        if found and int(found[1]) in words.lemmas:
            return int(found[1])
    return None


def _usual_names(synset: int, words: WordNet) -> list[str]:
    """Return the nouns of a synset whose most frequent meaning is not another object."""
    return [lemma for lemma in words.lemmas[synset] if _first_thing(lemma, words) in {synset, None}]


def _first_thing(lemma: str, words: WordNet) -> int | None:
    """Return the most frequent sense that can be photographed, except persons ("tiger": a fierce person)."""
    for sense in words.senses(lemma):
        above = words.hypernyms(sense)
        if _PHYSICAL in above and _PERSON not in above:
            return sense
    return None


@dataclass
class Photographs:
    """The held-out photographs of an image bank, measured unchanged; implements ``ConceptImages``.

    Nothing is composed and no photograph is used twice, so each is one independent sample of its concept; and
    similarity of words does not bring in images of something else.

    Args:
        other_names: synonyms, by ``concept_key``.
        count: at most this many of a concept, drawn at random by (seed, concept).
    """

    name: str
    bank: Bank
    other_names: Mapping[str, Sequence[str]]
    components: Components
    layer: str
    count: int
    seed: int

    @property
    def remarks(self) -> tuple[str, ...]:
        """Skipped images of the image bank."""
        return (*self.bank.remarks, *self.bank.skipped)

    @property
    def fingerprint(self) -> str:
        """Identity of the photographs and of their names."""
        names = hashlib.sha256(json.dumps(sorted(self.other_names.items())).encode()).hexdigest()
        reading = _account(self.bank.entries).identity(self.bank.value_range)
        return with_reading(f"{PHOTOGRAPHS}:{self.bank.fingerprint}:{names[:16]}", reading)

    @property
    def image_notes(self) -> tuple[str, ...]:
        """How unusual photographs are read, with their number."""
        return _account(self.bank.select("heldout")).notes(self.bank.value_range)

    @cached_property
    def _named(self) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        for entry in self.bank.select("heldout"):
            for name in {concept_key(name) for name in entry.names if entry.is_subject}:
                found.setdefault(name, []).append(entry)
        return found

    def activations(self, concept: str, place: int, progress: Progress | None = None) -> Activations:
        """See ``ConceptImages``; activations are cached by the contents of the files."""
        images = _Images(self._entries(concept), self.bank.value_range)
        found = control_activations(self.components.cache, self.components.target, [self.layer], images, progress)
        return found[self.layer].dense()

    def _entries(self, concept: str) -> Sequence[Entry]:
        """Return the photographs of a concept, by its name or a synonym from the search's image bank.

        Raises:
            NotDrawableError: there are none.
        """
        found: dict[str, Entry] = {}
        for thing in depicted_concepts(concept):
            names = [thing, *self.other_names.get(concept_key(thing), ())]
            of_thing = next((some for name in names if (some := self._named.get(concept_key(name)))), None)
            if of_thing is None:
                raise NotDrawableError(concept, [])
            found |= {entry.id: entry for entry in of_thing}
        entries = list(found.values())
        if len(entries) > self.count:
            entries = derive_rng(self.seed, concept).sample(entries, self.count)
        return sorted(entries, key=lambda entry: entry.id)


def synonyms(bank: Bank | None) -> dict[str, list[str]]:
    """Return the names that share an image in a bank, by ``concept_key`` of each."""
    found: dict[str, dict[str, None]] = {}
    for entry in bank.select("all") if bank else ():
        names = (entry.caption, *entry.also)
        for name in names:
            found.setdefault(concept_key(name), {}).update(dict.fromkeys(names))
    return {name: list(others) for name, others in found.items()}


def _account(entries: Sequence[Entry]) -> TraitSummary:
    unusual = tuple((entry.id, entry.traits) for entry in entries if entry.traits != PLAIN)
    return TraitSummary(len(entries), unusual)


class _Images:
    """Files as a control set without classes; implements the port ``ControlSet``."""

    def __init__(self, entries: Sequence[Entry], value_range: Range | None) -> None:
        self._entries = entries
        self._value_range = value_range

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256("\n".join(entry.sha256 for entry in self._entries).encode())
        reading = _account(self._entries).identity(self._value_range)
        return with_reading(f"photographs:{digest.hexdigest()[:32]}", reading)

    def classes(self) -> tuple[str, ...]:
        return ()

    def chunks(self, start: int = 0) -> Iterator[ControlChunk]:
        for first in range(start * CHUNK, len(self._entries), CHUNK):
            part = self._entries[first : first + CHUNK]
            unread = ((entry.id, entry.path.read_bytes, -1) for entry in part)
            yield read_chunk(unread, value_range=self._value_range)

    @property
    def total(self) -> int:
        return -(-len(self._entries) // CHUNK)

    @property
    def size(self) -> int:
        return len(self._entries)
