"""Columns of the table of units: cells, sort keys and widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from rich.cells import cell_len, set_cell_size

from line_neurons.agent.loop import NODES
from line_neurons.agent.text import short_score
from line_neurons.tools.store.activity import Activity
from line_neurons.tui.app.units.model import STATES, UnitLine
from line_neurons.tui.formatting import bar, duration

_STATE_RANK = {state: rank for rank, state in enumerate(STATES)}


class RowContext(NamedTuple):
    """What a cell shows besides the unit's line.

    ``activity`` is the unit's current node, ``trend`` its best score after each step, ``scale`` the lowest and
    the highest score of all bars.
    """

    activity: Activity | None
    trend: tuple[float, ...]
    scale: tuple[float, float]


class CellPart(NamedTuple):
    """A part of a cell with the name of its style; empty for the style of the row."""

    text: str
    style: str = ""


Cell = Callable[[UnitLine, RowContext, int], Sequence[CellPart]]


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        key: its name in messages and menus.
        min_width: the least width, in cells.
        max_width: the largest useful width, in cells.
        cell: the parts of a unit's cell for a width.
        order: the sort key; None comes last. Without ``order`` the column cannot be sorted.
    """

    key: str
    heading: str
    min_width: int
    max_width: int
    cell: Cell
    order: Callable[[UnitLine], Any] | None = None
    right: bool = False


def number(value: float | None) -> str:
    """Format a number with three digits, one if it is very small; empty for None."""
    if value is None:
        return ""
    return f"{value:.0e}" if 0 < abs(value) < 0.001 else short_score(value)


def state_text(line: UnitLine, activity: Activity | None) -> str:
    """Return a unit's state or, while it runs, its node and step."""
    if activity is None or line.state != "running":
        return line.state
    # The row may be of a version that has other nodes.
    word = NODES[activity.node].word if activity.node in NODES else activity.node
    return f"{word:.12} {activity.step}/{activity.steps}"


def _score(line: UnitLine, context: RowContext, width: int) -> Sequence[CellPart]:
    text = f"{number(line.score):>6.6}"
    room = width - len(text) - 1
    if room < 3 or line.score is None:
        return [CellPart(text)]
    return [CellPart(text + " "), CellPart(bar(line.score, *context.scale, room).ljust(room), "bar")]


_LEVELS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw values as characters of eight heights from zero; too many values are subsampled."""
    if not values:
        return ""
    if len(values) > width:
        values = [values[(place + 1) * len(values) // width - 1] for place in range(width)]
    low, high = min(0.0, *values), max(0.0, *values)
    step = (high - low) / (len(_LEVELS) - 1)
    return "".join(_LEVELS[round((value - low) / step) if step > 0 else 0] for value in values)


def _state(line: UnitLine, context: RowContext, width: int) -> Sequence[CellPart]:
    return [CellPart(f"{STATES[line.state]} {state_text(line, context.activity)}", line.state)]


def _text_cell(field: str, style: str = "") -> Cell:
    of = attrgetter(field)
    return lambda line, context, width: [CellPart(of(line), style)]


def _number_cell(field: str, show: Callable[[Any], str] = number) -> Cell:
    of = attrgetter(field)
    return lambda line, context, width: [CellPart("" if of(line) is None else show(of(line)))]


def _label(line: UnitLine, context: RowContext, width: int) -> Sequence[CellPart]:
    if line.best and not line.label and context.activity is None:
        return [CellPart(f"{line.best:.100}…", "quiet")]
    if line.label or context.activity is None or not context.activity.best:
        if not line.marks:
            return [CellPart(line.label)]
        # The sign comes first, so that a narrow column does not hide it.
        sign, place = "! ", len(line.label)
        text = fit_text(f"{line.label}  {line.marks}", width - len(sign))
        return [CellPart(sign, "interrupted"), CellPart(text[:place]), CellPart(text[place:], "quiet")]
    # The best concept so far is not a label yet.
    return [CellPart(f"{context.activity.best:.100}…", "quiet")]


UNIT = Column("unit", "unit", 6, 6, _number_cell("unit", str), attrgetter("unit"), right=True)
NAME = Column("name", "name", 12, 20, _text_cell("name"), lambda line: line.name.casefold() or None)
LABEL = Column("label", "label", 17, 36, _label, lambda line: line.label.casefold() or None)
SCORE = Column("score", "score", 11, 23, _score, attrgetter("score"))
MARGIN = Column("margin", "margin", 7, 7, _number_cell("margin"), attrgetter("margin"), right=True)
AUC = Column("auc", "AUC", 6, 6, _number_cell("auc", lambda auc: f"{auc:.3f}"), attrgetter("auc"), right=True)
MAD = Column("mad", "MAD", 6, 6, _number_cell("mad"), attrgetter("mad"), right=True)
ORIGIN = Column("origin", "origin", 19, 22, _text_cell("origin"), lambda line: line.origin or None)
TREND = Column(
    "trend", "trend", 8, 14, lambda line, context, width: [CellPart(sparkline(context.trend, width), "bar")]
)
STEPS = Column("steps", "steps", 6, 6, _number_cell("steps", str), attrgetter("steps"), right=True)
SECONDS = Column("seconds", "time", 8, 8, _number_cell("seconds", duration), attrgetter("seconds"), right=True)
STATE = Column("state", "state", 15, 19, _state, lambda line: _STATE_RANK[line.state])

FACETS = Column("facets", "facets", 6, 6, _number_cell("facets", str), attrgetter("facets"), right=True)
POLYSEMANTICITY = Column(
    "polysemanticity", "polysem.", 10, 10, _number_cell("polysemanticity", lambda value: f"{value:.2f}"),
    attrgetter("polysemanticity"), right=True,
)  # fmt: skip

COLUMNS = (
    UNIT, NAME, LABEL, SCORE, TREND, MARGIN, AUC, MAD, FACETS, POLYSEMANTICITY, ORIGIN, STEPS, SECONDS, STATE,
)  # fmt: skip
"""All columns, from left to right."""

SORTABLE = tuple(column for column in COLUMNS if column.order)

_WANTED = (
    UNIT, LABEL, SCORE, STATE, POLYSEMANTICITY, FACETS, MARGIN, NAME, AUC, TREND, ORIGIN, STEPS, MAD, SECONDS,
)  # fmt: skip


def fit_columns(width: int, *, named: bool, facets: bool = False) -> list[tuple[Column, int]]:
    """Choose columns for a width in cells, each with its width, from left to right.

    Args:
        width: available cells, including one after each column.
    """
    absent = {*((NAME,) if not named else ()), *((FACETS, POLYSEMANTICITY) if not facets else ())}
    widths: dict[str, int] = {}
    left = width
    for column in _WANTED:
        if column in absent:
            continue
        if left >= column.min_width + 1 or column is UNIT:
            widths[column.key] = column.min_width
            left -= column.min_width + 1
    # The rest goes to the columns that can use it.
    for column in (STATE, NAME, LABEL, SCORE, ORIGIN, TREND):
        if column.key in widths:
            more = max(min(column.max_width - column.min_width, left), 0)
            widths[column.key] += more
            left -= more
    if LABEL.key in widths:
        widths[LABEL.key] += max(left, 0)
    return [(column, widths[column.key]) for column in COLUMNS if column.key in widths]


def fit_text(text: str, width: int, *, right: bool = False) -> str:
    """Cut text with an ellipsis, or pad it, to a width in cells."""
    if cell_len(text) > width:
        return set_cell_size(text, max(width - 1, 0)) + "…"
    filling = " " * (width - cell_len(text))
    return filling + text if right else text + filling


def sort_lines(lines: Sequence[UnitLine], column: Column, *, descending: bool) -> list[UnitLine]:
    """Sort units by a column, stably; units without a value come last in both directions."""
    order = column.order
    if order is None:
        return list(lines)
    # No pair is created for each line: the garbage collector would cost more than the sorting.
    keys = list(map(order, lines))
    known = [place for place, key in enumerate(keys) if key is not None]
    known.sort(key=keys.__getitem__, reverse=descending)
    result = [lines[place] for place in known]
    if len(result) < len(lines):
        result += [line for line, key in zip(lines, keys, strict=True) if key is None]
    return result
