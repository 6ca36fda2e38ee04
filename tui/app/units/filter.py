"""Filter of the table of units: words, and conditions on fields."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from line_neurons.agent.errors import UsageError

Matches = Callable[[Any], bool]
"""Tells of a line, such as a ``UnitLine``, whether it fits."""

TEXT_FIELDS = ("name", "label", "origin", "state", "error", "marks")
NUMBER_FIELDS = ("unit", "score", "margin", "auc", "mad", "facets", "polysemanticity", "steps", "seconds")

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
    ":": operator.eq,
}
_TERM = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_CONDITION = re.compile(r"(-?)(\w+)(>=|<=|>|<|=|:)(.*)", re.DOTALL)
_EXAMPLE = "for example: dog state:failed score>2 auc>=0.9"


def matcher(query: str) -> Matches | None:
    """Parse a query of the units of a run; see ``conditions``.

    Raises:
        UsageError: see ``conditions``.
    """
    return conditions(query, NUMBER_FIELDS, TEXT_FIELDS)


def conditions(query: str, numbers: Sequence[str], texts: Sequence[str]) -> Matches | None:
    """Parse a query into a predicate that all its terms must fulfil; None if the query is empty.

    A term is a word in a line's ``text``, in any case (``"two words"`` are one term); an index; ``field:word``; or
    a comparison of a number, as in ``score>2``. A minus negates a term.

    Raises:
        UsageError: a term names an unknown field, or compares with something that is no number.
    """
    terms = [_term(term, numbers, texts) for term in _TERM.findall(query)]
    if not terms:
        return None
    if len(terms) == 1:
        return terms[0]
    return lambda line: all(matches(line) for matches in terms)


def _term(term: str, numbers: Sequence[str], texts: Sequence[str]) -> Matches:
    condition = _CONDITION.fullmatch(term)
    if condition:
        minus, field, sign, value = condition.groups()
        field, value = field.lower(), value.replace('"', "").casefold()
        if field in numbers:
            matches = _number(field, sign, value)
        elif field in texts and sign in ":=":
            matches = _text(field, value)
        else:
            known = ", ".join(texts if field in texts else (*numbers, *texts))
            what = "is compared with : or =" if field in texts else "is not a field of a unit"
            raise UsageError(f"{field:.40} {what}", f"fields: {known}")
        return _negated(matches) if minus else matches
    minus = term.startswith("-") and len(term) > 1
    matches = _word(term[minus:].replace('"', "").casefold())
    return _negated(matches) if minus else matches


def _word(word: str) -> Matches:
    if word.isascii() and word.isdigit() and len(word) < 19:
        number = int(word)
        return lambda line: line.unit == number or word in line.name.casefold() or word in line.label.casefold()
    return lambda line: word in line.text


def _text(field: str, value: str) -> Matches:
    field_of = attrgetter(field)
    return lambda line: value in field_of(line).casefold()


def _number(field: str, sign: str, value: str) -> Matches:
    try:
        number = float(value)
    except ValueError:
        raise UsageError(f"{value!r:.40} after {field} is not a number", _EXAMPLE) from None
    field_of, compare = attrgetter(field), _OPERATORS[sign]
    return lambda line: (own := field_of(line)) is not None and compare(own, number)


def _negated(matches: Matches) -> Matches:
    return lambda line: not matches(line)
