"""Read and write labels in the formats of LINE, INVERT, CLIP-Dissect, MILAN, FALCON and CoSy."""

from __future__ import annotations

import ast
import csv
import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import NamedTuple

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.text import clean_text
from line_neurons.eval.labels.files import LabelTable, read_table
from line_neurons.tools.images.skipped import Remarks
from line_neurons.tools.label_marks import UNLABELLED, describe_marks
from line_neurons.tools.store.atomic_files import write_file
from line_neurons.tools.store.columns import UNIT_COLUMNS
from line_neurons.tools.store.runs import RunStore

MAX_CONCEPT = 300
"""Characters of a concept; INVERT's formulas and MILAN's sentences are longer than LINE's three words."""

_MAX_UNIT = 10_000_000
_EVALUATED = re.compile(r"evaluation_([^_]+)_(.+)")
# File names of a method only, without model and layer.
_NAMED_BY_METHOD = re.compile(r"(best-word|clip-dissect|describe-and-dissect|invert)(-\w+)?", re.IGNORECASE)

# Columns that any file may have: LINE's, those of pandas, and those with the file's origin.
_MORE = frozenset({"", "Unnamed: 0", "layer", "model", "method", "origin", "schema"})
# Texts of missing values.
_NOTHING = frozenset({"", "nan", "none", "null", "n/a", "<na>"})

Row = Mapping[str, str]


@dataclass(frozen=True)
class Label:
    """One explanation of one unit.

    Args:
        unit: its index.
        concept: the text; for INVERT possibly a formula (``dog AND NOT cat``).
        score: the method's own (INVERT's AUC, CLIP-Dissect's similarity, LINE's score); None if it has none.
    """

    unit: int
    concept: str
    score: float | None = None


@dataclass(frozen=True)
class Labels:
    """The labels of one method for units of one layer.

    Args:
        method: ``line``, ``invert``, ``invert-3``, ``clip-dissect``, ``clip-dissect (captions)``, ``random``,
            ``initial``, ``milan``, ``falcon``, ``describe-and-dissect`` ...
        model: the target's spec; empty if a file does not name it.
        layer: path of the layer, or the part of it that a file has.
        labels: in the method's order, one a unit.
        source: id of the run, or the file.
        remarks: skipped parts of the file, a line for each reason.
        unlabelled: units that can have no label, each with the reason.
        tied: units with a second label of the same score; the first one counts.
    """

    method: str
    model: str
    layer: str
    labels: tuple[Label, ...]
    source: str
    remarks: tuple[str, ...] = ()
    unlabelled: tuple[tuple[int, str], ...] = ()
    tied: tuple[int, ...] = ()


def labels_of_run(runs: RunStore, run: str) -> Labels:
    """Return the labels of a run's finished units, in the order of the run.

    Raises:
        UsageError: there is no such run (``run`` is its id or the beginning of one), or no unit has a label yet.
    """
    found = runs.run(run)
    units = runs.units(found.id)
    labels = tuple(
        Label(unit.unit, unit.label, unit.score) for unit in units if unit.status == "finished" and unit.label
    )
    if not labels:
        raise UsageError(f"no unit of run {found.id} has a label yet", f"line resume {found.id}")
    without = tuple((unit.unit, describe_marks(unit.marks)) for unit in units if unit.status in UNLABELLED)
    return Labels("line", found.shown_model, found.layer, labels, found.id, unlabelled=without)


def read_labels(
    path: Path,
    method: str | None = None,
    layer: str | None = None,
    units_from: int | None = None,
    *,
    ask: bool = False,
) -> Labels:
    """Read the labels in a method's own file; of several rows of a unit the first counts.

    The columns tell the format. Model and layer are read from columns of these names or else from a file name such
    as CoSy's, ``resnet18-avgpool.csv`` or ``evaluation_INVERT_resnet18-avgpool.csv``. Further rows of a unit, rows
    without a label, scores that are not numbers and columns that are not read are counted in ``remarks``.

    Args:
        path: CSV, TSV, JSON or JSON lines in UTF-8, or Parquet.
        method: name of the method; None: as the format or the file name has it.
        layer: which layer of a file that has several; its last part is enough.
        units_from: number of the first unit, 0 or 1; None: 0, with a remark where the units are 1 to K.
        ask: refuse such a file where ``units_from`` is None.

    Raises:
        UsageError: the file cannot be read, has an unknown format or a row that does not fit, is of several layers
            of which none is chosen, has no row, or leaves open where its units count from.
    """
    table = read_table(path)
    remarks = Remarks()
    form = _format_of(path, table.header, remarks)
    rows = _rows_of_layer(table, layer, remarks)
    column_layer, column_model = (_single_value(path, rows, column) for column in ("layer", "model"))
    labels = _labels_by_unit(path, form, rows, remarks, spreadsheet=table.spreadsheet)
    if not labels:
        where = f" of layer {layer!r:.60}" if layer else ""
        skipped = f" ({'; '.join(remarks.lines())})" if remarks.lines() else ""
        raise UsageError(f"{path} has no label{where}{skipped}", "name a file with a row for each unit")
    if units_from is None and form.method != "line":
        _check_numbering(path, labels, remarks, ask=ask)
    if units_from and 0 in labels:
        raise UsageError(
            f"{path} has a unit 0, so its units do not count from {units_from}", "leave --units-from away"
        )
    name = _parse_name(path.stem)
    if method is None and form.method == "cosy":
        method = name.method
    return Labels(
        method=method or form.method,
        model=column_model or name.model,
        # A column may have the last part of a path only, and the file name all of it.
        layer=(name.layer if _last(name.layer) == column_layer else column_layer) or name.layer or layer or "",
        labels=tuple(replace(label, unit=label.unit - (units_from or 0)) for label in labels.values()),
        source=str(path),
        remarks=remarks.lines(),
    )


def _format_of(path: Path, header: Sequence[str], remarks: Remarks) -> LabelFormat:
    form = next((form for form in READ_FORMATS.values() if form.columns <= set(header)), None)
    if form is None:
        known = "; ".join(f"{form.method}: {', '.join(form.columns)}" for form in READ_FORMATS.values())
        raise UsageError(f"{path} has the columns of no method: {', '.join(header) or 'none':.80}", known)
    for name in header:
        if name not in form.columns | form.more | _MORE:
            remarks.add(f"column {name}", "not read")
    return form


def _rows_of_layer(table: LabelTable, layer: str | None, remarks: Remarks) -> list[tuple[int, dict[str, str]]]:
    rows = []
    for line, row in table.rows:
        if layer and row.get("layer") and not _is_same(row["layer"], layer):
            remarks.add(f"line {line}", "of another layer")
        else:
            rows.append((line, row))
    return rows


def _single_value(path: Path, rows: Sequence[tuple[int, Row]], column: str) -> str:
    values = {row.get(column, "") for _, row in rows}
    if len(values) > 1:
        shown = ", ".join(sorted(values))
        raise UsageError(f"{path} is of several {column}s: {shown:.80}", "choose one with --layer, or divide it")
    return next(iter(values), "")


def _labels_by_unit(
    path: Path,
    form: LabelFormat,
    rows: Sequence[tuple[int, dict[str, str]]],
    remarks: Remarks,
    *,
    spreadsheet: bool,
) -> dict[int, Label]:
    labels: dict[int, Label] = {}
    for line, row in rows:
        if spreadsheet and form.method == "line":
            # A text that a spreadsheet would take for a formula has an apostrophe before it.
            row["label"] = row["label"].removeprefix("'")
        if form.method == "line" and row.get("status", "finished") not in {"finished", ""}:
            # Its search has not ended: the label is only the best so far.
            remarks.add(f"line {line}", "of a unit that is not finished")
            continue
        try:
            _take(form, row, f"line {line}", labels, remarks)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            reason = clean_text(str(error), 80) or type(error).__name__
            raise UsageError(f"{path} line {line} does not fit {form.method}: {reason}", "correct it") from None
    return labels


class _FileName(NamedTuple):
    """Method, model and layer as a file name has them; empty where it does not."""

    method: str | None
    model: str
    layer: str


def _parse_name(stem: str) -> _FileName:
    evaluated = _EVALUATED.fullmatch(stem)
    method, place = (evaluated[1].casefold(), evaluated[2]) if evaluated else (None, stem)
    model, _, layer = ("", "", "") if _NAMED_BY_METHOD.fullmatch(place) else place.rpartition("-")
    return _FileName(method, model, layer if model else "")


def _take(form: LabelFormat, row: Row, where: str, labels: dict[int, Label], remarks: Remarks) -> None:
    """Read a row into the labels, or add a remark why it is skipped."""
    try:
        label = form.read(row)
    except _NoLabelError as error:
        remarks.add(where, str(error))
        return
    if any("\n" in cell for cell in row.values()):
        remarks.add(where, "a text on several lines, read as one")
    if label.score is None and (score := row.get(form.score, "").strip()):
        remarks.add(where, f"its {form.score} is {score:.20} and is ignored")
    first = labels.setdefault(label.unit, label)
    if first is not label:
        better = first.score is not None and label.score is not None and label.score > first.score
        higher = ", though this one has a higher score" if better else ""
        remarks.add(where, f"a further row of a unit, of which the first counts{higher}")


def _check_numbering(path: Path, labels: Mapping[int, Label], remarks: Remarks, *, ask: bool) -> None:
    """Add a remark on units that are 1 to K: a layer counted from 1, or from 0 without the first unit."""
    count = len(labels)
    if count < 2 or set(labels) != set(range(1, count + 1)):
        return
    if ask:
        raise UsageError(
            f"the units of {path} are 1 to {count}, which may count from 0 or from 1",
            "say which with --units-from 0 or --units-from 1",
        )
    remarks.add(f"units 1 to {count}", "read as counted from 0; if they count from 1: --units-from 1")


def write_csv(labels: Labels, path: Path, form: str) -> None:
    """Write labels in a method's format; the file is written whole or left as it was.

    Args:
        labels: the labels.
        path: the file.
        form: key of ``WRITE_FORMATS``. ``cosy`` has the columns of INVERT, CLIP-Dissect and MILAN side by side, so
            that CoSy's code can read it as any of these methods.

    Raises:
        UsageError: there is no such format, or the file cannot be written.
    """
    if form not in WRITE_FORMATS:
        raise UsageError(f"{form!r:.40} is not a form of explanations", choices(form, WRITE_FORMATS))
    columns = WRITE_FORMATS[form]
    layer = _last(labels.layer)
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(columns)
    for label in labels.labels:
        score = "" if label.score is None else repr(label.score)
        cells = {"unit": label.unit, "concept": label.concept, "score": score, "layer": layer, "": ""}
        writer.writerow([cells[what] for what in columns.values()])
    write_file(path, written.getvalue().encode())


def _last(layer: str) -> str:
    return layer.rpartition(".")[2]


def _is_same(first: str, second: str) -> bool:
    """Return whether one path of a layer is the end of the other."""
    return first == second or first.endswith(f".{second}") or second.endswith(f".{first}")


class _NoLabelError(Exception):
    """A row has no label for its unit."""


def _unit(text: str) -> int:
    unit = int(text)
    if not 0 <= unit <= _MAX_UNIT:
        raise ValueError(f"{unit} is no index of a unit")
    return unit


def _concept(text: str) -> str:
    concept = clean_text(text, MAX_CONCEPT).strip()
    if concept.casefold() in _NOTHING:
        raise _NoLabelError("it has no concept")
    return concept


def _score(text: str) -> float | None:
    if not text.strip():
        return None
    score = float(text)
    return score if math.isfinite(score) else None


def _falcon(row: Row) -> Label:
    """Read the first of a list of phrases with similarities, a Python literal."""
    if "," in row["group"]:
        raise _NoLabelError("of a group of units, which has no label for each of them")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        phrases = ast.literal_eval(row["concept_set_noun_phrases"])
    match phrases:
        case []:
            raise _NoLabelError("it has no concept")
        case [(str(phrase), int(similarity) | float(similarity)), *_]:
            return Label(_unit(row["group"]), _concept(phrase), _score(str(similarity)))
    raise ValueError("concept_set_noun_phrases is no list of phrases with similarities")


def _own(row: Row) -> Label:
    """Read a row of ``line export``."""
    if not row["label"]:
        raise _NoLabelError("a unit without a label yet")
    return Label(_unit(row["unit"]), _concept(row["label"]), _score(row["score"]))


def _plain(unit: str, concept: str, score: str = "") -> Callable[[Row], Label]:
    return lambda row: Label(_unit(row[unit]), _concept(row[concept]), _score(row[score]) if score else None)


def _milan(row: Row) -> Label:
    return Label(_unit(row["unit"]), _concept(row["description"]).lower())


@dataclass(frozen=True)
class LabelFormat:
    """The format of a method's file.

    Args:
        columns: the columns that identify it.
        read: reads a row; raises ``_NoLabelError`` where it has no label.
        score: the column of the score, if there is one.
        more: further columns of the method, which are not read.
    """

    method: str
    columns: frozenset[str]
    read: Callable[[Row], Label]
    score: str = ""
    more: frozenset[str] = frozenset()


READ_FORMATS: dict[str, LabelFormat] = {
    form.method: form
    for form in (
        LabelFormat("line", frozenset({"run", "unit", "label", "score"}), _own, "score", frozenset(UNIT_COLUMNS)),
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

WRITE_FORMATS: dict[str, dict[str, str]] = {
    "cosy": {
        "neuron": "unit", "concept": "concept", "concept_id": "", "metric": "score",
        "layer": "layer", "unit": "unit", "description": "concept", "similarity": "score",
    },
    "invert": {"neuron": "unit", "concept": "concept", "concept_id": "", "metric": "score"},
    "clip-dissect": {"layer": "layer", "unit": "unit", "description": "concept", "similarity": "score"},
    "milan": {"layer": "layer", "unit": "unit", "description": "concept"},
}  # fmt: skip
"""Formats that are written: the value of each column."""


def short_sources(sources: Sequence[str]) -> list[str]:
    """Shorten paths of runs and files to the last folders that tell them apart."""
    parts = [PurePath(source).parts for source in sources]

    def shortest(own: tuple[str, ...]) -> tuple[str, ...]:
        others = {other for other in parts if other != own}
        tails = (own[-count:] for count in range(1, len(own)))
        return next((tail for tail in tails if all(other[-len(tail) :] != tail for other in others)), own)

    return [str(PurePath(*shortest(own))) for own in parts]
