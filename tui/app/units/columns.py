"""The columns of a table of units: what each shows, how it is sorted, and which of them there is room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from rich.cells import cell_len, set_cell_size

from line_neurons.agent.loop import NODES
from line_neurons.agent.text import format_score
from line_neurons.tools.store.activity import Activity
from line_neurons.tui.app.units.model import STATES, UnitLine
from line_neurons.tui.formatting import bar, duration

_STATE_RANK = {state: rank for rank, state in enumerate(STATES)}


class Around(NamedTuple):
    """What a cell shows beside the unit's own line.

    ``doing`` is what the unit does now, ``trend`` its best score after each step, ``top`` the score of
    a full bar.
    """

    doing: Activity | None
    trend: tuple[float, ...]
    top: float


class Piece(NamedTuple):
    """A part of a cell with the name of its look; empty for the look of the row."""

    text: str
    look: str = ""


Cell = Callable[[UnitLine, Around, int], Sequence[Piece]]


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        key: its name in messages and menus.
        heading: what stands above it.
        least: cells that it needs.
        most: cells that it can use.
        cell: the pieces of a unit's cell, given its width; cut or filled up to it.
        order: what it is sorted by; None comes last; no ``order``: it cannot be sorted.
        right: numbers stand to the right.
    """

    key: str
    heading: str
    least: int
    most: int
    cell: Cell
    order: Callable[[UnitLine], Any] | None = None
    right: bool = False


def number(value: float | None) -> str:
    """A number with three digits, or one where it is very small; nothing for None."""
    if value is None:
        return ""
    return f"{value:.0e}" if 0 < abs(value) < 0.001 else format_score(value)


def state_text(line: UnitLine, doing: Activity | None) -> str:
    """A unit's state as a word or, of one in flight, its node and step."""
    if doing is None or line.state != "running":
        return line.state
    # The row may be of a version that has other nodes.
    word = NODES[doing.node].word if doing.node in NODES else doing.node
    return f"{word:.12} {doing.step}/{doing.steps}"


def _score(line: UnitLine, around: Around, width: int) -> Sequence[Piece]:
    text = f"{number(line.score):>6.6}"
    room = width - len(text) - 1
    if room < 3 or line.score is None:
        return [Piece(text)]
    return [Piece(text + " "), Piece(bar(line.score, 0, around.top, room).ljust(room), "bar")]


_LEVELS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """Values as signs of eight heights between the least and the greatest; the last of each part of many."""
    if not values:
        return ""
    if len(values) > width:
        values = [values[(place + 1) * len(values) // width - 1] for place in range(width)]
    low, high = min(values), max(values)
    step = (high - low) / (len(_LEVELS) - 1)
    return "".join(_LEVELS[round((value - low) / step) if step > 0 else 0] for value in values)


def _state(line: UnitLine, around: Around, width: int) -> Sequence[Piece]:
    return [Piece(f"{STATES[line.state]} {state_text(line, around.doing)}", line.state)]


def _plain(field: str, look: str = "") -> Cell:
    of = attrgetter(field)
    return lambda line, around, width: [Piece(of(line), look)]


def _number(field: str, show: Callable[[Any], str] = number) -> Cell:
    of = attrgetter(field)
    return lambda line, around, width: [Piece("" if of(line) is None else show(of(line)))]


def _label(line: UnitLine, around: Around, width: int) -> Sequence[Piece]:
    if line.label or around.doing is None or not around.doing.best:
        if not line.marks:
            return [Piece(line.label)]
        # The sign comes first, so that no narrow column hides it.
        sign, place = "! ", len(line.label)
        text = fitted(f"{line.label}  {line.marks}", width - len(sign))
        return [Piece(sign, "interrupted"), Piece(text[:place]), Piece(text[place:], "quiet")]
    # What leads so far is no label yet.
    return [Piece(f"{around.doing.best:.100}…", "quiet")]


UNIT = Column("unit", "unit", 6, 6, _number("unit", str), attrgetter("unit"), right=True)
NAME = Column("name", "name", 12, 20, _plain("name"), lambda line: line.name.casefold() or None)
LABEL = Column("label", "label", 17, 36, _label, lambda line: line.label.casefold() or None)
SCORE = Column("score", "score", 11, 23, _score, attrgetter("score"))
MARGIN = Column("margin", "margin", 7, 7, _number("margin"), attrgetter("margin"), right=True)
AUC = Column("auc", "AUC", 6, 6, _number("auc", lambda auc: f"{auc:.3f}"), attrgetter("auc"), right=True)
MAD = Column("mad", "MAD", 6, 6, _number("mad"), attrgetter("mad"), right=True)
ORIGIN = Column("origin", "origin", 19, 22, _plain("origin"), lambda line: line.origin or None)
TREND = Column("trend", "trend", 8, 14, lambda line, around, width: [Piece(sparkline(around.trend, width), "bar")])
STEPS = Column("steps", "steps", 6, 6, _number("steps", str), attrgetter("steps"), right=True)
SECONDS = Column("seconds", "time", 8, 8, _number("seconds", duration), attrgetter("seconds"), right=True)
STATE = Column("state", "state", 15, 19, _state, lambda line: _STATE_RANK[line.state])

COLUMNS = (UNIT, NAME, LABEL, SCORE, TREND, MARGIN, AUC, MAD, ORIGIN, STEPS, SECONDS, STATE)
"""All columns, from left to right."""

SORTABLE = tuple(column for column in COLUMNS if column.order)

_WANTED = (UNIT, LABEL, SCORE, STATE, MARGIN, NAME, AUC, TREND, ORIGIN, STEPS, MAD, SECONDS)


def chosen(width: int, *, named: bool) -> list[tuple[Column, int]]:
    """The columns that so many cells have room for, each with its width, from left to right.

    Args:
        width: cells to be filled, one between each column and the next included.
        named: whether the units have names.
    """
    taken: dict[str, int] = {}
    left = width
    for column in _WANTED:
        if column is NAME and not named:
            continue
        if left >= column.least + 1 or column is UNIT:
            taken[column.key] = column.least
            left -= column.least + 1
    # What is over goes to those that can use it.
    for column in (STATE, NAME, LABEL, SCORE, ORIGIN, TREND):
        if column.key in taken:
            more = max(min(column.most - column.least, left), 0)
            taken[column.key] += more
            left -= more
    if LABEL.key in taken:
        taken[LABEL.key] += max(left, 0)
    return [(column, taken[column.key]) for column in COLUMNS if column.key in taken]


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """Text cut, with a sign that it is, or filled up to so many cells."""
    if cell_len(text) > width:
        return set_cell_size(text, max(width - 1, 0)) + "…"
    filling = " " * (width - cell_len(text))
    return filling + text if right else text + filling


def ordered(lines: Sequence[UnitLine], column: Column, *, descending: bool) -> list[UnitLine]:
    """Units sorted by a column; those without a value come last either way, ties stay as they are."""
    order = column.order
    if order is None:
        return list(lines)
    # No pair for each line is made: objects that are kept track of cost more than the sorting itself.
    keys = list(map(order, lines))
    known = [place for place, key in enumerate(keys) if key is not None]
    known.sort(key=keys.__getitem__, reverse=descending)
    found = [lines[place] for place in known]
    if len(found) < len(lines):
        found += [line for line, key in zip(lines, keys, strict=True) if key is None]
    return found
