"""The filter of a table of units: words, and conditions on fields."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.tui.app.units.model import UnitLine

Matches = Callable[[UnitLine], bool]

TEXT_FIELDS = ("name", "label", "origin", "state", "error", "marks")
NUMBER_FIELDS = ("unit", "score", "margin", "auc", "mad", "steps", "seconds")

_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
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
    """What tells whether a unit matches all terms of a query; None if the query is empty.

    A term is a word to be found in name, label, origin or state, in any case (``"two words"`` are looked for as
    they stand); an index of a unit; ``field:word``; or a number compared, as in ``score>2``. A minus before a term
    negates it.

    Raises:
        UsageError: a term compares a field that is not there, or with what is no number.
    """
    terms = [_term(term) for term in _TERM.findall(query)]
    if not terms:
        return None
    if len(terms) == 1:
        return terms[0]
    return lambda line: all(matches(line) for matches in terms)


def _term(term: str) -> Matches:
    condition = _CONDITION.fullmatch(term)
    if condition:
        minus, field, sign, value = condition.groups()
        field, value = field.lower(), value.replace('"', "").casefold()
        if field in NUMBER_FIELDS:
            matches = _number(field, sign, value)
        elif field in TEXT_FIELDS and sign in ":=":
            matches = _text(field, value)
        else:
            known = ", ".join(TEXT_FIELDS if field in TEXT_FIELDS else NUMBER_FIELDS + TEXT_FIELDS)
            what = "is compared with : or =" if field in TEXT_FIELDS else "is not a field of a unit"
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
    of = attrgetter(field)
    return lambda line: value in of(line).casefold()


def _number(field: str, sign: str, value: str) -> Matches:
    try:
        number = float(value)
    except ValueError:
        raise UsageError(f"{value!r:.40} after {field} is not a number", _EXAMPLE) from None
    of, compared = attrgetter(field), _COMPARED[sign]
    return lambda line: (known := of(line)) is not None and compared(known, number)


def _negated(matches: Matches) -> Matches:
    return lambda line: not matches(line)
