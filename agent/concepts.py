"""Concepts as text: normalise them, compare them, and find the words that they share.

>>> normalise_concept("The Red_Fox.")
'red fox'
>>> concept_key("red foxes") == concept_key("a Red-fox")
True
>>> find_duplicate("potatoes", ["owl", "potato"])
'potato'
>>> distinct("red fox", "barn owl"), distinct("red fox", "foxes")
(True, False)
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from line_neurons.agent.nouns import singular
from line_neurons.agent.text import clean_text

MAX_CONCEPT_CHARACTERS = 60
MAX_CONCEPT_WORDS = 3

NEAR_FLOOR = 0.5
"""Lowest cosine similarity of concepts that are called near.

Measured on the 562 names of the bundled image bank with its text encoder: of all pairs without a common group,
0.2 % reach it (median 0.20), and 87 % of the names have another one that does; "democracy" and "tax" have none.
"""

_LONGEST = 10 * MAX_CONCEPT_CHARACTERS
_ARTICLES = ("a", "an", "the")
_FUNCTION_WORDS = {*_ARTICLES, "of", "and", "with", "in", "on"}
_WORD = re.compile(r"[^\W_]+(?:['’.][^\W_]+)*\.?", re.UNICODE)  # noqa: RUF001 - typographic apostrophe
_POSSESSIVE = re.compile(r"(?:['’]s)?[.'’]*$")  # noqa: RUF001 - typographic apostrophe
_SENTENCE_BREAK = re.compile(r"[,;:/\\|<>\[\]{}()=*#`\"]")


def normalise_concept(text: str, max_words: int = MAX_CONCEPT_WORDS) -> str:
    """Return a concept as shown and generated: NFKC, lower case, no article, no punctuation around it.

    Raises:
        ValueError: it is empty, too long, has more than ``max_words`` words, or holds characters that no concept
            needs (markup, path separators, lists).
    """
    if len(text) > _LONGEST:
        raise ValueError(f"a concept has at most {MAX_CONCEPT_CHARACTERS} characters, not {len(text)}")
    cleaned = clean_text(_nfkc(text), _LONGEST).lower()
    cleaned = cleaned.replace("_", " ").strip(" .!?'\"`").strip()
    if _SENTENCE_BREAK.search(cleaned):
        raise ValueError("name a single concept, without punctuation or markup")
    words = _WORD.findall(cleaned.replace("-", " "))
    while len(words) > 1 and words[0] in _ARTICLES:
        words = words[1:]
    if not words:
        raise ValueError("the concept is empty")
    if len(words) > max_words:
        raise ValueError(f"a concept has one to {max_words} words, not {len(words)}")
    if len(cleaned) > MAX_CONCEPT_CHARACTERS:
        raise ValueError(f"a concept has at most {MAX_CONCEPT_CHARACTERS} characters, not {len(cleaned)}")
    return " ".join(words).rstrip(".")


def class_concept(name: str) -> str:
    """Return a class or folder name as a concept: its first synonym, cleaned; it may have more words."""
    cleaned = clean_text(_nfkc(name), 200).lower().replace("_", " ")
    words = _WORD.findall(cleaned.split(",")[0].replace("-", " "))
    return " ".join(words)[:MAX_CONCEPT_CHARACTERS].strip()


@lru_cache(maxsize=8192)
def concept_key(concept: str) -> str:
    """Reduce a concept to the form that counts as the same in any case, article, plural and hyphenation."""
    words = _words(concept)
    if words and words[0] in _ARTICLES and len(words) > 1:
        words = words[1:]
    # The last noun can be a plural, and one before "of": "loaves of bread".
    heads = (after in _FUNCTION_WORDS for after in (*words[1:], "of"))
    return " ".join(singular(word) if head else word for word, head in zip(words, heads, strict=False))


def _words(concept: str) -> list[str]:
    return _WORD.findall(_nfkc(concept).lower().replace("-", " ").replace("_", " "))


def _nfkc(text: str) -> str:
    # Cut first: the time that it takes grows with the square of a row of combining marks.
    return unicodedata.normalize("NFKC", text[:_LONGEST])


def concept_words(concept: str) -> frozenset[str]:
    """Return a concept's words in the singular; function words only where it has no others."""
    words = {singular(_POSSESSIVE.sub("", word)) for word in _words(concept)} or {""}
    return frozenset(words - _FUNCTION_WORDS or words)


def distinct(concept: str, other: str) -> bool:
    """Return whether two concepts share no word: "red fox" and "barn owl", not "red fox" and "foxes"."""
    return not concept_words(concept) & concept_words(other)


def find_duplicate(concept: str, tried: Iterable[str]) -> str | None:
    """Return the concept in ``tried`` that is the same as ``concept``, or None."""
    key = concept_key(concept)
    return next((other for other in tried if concept_key(other) == key), None)


def describe_near(nearest: Iterable[Sequence[str | float]], most: int = 3) -> str:
    """Name the concepts near another one, each with its cosine similarity.

    ``nearest`` are (concept, similarity) pairs, best first; those below ``NEAR_FLOOR`` are left out.

    >>> describe_near([("electric guitar", 0.724), ("violin", 0.51), ("fire", 0.38)])
    'electric guitar 0.72, violin 0.51'
    """
    near = [(concept, float(similarity)) for concept, similarity in nearest if float(similarity) >= NEAR_FLOOR]
    return ", ".join(f"{concept} {similarity:.2f}" for concept, similarity in near[:most])
