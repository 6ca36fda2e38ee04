"""Replies of a language model: parse, validate, normalise, and tell duplicates."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from line_neurons.agent.errors import ReplyError
from line_neurons.agent.nouns import singular
from line_neurons.agent.ports import Proposal

MAX_CONCEPT_CHARACTERS = 60
MAX_CONCEPT_WORDS = 3
_LONGEST = 10 * MAX_CONCEPT_CHARACTERS
MAX_REASONING_CHARACTERS = 2000
MAX_THOUGHTS_CHARACTERS = 8000

REPLY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reasoning": {"type": "string", "minLength": 1, "maxLength": 180},
        "concept": {"type": "string", "minLength": 1, "maxLength": 40},
    },
    "required": ["reasoning", "concept"],
    "additionalProperties": False,
}
"""JSON schema of a reply; the order of the properties makes the model reason before it answers."""

_ARTICLES = ("a", "an", "the")
_JOINING = {*_ARTICLES, "of", "and", "with", "in", "on"}
_WORD = re.compile(r"[^\W_]+(?:['’.][^\W_]+)*\.?", re.UNICODE)  # noqa: RUF001 - typographic apostrophe
_POSSESSIVE = re.compile(r"(?:['’]s)?[.'’]*$")  # noqa: RUF001 - typographic apostrophe
_SENTENCE_BREAK = re.compile(r"[,;:/\\|<>\[\]{}()=*#`\"]")
_NOT_SHOWN = {"Cf", "Cs", "Co", "Cn"}
# Joiners and fillers that count as letters or marks.
_UNSEEN = set("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
MOST_MARKS = 4
"""So many combining marks in a row are shown; more of them pile up over the lines around."""


def clean_text(text: str, limit: int) -> str:
    """Text as one line that no reader obeys and that everybody can see, at most ``limit`` characters long.

    It has no control, format, private, unassigned and surrogate characters, no letters that cannot be seen, at
    most four combining marks in a row, and single spaces for whitespace.
    """
    text = text[: 4 * limit]
    if text.isascii() and text.isprintable():
        return " ".join(text.split())[:limit].rstrip()
    kept, marks = [], 0
    for character in text:
        kind = unicodedata.category(character)
        marks = marks + 1 if kind in {"Mn", "Me"} else 0
        if kind == "Cc" or character.isspace():
            kept.append(" ")
        elif kind not in _NOT_SHOWN and character not in _UNSEEN and marks <= MOST_MARKS:
            kept.append(character)
    return " ".join("".join(kept).split())[:limit].rstrip()


def storable_text(text: str) -> str:
    """Text as UTF-8 can hold it: lone surrogates, which file names and replies may bring, stand as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def normalise_concept(text: str, max_words: int = MAX_CONCEPT_WORDS) -> str:
    """A concept as it is shown and drawn: NFKC, lower case, no article, no punctuation around it.

    Raises:
        ValueError: it is empty, too long, has more than ``max_words`` words, or holds characters that no concept
            needs (markup, path separators, lists).
    """
    if len(text) > _LONGEST:
        raise ValueError(f"a concept has at most {MAX_CONCEPT_CHARACTERS} characters, not {len(text)}")
    cleaned = clean_text(_composed(text), _LONGEST).lower()
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
    """A class or folder name as a concept: its first synonym, cleaned; longer names are allowed here."""
    cleaned = clean_text(_composed(name), 200).lower().replace("_", " ")
    words = _WORD.findall(cleaned.split(",")[0].replace("-", " "))
    return " ".join(words)[:MAX_CONCEPT_CHARACTERS].strip()


@lru_cache(maxsize=8192)
def concept_key(concept: str) -> str:
    """The form in which two concepts count as the same: case, articles, plural and hyphens don't matter."""
    words = _words(concept)
    if words and words[0] in _ARTICLES and len(words) > 1:
        words = words[1:]
    # The last noun can be a plural, and one before "of": "loaves of bread".
    heads = (after in _JOINING for after in (*words[1:], "of"))
    return " ".join(singular(word) if head else word for word, head in zip(words, heads, strict=False))


def _words(concept: str) -> list[str]:
    return _WORD.findall(_composed(concept).lower().replace("-", " ").replace("_", " "))


def _composed(text: str) -> str:
    # Cut first: the time that it takes grows with the square of a row of combining marks.
    return unicodedata.normalize("NFKC", text[:_LONGEST])


def concept_words(concept: str) -> frozenset[str]:
    """The words that tell what a concept is of, in the singular; joining words only where there are no others."""
    found = {singular(_POSSESSIVE.sub("", word)) for word in _words(concept)} or {""}
    return frozenset(found - _JOINING or found)


def distinct(concept: str, other: str) -> bool:
    """Whether two concepts share no word: "red fox" and "barn owl", but not "red fox" and "foxes"."""
    return not concept_words(concept) & concept_words(other)


def find_duplicate(concept: str, tried: Iterable[str]) -> str | None:
    """The concept in ``tried`` that is the same as ``concept``, or None."""
    key = concept_key(concept)
    return next((other for other in tried if concept_key(other) == key), None)


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of ``pairs``; none of them if a name comes twice, where JSON readers differ in what they take."""
    named = dict(pairs)
    return named if len(named) == len(pairs) else {}


def parse_reply(text: str, *, truncated: bool = False, thoughts: str = "") -> Proposal:
    """A reply as a proposal, or an error that says what was wrong with it.

    The whole text must be one JSON object with ``reasoning`` and ``concept``; nothing is repaired.

    Args:
        text: the reply as it came, without the thoughts.
        truncated: the engine stopped because the reply grew too long.
        thoughts: what a thinking model thought before it answered; put before its reasoning.

    Raises:
        ReplyError: with kind ``truncated``, ``empty``, ``not_json``, ``schema`` or ``concept``.
    """
    raw, thought = storable_text(text), clean_text(thoughts, MAX_THOUGHTS_CHARACTERS)

    def refused(kind: str, detail: str, reasoning: str = thought, concept: str = "") -> ReplyError:
        return ReplyError(kind, detail, raw=raw, reasoning=reasoning, concept=concept)

    if truncated:
        raise refused("truncated", "the answer was cut off; be shorter")
    if not text.strip():
        raise refused("empty", "the answer was empty")
    try:
        reply = json.loads(text, object_pairs_hook=_named_once)
    except (ValueError, RecursionError):
        raise refused("not_json", "the answer was not a single JSON object") from None
    if not isinstance(reply, dict) or set(reply) != {"reasoning", "concept"}:
        raise refused("schema", 'the answer must have exactly "reasoning" and "concept"')
    reasoning, concept = reply["reasoning"], reply["concept"]
    if not isinstance(reasoning, str) or not isinstance(concept, str):
        raise refused("schema", '"reasoning" and "concept" must be text')
    reasoning = f"{thought} {clean_text(reasoning, MAX_REASONING_CHARACTERS)}".strip()
    try:
        normal = normalise_concept(concept)
    except ValueError as error:
        raise refused("concept", str(error), reasoning, clean_text(concept, 80)) from None
    return Proposal(reasoning=reasoning, concept=normal, raw=raw)
