"""What methods say about units: LINE's runs, and the files of INVERT, CLIP-Dissect, MILAN, FALCON and CoSy."""

from __future__ import annotations

import ast
import csv
import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from line_neurons.agent.errors import UsageError
from line_neurons.agent.proposal import clean_text
from line_neurons.eval.label_files import rows_of
from line_neurons.tools.leftovers import whole_or_not
from line_neurons.tools.run_store import RunStore
from line_neurons.tools.targets.registry import short_spec

MAX_CONCEPT = 300
"""Characters of a concept; INVERT's formulas and MILAN's sentences are longer than LINE's three words."""

_MAX_UNIT = 10_000_000
_EVALUATED = re.compile(r"evaluation_([^_]+)_(.+)")
# Files that people name by the method: no model, no layer.
_NAMED_BY_METHOD = re.compile(r"(best-word|clip-dissect|describe-and-dissect|invert)(-\w+)?", re.IGNORECASE)

Row = Mapping[str, str]


@dataclass(frozen=True)
class Label:
    """One explanation of one unit.

    Args:
        unit: its index.
        concept: the text; of INVERT it may be a formula (``dog AND NOT cat``).
        score: the method's own (INVERT's AUC, CLIP-Dissect's similarity, LINE's score); None if it has none.
    """

    unit: int
    concept: str
    score: float | None = None


@dataclass(frozen=True)
class Labels:
    """What one method says about units of one layer.

    Args:
        method: ``line``, ``invert``, ``invert-3``, ``clip-dissect``, ``clip-dissect (captions)``, ``random``,
            ``initial``, ``milan``, ``falcon``, ``describe-and-dissect`` ...
        model: the target's spec; empty if a file does not say it.
        layer: the layer's path, or what a file has of it.
        labels: in the method's order, one a unit.
        source: id of the run, or the file.
    """

    method: str
    model: str
    layer: str
    labels: tuple[Label, ...]
    source: str


def of_run(runs: RunStore, run: str) -> Labels:
    """The labels of a run's finished units, in the order in which these were asked for.

    Args:
        runs: the store.
        run: id of the run, or the beginning of one.

    Raises:
        UsageError: there is no such run, or no unit of it has a label yet.
    """
    found = runs.run(run)
    labels = tuple(
        Label(unit.unit, unit.label, unit.score)
        for unit in runs.units(found.id)
        if unit.status == "finished" and unit.label
    )
    if not labels:
        raise UsageError(f"no unit of run {found.id} has a label yet", f"line resume {found.id}")
    return Labels("line", found.model, found.layer, labels, found.id)


def read_labels(path: Path, method: str | None = None, layer: str | None = None) -> Labels:
    """The labels in a method's own file, told by its columns; of several rows of a unit the first counts.

    Model and layer are read from the columns of these names or else from a name such as CoSy gives,
    ``resnet18-avgpool.csv`` or ``evaluation_INVERT_resnet18-avgpool.csv``.

    Args:
        path: the file: CSV or JSON lines in UTF-8, or Parquet.
        method: what the method is called; None: after the form or name of the file.
        layer: which of the layers of a file that has several; its last part is enough.

    Raises:
        UsageError: the file cannot be read, has none of the forms or a row that does not fit, is of several layers
            of which none is chosen, or has no row.
    """
    header, rows, spreadsheet = rows_of(path)
    form = next((form for form in FORMS.values() if form.columns <= set(header)), None)
    if form is None:
        known = "; ".join(f"{one.method}: {', '.join(one.columns)}" for one in FORMS.values())
        raise UsageError(f"{path} has the columns of no method: {', '.join(header) or 'none':.80}", known)
    layers: set[str] = set()
    models: set[str] = set()
    labels: dict[int, Label] = {}
    for line, row in rows:
        own = row.get("layer", "")
        if spreadsheet and form.method == "line":
            # A text that a spreadsheet would take for a formula has an apostrophe before it.
            row["label"] = row["label"].removeprefix("'")
        if layer and own and _last(own) != _last(layer):
            continue
        try:
            label = form.read(row)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            reason = clean_text(str(error), 80) or type(error).__name__
            raise UsageError(f"{path} line {line} does not fit {form.method}: {reason}", "mend it") from None
        layers.add(own)
        models.add(row.get("model", ""))
        if label:
            labels.setdefault(label.unit, label)
    if len(layers) > 1 or len(models) > 1:
        which = "layer" if len(layers) > 1 else "model"
        shown = ", ".join(sorted(layers if which == "layer" else models))
        raise UsageError(f"{path} is of several {which}s: {shown:.80}", "choose one with --layer, or divide it")
    if not labels:
        where = f" of layer {layer!r:.60}" if layer else ""
        raise UsageError(f"{path} has no label{where}", "name a file with a row for each unit")
    evaluated = _EVALUATED.fullmatch(path.stem)
    told = evaluated[2] if evaluated else path.stem
    if method is None and form.method == "cosy" and evaluated:
        method = evaluated[1].casefold()
    model, _, of_name = ("", "", "") if _NAMED_BY_METHOD.fullmatch(told) else told.rpartition("-")
    whole = of_name if model else ""
    column = layers.pop()
    return Labels(
        method=method or form.method,
        model=models.pop() or model,
        # A column may have a path's last part alone, of which the name has the whole.
        layer=(whole if _last(whole) == column else column) or whole or layer or "",
        labels=tuple(labels.values()),
        source=str(path),
    )


def write_csv(labels: Labels, path: Path, form: str) -> None:
    """Write labels in a method's form; the file is there whole, or as it was before.

    Args:
        labels: what to write.
        path: the file.
        form: key of ``WRITTEN``. ``cosy`` has the columns of INVERT, CLIP-Dissect and MILAN side by side, so that
            CoSy's code reads it whichever of these methods it is told.

    Raises:
        UsageError: there is no such form, or the file cannot be written.
    """
    if form not in WRITTEN:
        raise UsageError(f"{form!r:.40} is not a form of explanations", f"use {', '.join(WRITTEN)}")
    columns = WRITTEN[form]
    layer = _last(labels.layer)
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(columns)
    for label in labels.labels:
        score = "" if label.score is None else repr(label.score)
        cells = {"unit": label.unit, "concept": label.concept, "score": score, "layer": layer, "": ""}
        writer.writerow([cells[what] for what in columns.values()])
    replace_file(path, written.getvalue().encode())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole, or leave what was there.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{str(path)!r:.200} is not a file", "name a file with --output")
        with whole_or_not(path.resolve()) as file:
            file.write(content)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{str(path)!r:.200} cannot be written: {reason}", "name another file") from error


def file_stem(labels: Labels) -> str:
    """Model and layer as CoSy has them in the names of its files, ``resnet18-avgpool``."""
    model = short_spec(labels.model).rpartition(":")[2].rpartition("/")[2] or "model"
    return f"{model}-{_last(labels.layer) or 'layer'}"


def _last(layer: str) -> str:
    return layer.rpartition(".")[2]


def _unit(text: str) -> int:
    unit = int(text)
    if not 0 <= unit <= _MAX_UNIT:
        raise ValueError(f"{unit} is no index of a unit")
    return unit


def _concept(text: str) -> str:
    concept = clean_text(text, MAX_CONCEPT).strip()
    if not concept:
        raise ValueError("it has no concept")
    return concept


def _score(text: str) -> float | None:
    if not text.strip():
        return None
    score = float(text)
    return score if math.isfinite(score) else None


def _falcon(row: Row) -> Label | None:
    """The first of a list of phrases with their similarities, written as Python writes it.

    None where the list is empty, and for a group of several units, which says nothing of each of them.
    """
    if "," in row["group"]:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        phrases = ast.literal_eval(row["concept_set_noun_phrases"])
    match phrases:
        case []:
            return None
        case [(str(phrase), int(similarity) | float(similarity)), *_]:
            return Label(_unit(row["group"]), _concept(phrase), float(similarity))
    raise ValueError("concept_set_noun_phrases is no list of phrases with similarities")


def _own(row: Row) -> Label | None:
    """A row of ``line export``; None for a unit that has no label yet."""
    text = row["label"]
    return Label(_unit(row["unit"]), _concept(text), _score(row["score"])) if text else None


def _plain(unit: str, concept: str, score: str = "") -> Callable[[Row], Label]:
    return lambda row: Label(_unit(row[unit]), _concept(row[concept]), _score(row[score]) if score else None)


def _milan(row: Row) -> Label:
    return Label(_unit(row["unit"]), _concept(row["description"]).lower())


@dataclass(frozen=True)
class Form:
    """A file's form: whose it is, the columns that tell it, and how a row is read."""

    method: str
    columns: frozenset[str]
    read: Callable[[Row], Label | None]


FORMS: dict[str, Form] = {
    form.method: form
    for form in (
        Form("line", frozenset({"run", "unit", "label", "score"}), _own),
        Form(
            "cosy", frozenset({"neuron", "concept", "AUC", "U1", "p", "MAD"}), _plain("neuron", "concept", "AUC")
        ),
        Form("invert", frozenset({"neuron", "concept", "metric"}), _plain("neuron", "concept", "metric")),
        Form(
            "clip-dissect",
            frozenset({"unit", "description", "similarity"}),
            _plain("unit", "description", "similarity"),
        ),
        Form("milan", frozenset({"unit", "description"}), _milan),
        Form("describe-and-dissect", frozenset({"Neuron ID", "Label 1"}), _plain("Neuron ID", "Label 1")),
        Form("falcon", frozenset({"group", "concept_set_noun_phrases"}), _falcon),
    )
}
"""Forms that are read; one with more columns stands before one that has a part of them."""

WRITTEN: dict[str, dict[str, str]] = {
    "cosy": {
        "neuron": "unit", "concept": "concept", "concept_id": "", "metric": "score",
        "layer": "layer", "unit": "unit", "description": "concept", "similarity": "score",
    },
    "invert": {"neuron": "unit", "concept": "concept", "concept_id": "", "metric": "score"},
    "clip-dissect": {"layer": "layer", "unit": "unit", "description": "concept", "similarity": "score"},
    "milan": {"layer": "layer", "unit": "unit", "description": "concept"},
}  # fmt: skip
"""Forms that are written: each column with what stands in it."""


def short_sources(sources: Sequence[str]) -> list[str]:
    """The names of runs and of files of labels, each with as many of its folders as tell it from the others."""
    parts = [PurePath(source).parts for source in sources]

    def shortest(own: tuple[str, ...]) -> tuple[str, ...]:
        others = {other for other in parts if other != own}
        tails = (own[-count:] for count in range(1, len(own)))
        return next((tail for tail in tails if all(other[-len(tail) :] != tail for other in others)), own)

    return [str(PurePath(*shortest(own))) for own in parts]
