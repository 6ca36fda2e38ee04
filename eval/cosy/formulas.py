"""Parse compositional labels: ``(dog OR wolf) AND NOT cat`` is shown by a dog, or by a wolf."""

from __future__ import annotations

import re
from itertools import product

from line_neurons.agent.errors import NotDrawableError, reason_of

MAX_ALTERNATIVES = 16
"""Largest number of alternatives; INVERT's formulas of length 3 have three."""

_WORD = re.compile(r"\(|\)|\b(?:AND|OR|NOT)\b|(?:(?!\b(?:AND|OR|NOT)\b)[^()])+")
_OPERATOR = re.compile(r"\b(?:AND|OR|NOT)\b")

_Case = tuple[tuple[str, ...], frozenset[str]]
"""What an image has to show, and what it must not show."""
_Cases = list[_Case]


def alternatives(concept: str) -> list[str]:
    """Return the phrases whose images fulfil a label; the label itself unless it is a formula.

    Negated concepts are left out: an image generated for a phrase shows nothing else.

    Raises:
        NotDrawableError: the formula is malformed, contradicts itself, has only negated concepts, or has too many
            cases.
    """
    if not _OPERATOR.search(concept):
        return [concept]
    words = [word for part in _WORD.findall(concept) if (word := part.strip())][::-1]
    try:
        cases, _ = _either(words)
    except (RecursionError, ValueError) as error:
        raise _refused(concept, reason_of(error)) from None
    if words:
        raise _refused(concept, f"{words[-1]!r} does not belong there")
    phrases = list(dict.fromkeys(" and ".join(wanted) for wanted, _ in cases))
    if not phrases or "" in phrases:
        raise _refused(concept, "it has only negated concepts" if phrases else "it contradicts itself")
    return phrases


def _either(words: list[str]) -> tuple[_Cases, _Cases]:
    """Parse a formula off the end of ``words``; return the cases of it and of its negation."""
    yes, no = _both(words)
    while words and words[-1] == "OR":
        words.pop()
        also, neither = _both(words)
        yes, no = yes + also, _joined(no, neither)
    return yes, no


def _both(words: list[str]) -> tuple[_Cases, _Cases]:
    yes, no = _one(words)
    while words and words[-1] == "AND":
        words.pop()
        also, neither = _one(words)
        yes, no = _joined(yes, also), no + neither
    return yes, no


def _one(words: list[str]) -> tuple[_Cases, _Cases]:
    word = words.pop() if words else ""
    if word == "NOT":
        yes, no = _one(words)
        return no, yes
    if word == "(":
        found = _either(words)
        if not words or words.pop() != ")":
            raise ValueError("a bracket is not closed")
        return found
    if word in {"", "AND", "OR", ")"}:
        raise ValueError(f"{word!r} does not belong there" if word else "it ends too early")
    return [((word,), frozenset())], [((), frozenset({word}))]


def _joined(one: _Cases, other: _Cases) -> _Cases:
    if len(one) * len(other) > MAX_ALTERNATIVES:
        raise ValueError("it has too many cases")
    joined = [
        (tuple(dict.fromkeys((*wanted, *also))), unwanted | nor)
        for (wanted, unwanted), (also, nor) in product(one, other)
    ]
    return [(wanted, unwanted) for wanted, unwanted in joined if not unwanted & set(wanted)]


def _refused(concept: str, reason: str) -> NotDrawableError:
    refused = NotDrawableError(concept, [])
    refused.args = (f"{concept!r:.100} cannot be generated: {reason}",)
    return refused


def depicted_concepts(concept: str) -> list[str]:
    """Return the concepts whose images an image bank composes in turn for a label.

    A bank has images by name and not by sentence: the first of several names with commas between, as ImageNet's
    classes have them, or the alternatives of a formula.
    """
    return alternatives(concept.partition(",")[0].strip())
