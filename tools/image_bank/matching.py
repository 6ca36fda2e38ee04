"""Match phrases to images of a bank by text similarity."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from line_neurons.agent.errors import NotDrawableError
from line_neurons.tools.cache.embeddings import embed_once
from line_neurons.tools.image_bank.bank import Bank, Entry, Selection
from line_neurons.tools.image_bank.phrases import normalise, singular_phrase
from line_neurons.tools.image_bank.text_encoder import Embeddings, TextEncoder

_NEAREST = 5
_DIVERSITY = 0.2
_REMEMBERED = 4096
_SHORTEST_SECOND_WORD = 4


@dataclass(frozen=True)
class Match:
    """A name of the bank that a phrase matches, and the images under it.

    Args:
        name: the matched caption, synonym or broader name.
        similarity: cosine similarity of phrase and name in [-1, 1], rounded to four decimals; 1 if equal.
        entries: the images with that name, sorted by caption and id.
        ignored: words of the phrase that the name lacks although both name the same sort of thing.
    """

    name: str
    similarity: float
    entries: tuple[Entry, ...]
    ignored: tuple[str, ...] = ()

    @property
    def captions(self) -> tuple[str, ...]:
        """The distinct captions of the images, sorted."""
        return tuple(sorted({entry.caption for entry in self.entries}))


class Matcher:
    """Matches phrases with the names of one split of a bank; may be used from several threads.

    Args:
        threshold: lowest similarity of a phrase and a usable name.
        margin: names less than this below the best one are used too.
        cache: folder for the names' embeddings; None computes them in every process.
    """

    def __init__(
        self,
        bank: Bank,
        encoder: TextEncoder,
        selection: Selection,
        *,
        threshold: float,
        margin: float,
        cache: Path | None = None,
    ) -> None:
        self._encoder = encoder
        self._bank = bank
        self._selection = selection
        self._threshold = threshold
        self._margin = margin
        self._cache = cache
        by_name: dict[str, list[Entry]] = defaultdict(list)
        for entry in bank.select(selection):
            if entry.is_subject:
                for name in dict.fromkeys(entry.names):
                    by_name[name].append(entry)
        self._entries = {
            name: tuple(sorted(by_name[name], key=lambda entry: (entry.caption, entry.id)))
            for name in sorted(by_name)
        }
        self._names = tuple(self._entries)
        # A phrase near a group's name is not a name of the group ("piano", "musical instrument"): only the
        # very words reach a group.
        self._own = frozenset(n for n in by_name if any(n in (e.caption, *e.also) for e in by_name[n]))
        self._exact: dict[str, str] = {}
        for name in self._names:
            self._exact.setdefault(singular_phrase(normalise(name)), name)
        for name in self._names:
            self._exact[normalise(name)] = name
        self._matrices: dict[tuple[str, ...], Embeddings] = {}
        # All names at once take seconds: one thread embeds them, the others wait.
        self._embedding = threading.Lock()
        self._remembered: dict[str, Embeddings] = {}

    def known(self, phrase: str) -> bool:
        """Tell whether the phrase, or its singular, is a name of the bank."""
        return phrase in self._exact or singular_phrase(phrase) in self._exact

    def match(self, phrase: str) -> list[Match]:
        """Return the names that a phrase matches, best first.

        Raises:
            NotDrawableError: no name is close enough.
        """
        text = normalise(phrase)
        exact = self._exact.get(text) or self._exact.get(singular_phrase(text))
        if exact is not None:
            return [Match(exact, 1.0, self._entries[exact])]
        scored = self._scored(text)
        close = [
            (similarity, name)
            for similarity, name in scored
            if similarity >= self._threshold and name in self._own and _same_sort(text, name)
        ]
        if not close:
            raise NotDrawableError(phrase, [(name, s) for s, name in scored[:_NEAREST]])
        floor = close[0][0] - self._margin
        return [Match(name, s, self._named(name), _left_over(text, name)) for s, name in close if s >= floor]

    def _named(self, name: str) -> tuple[Entry, ...]:
        return tuple(e for e in self._entries[name] if name in (e.caption, *e.also))

    def nearest(self, phrase: str, limit: int = _NEAREST) -> list[tuple[str, float]]:
        """Return the closest names and their similarity, best first, usable or not."""
        return [(name, similarity) for similarity, name in self._scored(normalise(phrase))[:limit]]

    def suggest(self, concepts: Sequence[str], limit: int) -> list[str]:
        """Suggest distinct captions near what the concepts share, nearest first.

        Captions are compared together with the wider groups they belong to: of two birds the words alone are often
        no nearer than "spoonbill" and "spoon".
        """
        captions = self._bank.captions(self._selection)
        taken = {singular_phrase(normalise(concept)) for concept in concepts}
        free = [caption for caption in captions if singular_phrase(normalise(caption)) not in taken]
        wanted = [text for text in (normalise(concept) for concept in concepts) if text]
        if not free or not wanted or limit < 1:
            return []
        everything = self._embedded(tuple(self._described(caption) for caption in captions))
        vectors = everything[[captions.index(caption) for caption in free]]
        asked = np.stack([self._embed(self._described(self._exact.get(text, text))) for text in wanted])
        near = np.round((vectors @ asked.T).mean(1), 4)
        between = np.round(vectors @ vectors.T, 4)
        chosen: list[int] = []
        worth = near.astype(np.float64)
        while len(chosen) < min(limit, len(free)):
            # argmax takes the first of equals, and the captions are sorted: deterministic.
            best = int(np.argmax(worth))
            chosen.append(best)
            worth = np.minimum(worth, near - _DIVERSITY * between[best])
            worth[chosen] = -np.inf
        return [free[index] for index in sorted(chosen, key=lambda index: (-near[index], free[index]))]

    def _described(self, name: str) -> str:
        groups = dict.fromkeys(group for entry in self._entries.get(name, ()) for group in entry.broader)
        others = [group for group in groups if group != name]
        return f"{name}: {', '.join(others)}" if others else name

    def _scored(self, text: str) -> list[tuple[float, str]]:
        if not self._names or not text:
            return []
        # Rounded, because the last bits of an embedding depend on what else was in its batch.
        similarities = np.round((self._vectors() @ self._embed(text)).astype(np.float64), 4)
        pairs = ((float(s), name) for s, name in zip(similarities, self._names, strict=True))
        return sorted(pairs, key=lambda pair: (-pair[0], pair[1]))

    def _embed(self, text: str) -> Embeddings:
        vector = self._remembered.get(text)
        if vector is None:
            vector = self._encoder.encode([text])[0]
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[text] = vector
        return vector

    def _vectors(self) -> Embeddings:
        return self._embedded(self._names)

    def _embedded(self, texts: tuple[str, ...]) -> Embeddings:
        with self._embedding:
            matrix = self._matrices.get(texts)
            if matrix is None:
                matrix = embed_once(self._encoder.encode, self._encoder.fingerprint, texts, self._cache)
                self._matrices[texts] = matrix
            return matrix


def _same_sort(phrase: str, name: str) -> bool:
    """Tell whether phrase and name can name the same sort of thing by their head nouns.

    "tree bark" is not a tree and "tractor" is not a tractor wheel, however similar their embeddings are: the head
    noun of the one only qualifies that of the other. The same holds in a closed compound: "toadstool", "toad".
    """
    one, two = singular_phrase(phrase).split(), singular_phrase(name).split()
    if one[-1] == two[-1]:
        return True
    compound = one[-1].startswith(two[-1]) and len(one[-1]) >= len(two[-1]) + _SHORTEST_SECOND_WORD
    return not compound and one[-1] not in two[:-1] and two[-1] not in one[:-1]


def _left_over(phrase: str, name: str) -> tuple[str, ...]:
    one, two = singular_phrase(phrase).split(), singular_phrase(name).split()
    if one[-1] != two[-1]:
        return ()
    return tuple(word for word in one[:-1] if word not in two)
