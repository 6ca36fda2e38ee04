"""Output of the command: tables and lines on a terminal, JSON for programs.

Text from a model, a file or the store is data: it is printed without markup and without control sequences.
Everything the command prints goes through this module, or through the bars of ``progress``.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import ASCII2, SIMPLE_HEAD, Box
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from line_neurons.agent.errors import LineError
from line_neurons.agent.text import MAX_COMBINING_MARKS, clean_text
from line_neurons.tui.formatting import MAX_CELL, MISSING, Estimate, plain

_WIDE = 160
# Tables of more rows are printed row by row.
_MANY = 500
_REMARKS = 10
_BEYOND_ASCII = re.compile(r"[^ -~\n]+")


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    # A pipe or a file has no terminal width to cut lines to.
    width = None if stream and stream.isatty() else _WIDE
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


out = _console(stderr=False)
err = _console(stderr=True)


_NUMERIC = (int, float, Estimate)
"""Types of numbers in a cell."""


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table; columns with numbers are right-aligned."""
    cells = list(rows)
    numeric = [
        any(isinstance(row[index], int | float | Estimate) for row in cells) for index in range(len(headings))
    ]
    shown = [
        [
            MISSING if cell is None and is_number else plain(cell)
            for cell, is_number in zip(row, numeric, strict=True)
        ]
        for row in cells
    ]
    many = _lines_of_many(headings, numeric, shown, title) if len(shown) > _MANY else None
    if many is None:
        out.print(_table(headings, numeric, shown, title))
    else:
        out.print(Segments([Segment("\n".join([*many, ""]))]), crop=False)


def _table(
    headings: Sequence[str],
    numeric: Sequence[bool],
    rows: Iterable[Sequence[str]],
    title: str = "",
    box: Box = SIMPLE_HEAD,
) -> Table:
    shown = Table(
        title=Text(plain(title), style="bold") if title else None,
        title_justify="left",
        box=box,
        pad_edge=False,
    )
    for heading, number in zip(headings, numeric, strict=True):
        shown.add_column(heading, justify="right" if number else "left", overflow="fold", no_wrap=number)
    for row in rows:
        shown.add_row(*map(Text, row))
    return shown


def _lines_of_many(
    headings: Sequence[str], numeric: Sequence[bool], rows: Sequence[Sequence[str]], title: str
) -> list[str] | None:
    """Return the lines that rich would print of a long table; rich itself takes a millisecond per row.

    None: rich must print it, since the table is too wide or the terminal lacks line characters.
    """
    # The widest cell and the longest word decide the width of a column.
    columns = [set(column) for column in zip(*rows, strict=True)]
    decisive = [max(column, key=cell_len) for column in columns], [max(column, key=_longest) for column in columns]
    edge = _rendered(_table(headings, numeric, decisive, box=ASCII2))[0].strip()
    # Cells have a blank on either side, except at the edges of the table.
    widths = [len(span) - 2 for span in f"-{edge[1:-1]}-".split("+")]
    if out.options.ascii_only or edge[-1] != "+" or len(widths) != len(headings) or min(widths) < 1:
        return None
    *lines, foot = _rendered(_table(headings, numeric, decisive, title))
    rule = next(index for index, line in enumerate(lines) if set(line.strip()) == {"─"})
    body = lines[: rule + 1]
    for row in rows:
        cells = [_folded(*cell) for cell in zip(row, widths, numeric, strict=True)]
        for number in range(max(map(len, cells))):
            parts = (
                cell[number] if number < len(cell) else " " * width
                for cell, width in zip(cells, widths, strict=True)
            )
            body.append(f" {'   '.join(parts)} ")
    return [*body, foot]


def _longest(cell: str) -> int:
    return max(map(cell_len, cell.split()), default=0)


def _folded(cell: str, width: int, number: bool) -> list[str]:
    """Return the lines of a cell, each as wide as its column."""
    wide = cell_len(cell)
    if wide <= width:
        gap = " " * (width - wide)
        return [gap + cell if number else cell + gap]
    options = out.options.update(
        width=width, height=None, justify="right" if number else "left", overflow="fold", no_wrap=number
    )
    return ["".join(part.text for part in line) for line in out.render_lines(Text(cell), options)]


def _rendered(shown: Table) -> list[str]:
    """Return the lines of a table as they are printed."""
    with out.capture() as captured:
        out.print(shown)
    return captured.get().removesuffix("\n").split("\n")


def line(text: str, style: str = "", lead: str = "") -> None:
    """Print a line, its data cleaned, after a lead that keeps its spaces."""
    out.print(Text(lead + clean_text(text, MAX_CELL), style=style), soft_wrap=True)


def note(text: str) -> None:
    """Print a line on standard error."""
    err.print(Text(clean_text(text, MAX_CELL)), soft_wrap=True)


def remarks(what: str, lines: Sequence[str]) -> None:
    """Print on standard error what was left out of an input; at most ten lines."""
    for line in lines[:_REMARKS]:
        note(f"{what}: {line}")
    if len(lines) > _REMARKS:
        note(f"{what}: {len(lines) - _REMARKS} more of this kind")


def dump(value: Any) -> None:
    """Print JSON; control characters and piled-up marks are escaped."""
    unicode = (sys.stdout.encoding or "").lower() in {"utf-8", "utf8"}
    text = json.dumps(value, indent=2, ensure_ascii=not unicode, default=_plain_json)
    sys.stdout.write(_BEYOND_ASCII.sub(_escaped, text) + "\n")


def _escaped(found: re.Match[str]) -> str:
    written, marks = [], 0
    for character in found[0]:
        marks = marks + 1 if unicodedata.category(character) in {"Mn", "Me"} else 0
        shown = character.isprintable() and marks <= MAX_COMBINING_MARKS
        written.append(character if shown else json.dumps(character)[1:-1])
    return "".join(written)


def complain(error: LineError) -> None:
    """Print an error and its remedy as one line on standard error."""
    message = Text("error: ", style="bold red")
    message.append(clean_text(str(error), MAX_CELL), style="")
    err.print(message, soft_wrap=True)


def trace(error: BaseException) -> None:
    """Print the traceback of an error on standard error."""
    notes("".join(traceback.format_exception(error)))


def notes(text: str) -> None:
    """Print lines on standard error, each cleaned, with their indents."""
    for text_line in text.removesuffix("\n").split("\n"):
        indent = " " * (len(text_line) - len(text_line.lstrip(" ")))
        err.print(Text(indent + clean_text(text_line, MAX_CELL)), soft_wrap=True)


def _plain_json(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)
    return str(value)
