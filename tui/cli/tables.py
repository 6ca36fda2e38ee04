"""Layout of tables: whole lines in a pipe, and columns that fit the width of a terminal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

_GAP = "   "
_EDGES = 2
_SHARE = 2 / 3
"""Share of its width below which a column is not cut while another one can be left out."""
_SHORT = 12
"""Width of a text that is not cut unless all are."""
_LEAST = (30, 12, 6)
"""Widths to which columns may be cut, one after the other, until the table fits."""


@dataclass(frozen=True)
class Column:
    """A column of a table, as text.

    Args:
        number: aligned to the right, and never cut.
        whole: never cut.
        wrap: continued on further lines, between words, instead of being cut.
    """

    heading: str
    cells: Sequence[str]
    number: bool = False
    whole: bool = False
    wrap: bool = False

    @property
    def width(self) -> int:
        """Width of its widest cell."""
        return max(map(cell_len, (self.heading, *self.cells)))

    def least(self, width: int) -> int:
        """Width that it keeps where columns are cut to a width."""
        if self.number or self.whole:
            return self.width
        return min(self.width, max(cell_len(self.heading), min(width, max(_SHORT, ceil(_SHARE * self.width)))))


def fitting(columns: Sequence[Column], width: int, drop: Sequence[str]) -> tuple[list[Column], list[int]]:
    """Return the columns that fit a width, with their widths.

    Args:
        width: number of characters in a line.
        drop: headings of columns that may be left out, the first one first.
    """
    left = list(columns)
    for heading in drop:
        if sum(column.least(_LEAST[0]) for column in left) <= _room(left, width):
            break
        left = [column for column in left if column.heading != heading]
    widths = [column.width for column in left]
    for least in _LEAST:
        flexible = [index for index, column in enumerate(left) if column.least(least) < widths[index]]
        # The widest column gives up a character at a time, so that short ones stay whole.
        while flexible and sum(widths) > _room(left, width):
            widest = max(flexible, key=lambda index: widths[index])
            widths[widest] -= 1
            if widths[widest] <= left[widest].least(least):
                flexible.remove(widest)
    return left, widths


def _room(columns: Sequence[Column], width: int) -> int:
    return width - _EDGES - len(_GAP) * (len(columns) - 1)


def lines_of(columns: Sequence[Column], widths: Sequence[int], console: Console) -> list[str]:
    """Return the lines of a table: headings, a rule, and the rows."""
    ascii_only = console.options.ascii_only
    ellipsis, dash = ("...", "-") if ascii_only else ("…", "─")
    lines = [_line([[column.heading] for column in columns], columns, widths)]
    lines.append(f" {dash * (sum(widths) + len(_GAP) * (len(widths) - 1))}")
    for row in zip(*(column.cells for column in columns), strict=True):
        cells = [_cell(*part, ellipsis, console) for part in zip(row, columns, widths, strict=True)]
        lines.append(_line(cells, columns, widths))
    return lines


def _line(cells: Sequence[Sequence[str]], columns: Sequence[Column], widths: Sequence[int]) -> str:
    """Return the lines of a row, each cell given as its lines."""
    rows = []
    for number in range(max(map(len, cells))):
        parts = []
        for cell, column, width in zip(cells, columns, widths, strict=True):
            text = cell[number] if number < len(cell) else ""
            gap = " " * (width - cell_len(text))
            parts.append(gap + text if column.number else text + gap)
        rows.append(f" {_GAP.join(parts)}".rstrip())
    return "\n".join(rows)


def _cell(text: str, column: Column, width: int, ellipsis: str, console: Console) -> list[str]:
    """Return the lines of a cell, none of them wider than its column."""
    if cell_len(text) <= width or column.whole or column.number:
        return [text]
    if column.wrap:
        return [part.plain.rstrip() for part in Text(text).wrap(console, width)]
    return [_SHORTER.get(column.heading, _cut)(text, width, ellipsis)]


def _cut(text: str, width: int, ellipsis: str) -> str:
    return set_cell_size(text, max(0, width - len(ellipsis))).rstrip() + ellipsis


def _end(text: str, width: int, ellipsis: str) -> str:
    """Keep the end of a dotted path, which tells layers apart."""
    return ellipsis + text[-max(1, width - len(ellipsis)) :]


def _model(text: str, width: int, ellipsis: str) -> str:
    """Leave out the version of the weights, then the source, before a model's name is cut."""
    name = text.partition("@")[0]
    shorter = next((form for form in (name, name.partition(":")[2]) if form and cell_len(form) <= width), name)
    return shorter if cell_len(shorter) <= width else _cut(name.partition(":")[2] or name, width, ellipsis)


_SHORTER: Mapping[str, Callable[[str, int, str], str]] = {"layer": _end, "model": _model, "target": _model}


def columns_of(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    *,
    whole: Collection[str] = (),
    wrap: Collection[str] = (),
) -> list[Column]:
    """Return the columns of a table; the first one is never cut."""
    cells = list(zip(*rows, strict=True)) or [()] * len(headings)
    return [
        Column(heading, column, number, number_of == 0 or heading in whole, heading in wrap)
        for number_of, (heading, column, number) in enumerate(zip(headings, cells, numeric, strict=True))
    ]
