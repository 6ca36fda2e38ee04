"""WordNet's nouns: is a label the class itself, a synonym, a hypernym or something else?

Reads the files ``index.noun`` and ``data.noun`` (wndb(5WN)) of the asset pack ``wordnet``. The readers on PyPI
need files that Debian's WordNet does not ship.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from line_neurons.agent.concepts import class_concept, concept_key
from line_neurons.eval.labels.imagenet import imagenet_table
from line_neurons.tools.guidance.words import noun_files

Relation = Literal["exact", "synonym", "modified", "hypernym", "general", "hyponym", "sibling", "other"]

CLOSE = 3
"""A hypernym of a class is at most this many levels up; a higher word is ``general``."""
WIDEST = 0.05
"""A word for more than this share of the classes is ``general`` too, however close it is."""

_ARTIFACT = 21939
_PREPOSITIONS = frozenset(
    {"at", "behind", "by", "for", "from", "in", "near", "of", "on", "under", "with", "without"}
)
_JOINED = frozenset({"and", "non", "no", "not", "or"})
# Modifiers of an image or a copy of a thing.
_IMITATIONS = frozenset(
    {"artificial", "cartoon", "dummy", "fake", "imitation", "inflatable", "mock", "model", "origami", "plush",
     "replica", "stuffed", "toy"}
)  # fmt: skip
# Modifiers of a copy of animals, plants and food; an artefact may be made of these materials.
_MATERIALS = frozenset(
    {"bronze", "ceramic", "china", "clay", "cloth", "concrete", "glass", "iron", "knitted", "marble", "metal",
     "metallic", "paper", "plastic", "porcelain", "rubber", "stone", "wood", "wooden"}
)  # fmt: skip


_HYPERNYM, _PART = frozenset({"@", "@i"}), frozenset({"%p"})
"""Pointers of ``data.noun`` to hypernyms, and from a whole to its parts."""


@dataclass(frozen=True)
class Verdict:
    """The relation of a label to a class; ``levels`` counts the steps up to a hypernym, else 0."""

    relation: Relation
    levels: int = 0


@dataclass(frozen=True)
class Coverage:
    """Which classes of a set each word covers.

    Args:
        below: the positions of the classes at or below each synset.
    """

    below: Mapping[int, frozenset[int]]
    total: int

    def is_wide(self, senses: Iterable[int]) -> bool:
        """Return whether a word of these senses covers more than 5 % of the classes, and more than one."""
        covered = frozenset().union(*(self.below.get(sense, frozenset()) for sense in senses))
        return len(covered) > max(1, WIDEST * self.total)


class WordNet:
    """The noun hierarchy of WordNet 3.0, read from ``index.noun`` and ``data.noun`` of a folder.

    Raises:
        MissingPartError: the files are missing.
    """

    def __init__(self, folder: Path) -> None:
        index, data = noun_files(folder)
        self._senses: dict[str, list[int]] = {}
        for line in index:
            lemma, _, count, *rest = line.split()
            senses = [int(offset) for offset in rest[-int(count) :]]
            self._senses.setdefault(concept_key(lemma), []).extend(senses)
        self.lemmas: dict[int, list[str]] = {}
        self._up: dict[int, list[int]] = {}
        self._parts: dict[int, list[int]] = {}
        for line in data:
            self._read(line)

    def _read(self, line: str) -> None:
        fields = line.split(" | ", maxsplit=1)[0].split()
        offset, words = int(fields[0]), int(fields[3], 16)
        self.lemmas[offset] = [fields[4 + 2 * i].replace("_", " ") for i in range(words)]
        at = 4 + 2 * words
        pointers = [fields[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(fields[at]))]
        for table, symbols in ((self._up, _HYPERNYM), (self._parts, _PART)):
            table[offset] = [int(target) for symbol, target, *_ in pointers if symbol in symbols]

    def senses(self, word: str) -> list[int]:
        """Return the offsets of the synsets of a noun, the most frequent first."""
        return self._senses.get(concept_key(word), [])

    def hypernyms(self, synset: int) -> dict[int, int]:
        """Return every hypernym of a synset with the least number of levels up to it."""
        levels: dict[int, int] = {}
        front, level = [synset], 0
        while front:
            level += 1
            front = [
                up for lower in front for up in self._up.get(lower, ()) if levels.setdefault(up, level) == level
            ]
        return levels

    def is_part(self, label: str, synset: int) -> bool:
        """Return whether a label names a part of a class, of what is above the class, or of such a part.

        A label that WordNet does not have counts by its head, and a kind of a part is a part: a car mirror is a
        mirror.
        """
        parts: set[int] = set()
        front = [synset, *self.hypernyms(synset)]
        while front:
            front = [part for whole in front for part in self._parts.get(whole, ()) if part not in parts]
            parts.update(front)
        senses = self.senses(label) or self.senses(self._head(label, set())[0])
        near = (
            {sense, *(up for up, level in self.hypernyms(sense).items() if level <= CLOSE)} for sense in senses
        )
        return any(parts & kinds for kinds in near)

    def coverage(self, synsets: Iterable[int]) -> Coverage:
        """Count which classes, given by synset, each word covers."""
        below: dict[int, set[int]] = {}
        total = 0
        for place, synset in enumerate(synsets):
            total += 1
            for covering in (synset, *self.hypernyms(synset)):
                below.setdefault(covering, set()).add(place)
        return Coverage({synset: frozenset(places) for synset, places in below.items()}, total)

    @cached_property
    def _imagenet(self) -> Coverage:
        return self.coverage(entry.synset for entry in imagenet_table())

    def judge(
        self, label: str, name: str, synset: int, *, also: Sequence[str] = (), among: Coverage | None = None
    ) -> Verdict:
        """Return the relation of a label to a class.

        A hypernym is at most three levels up and covers at most 5 % of ImageNet-1K's classes and of ``among``;
        other words above the class are ``general``. A label of several words that is in WordNet is judged as a
        whole: a sea lion is not a lion. Other labels are judged by their head, the last words before a preposition
        that WordNet has: "red violin" is a violin (``modified``), "tiger cage" a cage. A modifier may change what
        the head means, so a more general head does not count ("rubber duck" for the drake, "husky dog" for the
        German shepherd), nor does a modifier that makes it an imitation of the class ("toy violin").

        Args:
            also: further names of the class.
            among: the network's own classes, if they are not ImageNet-1K's.
        """
        key = concept_key(label)
        exact = {concept_key(name), concept_key(class_concept(name))}
        names = exact | {concept_key(lemma) for lemma in (*self.lemmas[synset], *also)}
        if key in names:
            return Verdict("exact" if key in exact else "synonym")
        if senses := self.senses(label):
            return self._placed(senses, synset, among)
        head, modifiers = self._head(label, names)
        made = _IMITATIONS if _ARTIFACT in self.hypernyms(synset) else _IMITATIONS | _MATERIALS
        if modifiers & made:
            return Verdict("other")
        if concept_key(head) in names:
            return Verdict("modified")
        found = self._placed(self.senses(head), synset, among)
        return Verdict("other") if found.relation in {"hypernym", "general"} else found

    def _placed(self, senses: Sequence[int], synset: int, among: Coverage | None) -> Verdict:
        """Return the relation of a noun to a class by the hierarchy."""
        above = self.hypernyms(synset)
        levels = [above[sense] for sense in senses if sense in above]
        if levels:
            wide = any(classes.is_wide(senses) for classes in (self._imagenet, among) if classes)
            return Verdict("general" if wide or min(levels) > CLOSE else "hypernym", min(levels))
        if any(synset in self.hypernyms(sense) for sense in senses):
            return Verdict("hyponym")
        parents = set(self._up.get(synset, ()))
        siblings = any(parents & set(self._up.get(sense, ())) for sense in senses)
        return Verdict("sibling" if siblings else "other")

    def _head(self, label: str, names: set[str]) -> tuple[str, frozenset[str]]:
        """Return the head of a phrase and the words before it, in lower case.

        The head is the longest end that is a name or a noun.
        """
        words = label.lower().replace("-", " ").split()
        if _JOINED & set(words):
            return "", frozenset()
        end = next((at for at, word in enumerate(words) if at and word in _PREPOSITIONS), len(words))
        for start in range(end):
            head = " ".join(words[start:end])
            if concept_key(head) in names or self.senses(head):
                return head, frozenset(words[:start])
        return "", frozenset()
