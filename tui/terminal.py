"""What the command prints: tables and lines for people, JSON for machines.

Text from a model, a file or the store is data: it is printed without markup and without what a terminal obeys.
Everything that the command prints goes through this module, or through the bars of ``watching``.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
import traceback
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from line_neurons.agent.errors import LineError
from line_neurons.agent.prompts import format_score
from line_neurons.agent.proposal import MOST_MARKS, clean_text

MAX_CELL = 4000

_WIDE = 160
_REMARKS = 10
_BEYOND_ASCII = re.compile(r"[^ -~\n]+")


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    # Into a pipe or a file nothing is cut to the width of a terminal that is not there.
    width = None if stream and stream.isatty() else _WIDE
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


out = _console(stderr=False)
err = _console(stderr=True)


def plain(value: object) -> str:
    """A value as it is shown in a cell: numbers with three digits, text cleaned, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format_score(value)
    return clean_text(str(value), MAX_CELL)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table; columns whose cells are all numbers are set to the right."""
    cells = list(rows)
    shown = Table(
        title=Text(plain(title), style="bold") if title else None,
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, heading in enumerate(headings):
        numeric = any(isinstance(row[index], int | float) for row in cells)
        shown.add_column(heading, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for row in cells:
        shown.add_row(*(Text(plain(cell)) for cell in row))
    out.print(shown)


def line(text: str, style: str = "", lead: str = "") -> None:
    """Print a line of one's own words and cleaned data, after a lead that keeps its spaces."""
    out.print(Text(lead + clean_text(text, MAX_CELL), style=style), soft_wrap=True)


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def when(seconds: float) -> str:
    """A time as a clock shows it; empty for one that no calendar has."""
    try:
        return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return ""


def duration(seconds: float) -> str:
    """A time that something takes, as people say it."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def note(text: str) -> None:
    """Print a line beside the results, on standard error."""
    err.print(Text(clean_text(text, MAX_CELL)), soft_wrap=True)


def remarks(what: str, lines: Sequence[str]) -> None:
    """Print what was left out of some input, beside the results; the first ten of many lines."""
    for line in lines[:_REMARKS]:
        note(f"{what}: {line}")
    if len(lines) > _REMARKS:
        note(f"{what}: {len(lines) - _REMARKS} more of this kind")


def dump(value: Any) -> None:
    """Print JSON and nothing else; what a terminal would obey or pile up stands as an escape."""
    unicode = (sys.stdout.encoding or "").lower() in {"utf-8", "utf8"}
    text = json.dumps(value, indent=2, ensure_ascii=not unicode, default=_plain_json)
    sys.stdout.write(_BEYOND_ASCII.sub(_escaped, text) + "\n")


def _escaped(found: re.Match[str]) -> str:
    written, marks = [], 0
    for character in found[0]:
        marks = marks + 1 if unicodedata.category(character) in {"Mn", "Me"} else 0
        shown = character.isprintable() and marks <= MOST_MARKS
        written.append(character if shown else json.dumps(character)[1:-1])
    return "".join(written)


def complain(error: LineError) -> None:
    """Print what was wrong and what to do, as one line on standard error."""
    message = Text("error: ", style="bold red")
    message.append(clean_text(str(error), MAX_CELL), style="")
    err.print(message, soft_wrap=True)


def trace(error: BaseException) -> None:
    """Print the traceback of an error on standard error."""
    notes("".join(traceback.format_exception(error)))


def notes(text: str) -> None:
    """Print lines that quote data on standard error, each cleaned, with their indents."""
    for one in text.removesuffix("\n").split("\n"):
        indent = " " * (len(one) - len(one.lstrip(" ")))
        err.print(Text(indent + clean_text(one, MAX_CELL)), soft_wrap=True)


def _plain_json(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)
    return str(value)
