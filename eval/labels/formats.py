"""Read and write labels in the formats of LINE, INVERT, CLIP-Dissect, MILAN, FALCON, PRISM and CoSy."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import NamedTuple

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.text import clean_text
from line_neurons.eval.labels.columns import (
    READ_FORMATS,
    SEVERAL_LABELS,
    WRITE_FORMATS,
    LabelFormat,
    NoLabelError,
    Row,
)
from line_neurons.eval.labels.files import LabelTable, read_table
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.tools.images.skipped import Remarks
from line_neurons.tools.store.atomic_files import write_file

_EVALUATED = re.compile(r"evaluation_([^_]+)_(.+)")
# File names of a method only, without model and layer.
_NAMED_BY_METHOD = re.compile(r"(best-word|clip-dissect|describe-and-dissect|invert)(-\w+)?", re.IGNORECASE)

# Columns that any file may have: LINE's, those of pandas, and those with the file's origin.
_MORE = frozenset({"", "Unnamed: 0", "layer", "model", "method", "origin", "schema", "facet"})


def read_labels(
    path: Path,
    method: str | None = None,
    layer: str | None = None,
    units_from: int | None = None,
    *,
    ask: bool = False,
    facets: bool = False,
) -> Labels:
    """Read the labels in a method's own file; of several rows of a unit the first counts.

    The others are its further facets where the file has a column ``facet``, is one of PRISM's, or ``facets`` is
    set; the same label twice is one facet.

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
    keep = facets or form.facets or "facet" in table.header
    by_unit = _labels_by_unit(path, form, rows, remarks, keep=keep, spreadsheet=table.spreadsheet)
    labels = {unit: several[0] for unit, several in by_unit.items()}
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
        labels=_counted_from(labels.values(), units_from),
        source=str(path),
        remarks=remarks.lines(),
        further=_counted_from((label for several in by_unit.values() for label in several[1:]), units_from),
    )


def _counted_from(labels: Iterable[Label], first: int | None) -> tuple[Label, ...]:
    return tuple(replace(label, unit=label.unit - (first or 0)) for label in labels)


def _format_of(path: Path, header: Sequence[str], remarks: Remarks) -> LabelFormat:
    form = next((form for form in READ_FORMATS.values() if form.columns <= set(header)), None)
    if form is None:
        known = "; ".join(f"{form.method}: {', '.join(sorted(form.columns))}" for form in READ_FORMATS.values())
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
    keep: bool,
    spreadsheet: bool,
) -> dict[int, list[Label]]:
    """Return the labels of each unit; only the first where ``keep`` is not set."""
    labels: dict[int, list[Label]] = {}
    for line, row in rows:
        if spreadsheet and form.method == "line":
            # A text that a spreadsheet would take for a formula has an apostrophe before it.
            row["label"] = row["label"].removeprefix("'")
        if form.method == "line" and row.get("status", "finished") not in {"finished", ""}:
            # Its search has not ended: the label is only the best so far.
            remarks.add(f"line {line}", "of a unit that is not finished")
            continue
        try:
            _take(form, row, f"line {line}", labels, remarks, keep=keep)
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


def _take(
    form: LabelFormat, row: Row, where: str, labels: dict[int, list[Label]], remarks: Remarks, *, keep: bool
) -> None:
    """Read a row into the labels, or add a remark why it is skipped."""
    try:
        label = form.read(row)
    except NoLabelError as error:
        remarks.add(where, str(error))
        return
    if any("\n" in cell for cell in row.values()):
        remarks.add(where, "a text on several lines, read as one")
    if label.score is None and (score := row.get(form.score, "").strip()):
        remarks.add(where, f"its {form.score} is {score:.20} and is ignored")
    known = labels.setdefault(label.unit, [])
    if not known:
        known.append(label)
    elif any(other.concept == label.concept for other in known) and keep:
        remarks.add(where, "the same label of a unit again, which is one facet")
    elif keep:
        known.append(replace(label, facet=len(known)))
    else:
        first = known[0]
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
    writer = csv.writer(written, lineterminator="\r\n" if form == "prism" else "\n")
    writer.writerow(columns)
    for label in labels.every if form in SEVERAL_LABELS else labels.labels:
        score = "" if label.score is None else repr(label.score)
        cells = {"unit": label.unit, "concept": label.concept, "score": score, "layer": layer, "": ""}
        cells |= {"highlights": label.highlights, "text": label.text or label.concept}
        writer.writerow([cells[what] for what in columns.values()])
    write_file(path, written.getvalue().encode())


def _last(layer: str) -> str:
    return layer.rpartition(".")[2]


def _is_same(first: str, second: str) -> bool:
    """Return whether one path of a layer is the end of the other."""
    return first == second or first.endswith(f".{second}") or second.endswith(f".{first}")


def short_sources(sources: Sequence[str]) -> list[str]:
    """Shorten paths of runs and files to the last folders that tell them apart."""
    parts = [PurePath(source).parts for source in sources]

    def shortest(own: tuple[str, ...]) -> tuple[str, ...]:
        others = {other for other in parts if other != own}
        tails = (own[-count:] for count in range(1, len(own)))
        return next((tail for tail in tails if all(other[-len(tail) :] != tail for other in others)), own)

    return [str(PurePath(*shortest(own))) for own in parts]
