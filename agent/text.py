"""Clean text: one printable line, text that UTF-8 can store, spreadsheet cells and scores."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterable
from typing import Any

MAX_COMBINING_MARKS = 4
"""Combining marks in a row that are kept; more of them would pile up over the lines around."""
MAX_CELL = 4000
"""Characters of a table's cell."""

_INVISIBLE_CATEGORIES = {"Cf", "Cs", "Co", "Cn"}
# Joiners and fillers that count as letters or marks.
_INVISIBLE_LETTERS = set("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# Some spreadsheets take the full-width forms for the signs.
_FORMULA_STARTS = ("=", "+", "-", "@", "'", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def clean_text(text: str, limit: int) -> str:
    """Return ``text`` as one printable line of at most ``limit`` characters.

    It has no control, format, private, unassigned and surrogate characters, no invisible letters, at most
    ``MAX_COMBINING_MARKS`` combining marks in a row, and single spaces for whitespace.
    """
    text = text[: 4 * limit]
    if text.isascii() and text.isprintable():
        return " ".join(text.split())[:limit].rstrip()
    kept, marks = [], 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        if category == "Cc" or character.isspace():
            kept.append(" ")
        elif (
            category not in _INVISIBLE_CATEGORIES
            and character not in _INVISIBLE_LETTERS
            and marks <= MAX_COMBINING_MARKS
        ):
            kept.append(character)
    return " ".join("".join(kept).split())[:limit].rstrip()


def storable_text(text: str) -> str:
    """Escape lone surrogates, which file names and replies may hold and UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def shell_word(text: str) -> str:
    """Quote a word for a shell on one line that ``clean_text`` leaves as it is.

    Words that ``shlex.quote`` would print over several lines, or with characters that are not shown, become
    ``$'...'`` with the bytes of the word in octal, which bash, zsh and ksh read.
    """
    if clean_text(text, len(text)) == text:
        return shlex.quote(text)
    content = "".join(
        chr(byte) if 32 < byte < 127 and byte not in b"\\'" else f"\\{byte:03o}"
        for byte in text.encode("utf-8", "surrogateescape")
    )
    return f"$'{content}'"


def shell_line(words: Iterable[str]) -> str:
    """Join words to a command line that can be pasted into a shell.

    >>> shell_line(["line", "steer", "run", "7", "--ban", "stone wall"])
    "line steer run 7 --ban 'stone wall'"
    """
    return " ".join(map(shell_word, words))


def spreadsheet_cell(value: Any, limit: int = MAX_CELL) -> Any:
    """Return a value as a spreadsheet may read it, text cut at ``limit`` characters.

    Text that a spreadsheet would take for a formula, or that begins with an apostrophe, gets an apostrophe before
    it: removing one from each cell that has one gives the text.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, int | float):
        return value
    text = clean_text(" ".join(value) if isinstance(value, tuple) else str(value), limit)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


_MANY = 1e6
"""From here on digits are counted rather than read."""


def format_score(score: float) -> str:
    """Format a score with three significant digits, without an exponent; language models read it so."""
    return f"{score:.3g}" if abs(score) < 1000 else f"{score:.0f}"


def short_score(score: float) -> str:
    """Format a score for a screen or a page: as ``format_score``, but from a million on with an exponent."""
    return format_score(score) if abs(score) < _MANY else f"{score:.3g}"


def format_spread(spread: float | None) -> str:
    """Format the spread of a score, ``± 0.31``, with two significant digits; ``± ?`` where it is not known."""
    if spread is None:
        return "± ?"
    return f"± {spread:.2g}" if spread < 10 or spread >= _MANY else f"± {spread:.0f}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
