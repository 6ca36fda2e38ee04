"""Tables and figures of a report, written into a folder as CSV, Markdown, PNG and SVG."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, isnan, nan
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.text import MAX_CELL, clean_text, short_score, spreadsheet_cell
from line_neurons.eval.reports.statistics import MIN_INTERVAL_VALUES, PairedTest, Summary, holm_correction
from line_neurons.tools.store.atomic_files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKUP = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_<>|#"})

_HEADINGS = {
    "asked": "command",
    "what came of it": "outcome",
    "not drawable": "without images",
    "questions": "requests",
    "drawable": "generated",
    "steps without any": "stalled steps",
    "seconds of a question": "seconds per request",
}
"""Headings for people, where those of CSV and JSON are of earlier versions."""

Row = Sequence[Any]


@dataclass(frozen=True)
class Table:
    """A table with unrounded values.

    Args:
        name: stem of its file.
        rows: numbers, texts, or None for an empty cell.
        note: how to read it.
        files_only: columns that are too wide for a screen.
    """

    name: str
    title: str
    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""
    files_only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """The result of a command of ``line eval``.

    Args:
        name: stem of its Markdown file.
        figures: functions that draw the figures, by stem of their files; called only where they are written.
    """

    name: str
    title: str
    tables: tuple[Table, ...]
    figures: dict[str, Callable[[], Figure]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def number(value: float | None, signed: bool = False) -> str:
    """Format a number with three digits; a dash for nan and None."""
    if value is None or isnan(value):
        return "–"  # noqa: RUF001 - what typesetters put there
    return ("+" if signed and value > 0 else "") + short_score(value)


def p_value(p: float) -> str:
    """Format a p-value as papers print it."""
    if isnan(p):
        return "–"  # noqa: RUF001
    return "< .0001" if p < 0.0001 else f"{p:.2g}"


SUMMARY_COLUMNS = ("mean", "sd", "low", "high")
"""Columns of ``summary_cells``; low and high end the 95 % interval, nan below ``MIN_INTERVAL_VALUES`` values."""
INTERVAL_NOTE = (
    f"Means have a 95 % bootstrap interval from {MIN_INTERVAL_VALUES} values on; below, they are too few for one."
)
PAIRED_COLUMNS = ("difference", "low", "high", "normality p", "test", "p", "effect")
"""Columns of ``paired_cells``."""
TEST_COLUMNS = ("n", *PAIRED_COLUMNS, "Holm p")
"""The last columns of ``tested_rows``."""


def summary_cells(summary: Summary) -> tuple[float, ...]:
    """Return a summary as cells of a table."""
    return summary.mean, summary.sd, summary.low, summary.high


def paired_cells(paired: PairedTest) -> tuple[Any, ...]:
    """Return a comparison as cells of a table."""
    difference = paired.difference
    test = {"t": "paired t", "wilcoxon": "Wilcoxon", "none": "none"}[paired.test]
    return difference.mean, difference.low, difference.high, paired.normality, test, paired.p, paired.effect


def tested_rows(compared: Sequence[tuple[tuple[Any, ...], PairedTest]]) -> list[Row]:
    """Return comparisons, each after its first cells, as rows with Holm's correction over all of them."""
    corrected = holm_correction([paired.p for _, paired in compared])
    return [
        (*difference, paired.difference.n, *paired_cells(paired), p)
        for (difference, paired), p in zip(compared, corrected, strict=True)
    ]


def as_csv(table: Table) -> bytes:
    """Return a table as CSV in UTF-8, with numbers to the last digit and empty cells for nan and None."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(table.headings)
    writer.writerows([spreadsheet_cell(_known(value)) for value in row] for row in table.rows)
    return written.getvalue().encode()


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


def display_text(heading: str, value: Any) -> str:
    """Format a value for people."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return p_value(value) if heading == "p" or heading.endswith(" p") else number(value)
    return clean_text(str(value), MAX_CELL)


def compact(table: Table) -> Table:
    """Return a table for people: an estimate with its deviation and interval in one cell, and plain headings."""
    columns: list[tuple[str, Callable[[Row], Any]]] = []
    headings, at = table.headings, 0
    while at < len(headings):
        prefix, _, last = headings[at].rpartition(" ")
        prefix = f"{prefix} " if prefix else ""
        if last == "mean" and headings[at + 1 : at + 4] == tuple(prefix + name for name in SUMMARY_COLUMNS[1:]):
            columns.append((f"{headings[at]} ± sd [95 %]", _joined(at, 1)))
            at += 4
        elif headings[at + 1 : at + 3] == (f"{prefix}low", f"{prefix}high"):
            columns.append((f"{headings[at]} [95 %]", _joined(at, 0)))
            at += 3
        else:
            columns.append((headings[at], itemgetter(at)))
            at += 1
    rows = tuple(tuple(cell(row) for _, cell in columns) for row in table.rows)
    return replace(table, headings=tuple(_HEADINGS.get(name, name) for name, _ in columns), rows=rows)


def _joined(at: int, deviations: int) -> Callable[[Row], str | None]:
    def join(row: Row) -> str | None:
        mean, *deviation, low, high = row[at : at + 3 + deviations]
        if mean is None:
            return None
        spread = "".join(f" ± {number(value)}" for value in deviation)
        if isnan(mean):
            return number(mean)
        interval = "too few" if isnan(low) and isnan(high) else f"{number(low)}, {number(high)}"
        return f"{number(mean)}{spread} [{interval}]"

    return join


def as_markdown(report: Report, level: int = 1) -> str:
    """Return a report as Markdown with its tables and links to its figures; labels are escaped."""
    lines = [f"{'#' * level} {_text(report.title)}", ""]
    for table in map(compact, report.tables):
        numeric = [any(isinstance(row[i], int | float) for row in table.rows) for i in range(len(table.headings))]
        lines += [f"{'#' * (level + 1)} {_text(table.title)}", ""]
        lines.append(f"| {' | '.join(map(_text, table.headings))} |")
        lines.append(f"|{'|'.join('---:' if right else '---' for right in numeric)}|")
        for row in table.rows:
            cells = (
                _text(display_text(heading, value)) for heading, value in zip(table.headings, row, strict=True)
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", *([_text(table.note), ""] if table.note else [])]
    lines += [line for name in report.figures for line in (f"![{_text(name)}]({name}.png)", "")]
    lines += [line for note in report.notes for line in (_text(note), "")]
    return "\n".join(lines)


def _text(text: str) -> str:
    return clean_text(text, MAX_CELL).translate(_MARKUP).replace("](", "]\\(")


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write a report's tables as CSV, its figures as PNG and SVG, and all of it as Markdown; each file whole.

    Args:
        folder: created if needed; files of the same names are replaced.

    Returns:
        the files.

    Raises:
        UsageError: the folder cannot be written to.
        MissingPartError: matplotlib is not installed, and there are figures.
    """
    contents = {f"{table.name}.csv": as_csv(table) for table in report.tables}
    if report.figures:
        from line_neurons.eval.reports.figures import rendered

        for name, draw in report.figures.items():
            contents |= {f"{name}.{kind}": data for kind, data in rendered(draw).items()}
    contents[f"{report.name}.md"] = as_markdown(report).encode()
    return [write_file(folder / name, content) for name, content in contents.items()]


def as_float(value: object) -> float:
    """Return a number of a record; nan where it is missing."""
    return float(value) if isinstance(value, int | float) else nan
