"""Output of the command: tables and lines on a terminal, JSON for programs.

Text from a model, a file or the store is data: it is printed without markup and without control sequences.
Everything the command prints goes through this module, or through the bars of ``progress``.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.segment import Segment, Segments
from rich.text import Text

from line_neurons.agent.errors import LineError
from line_neurons.agent.text import MAX_COMBINING_MARKS, clean_text
from line_neurons.tui.cli.tables import columns_of, fitting, lines_of
from line_neurons.tui.formatting import MAX_CELL, MISSING, Estimate, plain

_WIDE = 160
_REMARKS = 10
_BEYOND_ASCII = re.compile(r"[^ -~\n]+")


@dataclass
class Verbosity:
    """How much is printed besides results and errors."""

    quiet: bool = False
    verbose: bool = False


verbosity = Verbosity()


def set_verbosity(*, quiet: bool, verbose: bool) -> None:
    """Print results and errors only (quiet), or also each step and what libraries log (verbose)."""
    verbosity.quiet, verbosity.verbose = quiet, verbose
    logging.disable(logging.WARNING if quiet else logging.NOTSET)
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    # A pipe or a file has no terminal width to cut lines to.
    width = None if stream and stream.isatty() else _WIDE
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


out = _console(stderr=False)
err = _console(stderr=True)


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    title: str = "",
    *,
    drop: Sequence[str] = (),
    whole: Collection[str] = (),
    wrap: Collection[str] = (),
) -> None:
    """Print a table; columns with numbers are right-aligned.

    In a pipe or a file each row is a line, whatever its length. On a terminal that is too narrow columns are left
    out, and others are cut with an ellipsis.

    Args:
        drop: columns that are left out where there is no room, the first one first.
        whole: columns that are never cut, as the first one is not.
        wrap: columns of sentences, which continue on further lines.
    """
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
    columns = columns_of(list(map(plain, headings)), shown, numeric, whole=whole, wrap=wrap)
    if out.is_terminal:
        columns, widths = fitting(columns, out.width, drop)
    else:
        widths = [column.width for column in columns]
    first, *others = lines_of(columns, widths, out)
    if title:
        out.print(Text(plain(title), style="bold"), soft_wrap=True)
    out.print()
    out.print(Text(first, style="bold"), soft_wrap=True)
    out.print(Segments([Segment("\n".join([*others, "", ""]))]), crop=False)


def line(text: str, style: str = "", lead: str = "") -> None:
    """Print a line, its data cleaned, after a lead that keeps its spaces."""
    out.print(Text(lead + clean_text(text, MAX_CELL), style=style), soft_wrap=True)


def paragraph(text: str, style: str = "", lead: str = "") -> None:
    """Print a line as ``line`` does; on a terminal it continues below its text, between words."""
    width = out.width - len(lead)
    if not out.is_terminal or width < len(lead):
        line(text, style, lead)
        return
    wrapped = Text(clean_text(text, MAX_CELL)).wrap(out, width)
    for number, part in enumerate(wrapped):
        before = lead if number == 0 else " " * len(lead)
        out.print(Text(before + part.plain.rstrip(), style=style), soft_wrap=True)


def note(text: str) -> None:
    """Print a line on standard error, unless only results and errors are printed."""
    if verbosity.quiet:
        return
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
