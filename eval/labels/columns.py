"""The columns of each method's file of labels, and what a row of it says."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from line_neurons.agent.text import clean_text
from line_neurons.eval.labels.labels import Label
from line_neurons.tools.json_text import loads
from line_neurons.tools.store.columns import UNIT_COLUMNS

MAX_CONCEPT = 300
"""Characters of a concept; INVERT's formulas and MILAN's sentences are longer than LINE's three words."""
MAX_DESCRIPTION = 4000
"""Characters of a description of PRISM."""

_MAX_UNIT = 10_000_000
# Texts of missing values.
_NOTHING = frozenset({"", "nan", "none", "null", "n/a", "<na>"})

Row = Mapping[str, str]


class NoLabelError(Exception):
    """A row has no label for its unit."""


def _unit(text: str) -> int:
    unit = int(text)
    if not 0 <= unit <= _MAX_UNIT:
        raise ValueError(f"{unit} is no index of a unit")
    return unit


def _concept(text: str, longest: int = MAX_CONCEPT) -> str:
    concept = clean_text(text, longest).strip()
    if concept.casefold() in _NOTHING:
        raise NoLabelError("it has no concept")
    return concept


def _score(text: str) -> float | None:
    if not text.strip():
        return None
    score = float(text)
    return score if math.isfinite(score) else None


def _falcon(row: Row) -> Label:
    """Read the first of a list of phrases with similarities, a Python literal."""
    if "," in row["group"]:
        raise NoLabelError("of a group of units, which has no label for each of them")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        phrases = ast.literal_eval(row["concept_set_noun_phrases"])
    match phrases:
        case []:
            raise NoLabelError("it has no concept")
        case [(str(phrase), int(similarity) | float(similarity)), *_]:
            return Label(_unit(row["group"]), _concept(phrase), _score(str(similarity)))
    raise ValueError("concept_set_noun_phrases is no list of phrases with similarities")


def _own(row: Row) -> Label:
    """Read a row of ``line export``."""
    if not row["label"]:
        raise NoLabelError("a unit without a label yet")
    longest = MAX_DESCRIPTION if row.get("facet") else MAX_CONCEPT
    label = Label(_unit(row["unit"]), _concept(row["label"], longest), _score(row["score"]))
    highlights, text = (str(loads(row[name])) if row.get(name) else "" for name in ("highlights", "text"))
    return replace(label, highlights=highlights, text=text)


def _plain(unit: str, concept: str, score: str = "") -> Callable[[Row], Label]:
    return lambda row: Label(_unit(row[unit]), _concept(row[concept]), _score(row[score]) if score else None)


def _prism(concept: str, score: str) -> Callable[[Row], Label]:
    def read(row: Row) -> Label:
        written, text = row[concept], _concept(row[concept], MAX_DESCRIPTION)
        label = Label(_unit(row["unit"]), text, _score(row[score]), highlights=row.get("highlights", ""))
        return label if text == written else replace(label, text=written)

    return read


def _milan(row: Row) -> Label:
    return Label(_unit(row["unit"]), _concept(row["description"]).lower())


@dataclass(frozen=True)
class LabelFormat:
    """The format of a method's file.

    Args:
        read: reads a row; raises ``NoLabelError`` where it has no label.
        score: the column of the score, if there is one.
        more: further columns of the method, which are not read.
        facets: its files have several labels a unit.
    """

    method: str
    columns: frozenset[str]
    read: Callable[[Row], Label]
    score: str = ""
    more: frozenset[str] = frozenset()
    facets: bool = False


READ_FORMATS: dict[str, LabelFormat] = {
    form.method: form
    for form in (
        LabelFormat(
            "line",
            frozenset({"run", "unit", "label", "score"}),
            _own,
            "score",
            frozenset({*UNIT_COLUMNS, "highlights", "text"}),
        ),
        LabelFormat(
            "cosy",
            frozenset({"neuron", "concept", "AUC", "U1", "p", "MAD"}),
            _plain("neuron", "concept", "AUC"),
            "AUC",
        ),
        LabelFormat(
            "invert",
            frozenset({"neuron", "concept", "metric"}),
            _plain("neuron", "concept", "metric"),
            "metric",
            # CoSy's form has the columns of the other methods beside these.
            frozenset({"concept_id", "unit", "description", "similarity"}),
        ),
        LabelFormat(
            "clip-dissect",
            frozenset({"unit", "description", "similarity"}),
            _plain("unit", "description", "similarity"),
            "similarity",
        ),
        LabelFormat(
            "prism",
            frozenset({"unit", "description", "mean_activation", "highlights"}),
            _prism("description", "mean_activation"),
            "mean_activation",
            facets=True,
        ),
        LabelFormat(
            "prism-evaluated",
            frozenset({"unit", "explanation", "AUC", "U1", "p", "MAD"}),
            _prism("explanation", "AUC"),
            "AUC",
            facets=True,
        ),
        LabelFormat("milan", frozenset({"unit", "description"}), _milan),
        LabelFormat("describe-and-dissect", frozenset({"Neuron ID", "Label 1"}), _plain("Neuron ID", "Label 1")),
        LabelFormat(
            "falcon",
            frozenset({"group", "concept_set_noun_phrases"}),
            _falcon,
            more=frozenset({"concept_set_words"}),
        ),
    )
}
"""Formats that are read; a format comes before those whose columns it contains."""

SEVERAL_LABELS = frozenset({"prism"})
"""Formats that are written with a row for each facet; the others have the first label of a unit."""

WRITE_FORMATS: dict[str, dict[str, str]] = {
    "cosy": {
        "neuron": "unit", "concept": "concept", "concept_id": "", "metric": "score",
        "layer": "layer", "unit": "unit", "description": "concept", "similarity": "score",
    },
    "invert": {"neuron": "unit", "concept": "concept", "concept_id": "", "metric": "score"},
    "clip-dissect": {"layer": "layer", "unit": "unit", "description": "concept", "similarity": "score"},
    "milan": {"layer": "layer", "unit": "unit", "description": "concept"},
    "prism": {
        "layer": "layer", "unit": "unit", "description": "text", "mean_activation": "score",
        "highlights": "highlights",
    },
}  # fmt: skip
"""Formats that are written: the value of each column."""
