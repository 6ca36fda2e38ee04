"""WordNet's nouns: is a label the class itself, a synonym, or a more general word for it?

Reads the two files ``index.noun`` and ``data.noun`` (wndb(5WN)) of the asset pack ``wordnet``. The readers that
are installable want files which Debian's WordNet does not ship.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.proposal import concept_key

Relation = Literal["exact", "synonym", "hypernym", "hyponym", "sibling", "other"]

CLOSE = 3
"""Hypernyms up to so many levels up count as close."""


@dataclass(frozen=True)
class Judged:
    """How a label relates to a class; ``levels`` counts the steps up to a hypernym, else 0."""

    relation: Relation
    levels: int = 0


class WordNet:
    """The noun hierarchy of WordNet 3.0.

    Args:
        folder: holds ``index.noun`` and ``data.noun``.

    Raises:
        MissingPartError: they are not there.
    """

    def __init__(self, folder: Path) -> None:
        try:
            index = (folder / "index.noun").read_text(encoding="utf-8")
            data = (folder / "data.noun").read_text(encoding="utf-8")
        except OSError as error:
            raise MissingPartError(
                f"WordNet is not in {folder}: {error.strerror}", "line assets install wordnet"
            ) from error
        self._senses: dict[str, list[int]] = {}
        for line in index.splitlines():
            if line and not line.startswith(" "):
                lemma, _, count, *rest = line.split()
                senses = [int(offset) for offset in rest[-int(count) :]]
                self._senses.setdefault(concept_key(lemma), []).extend(senses)
        self.lemmas: dict[int, list[str]] = {}
        self._up: dict[int, list[int]] = {}
        for line in data.splitlines():
            if line and not line.startswith(" "):
                self._read(line)

    def _read(self, line: str) -> None:
        fields = line.split(" | ", maxsplit=1)[0].split()
        offset, words = int(fields[0]), int(fields[3], 16)
        self.lemmas[offset] = [fields[4 + 2 * i].replace("_", " ") for i in range(words)]
        at = 4 + 2 * words
        pointers = (fields[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(fields[at])))
        self._up[offset] = [int(target) for symbol, target, *_ in pointers if symbol in {"@", "@i"}]

    def senses(self, word: str) -> list[int]:
        """Offsets of the synsets of a noun, most usual first; empty if it is none."""
        return self._senses.get(concept_key(word), [])

    def hypernyms(self, synset: int) -> dict[int, int]:
        """Every more general synset with the least number of levels up to it."""
        levels: dict[int, int] = {}
        front, level = [synset], 0
        while front:
            level += 1
            front = [up for one in front for up in self._up.get(one, ()) if levels.setdefault(up, level) == level]
        return levels

    def judge(self, label: str, name: str, synset: int) -> Judged:
        """How a label relates to a class.

        A label of several words that WordNet does not know is judged by its last word or two ("brown bear
        cub" by "bear cub", then "cub").

        Args:
            label: what a unit was labelled with.
            name: the class name.
            synset: the class's synset.
        """
        if concept_key(label) == concept_key(name):
            return Judged("exact")
        if concept_key(label) in {concept_key(lemma) for lemma in self.lemmas[synset]}:
            return Judged("synonym")
        words = label.split()
        senses = next((found for i in range(len(words)) if (found := self.senses(" ".join(words[i:])))), [])
        above = self.hypernyms(synset)
        levels = [above[sense] for sense in senses if sense in above]
        if levels:
            return Judged("hypernym", min(levels))
        if any(synset in self.hypernyms(sense) for sense in senses):
            return Judged("hyponym")
        parents = set(self._up.get(synset, ()))
        if any(parents & set(self._up.get(sense, ())) for sense in senses):
            return Judged("sibling")
        return Judged("other")

    def class_synsets(self, names: Sequence[str]) -> list[int]:
        """The synset of each ImageNet class, in the order of its index.

        ImageNet-1K's classes are sorted by WordNet id, so of all senses of the names the ones are right that
        ascend; this settles names with several senses, such as the two cranes.

        Args:
            names: the class names in ImageNet's order.

        Raises:
            UsageError: the names are not ImageNet's.
        """
        choices = [self.senses(name) or self.senses(name.split()[0]) for name in names]
        # The longest ascending path through one sense of each class; a path is (length, last sense, what
        # came before it as (index, path)).
        paths: list[_Path] = [(0, -1, None)]
        for index, senses in enumerate(choices):
            longest = [max((path for path in paths if path[1] < sense), key=_length) for sense in senses]
            paths += [(path[0] + 1, sense, (index, path)) for path, sense in zip(longest, senses, strict=True)]
        path = max(paths, key=_length)
        if path[0] < len(names):
            raise UsageError(
                f"only {path[0]} of {len(names)} class names are nouns of WordNet in ImageNet's order",
                "this needs the names of ImageNet-1K in their order",
            )
        found = []
        while path[2] is not None:
            found.append(path[1])
            path = path[2][1]
        return found[::-1]


_Path = tuple[int, int, "tuple[int, _Path] | None"]


def _length(path: _Path) -> int:
    return path[0]
