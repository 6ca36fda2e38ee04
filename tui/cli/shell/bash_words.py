"""Words of a command line as bash passes them for completion."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

_BREAKS = ":="
"""Characters at which bash splits a word."""


@contextmanager
def bash_words() -> Iterator[None]:
    """Let bash complete words with colons: it splits ``torchvision:res`` and replaces what follows the colon only.

    The body prints the completions.
    """
    if os.environ.get("_LINE_COMPLETE") != "complete_bash" or "COMP_WORDS" not in os.environ:
        yield
        return
    words, current = joined_words(os.environ["COMP_WORDS"].split(), int(os.environ["COMP_CWORD"]))
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = " ".join(words), str(current)
    word = words[current]
    before = word[: max(word.rfind(mark) for mark in _BREAKS) + 1]
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        sys.stdout.write(
            "".join(line.removeprefix(before) for line in printed.getvalue().splitlines(keepends=True))
        )


def joined_words(parts: Sequence[str], current: int) -> tuple[list[str], int]:
    """Join the words that bash split at colons and equals signs; return them and the place of the current one.

    >>> joined_words(["line", "explain", "torchvision", ":", "res"], 4)
    (['line', 'explain', 'torchvision:res'], 2)
    """
    words: list[str] = []
    place = 0
    before = ""
    for number, part in enumerate([*parts, *[""] * (current + 1 - len(parts))]):
        if words and any(mark and mark in _BREAKS for mark in (part, before)):
            words[-1] += part
        else:
            words.append(part)
        if number == current:
            place = len(words) - 1
        before = part
    return words, place
