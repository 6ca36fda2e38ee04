"""What the documentation tells people to type: its code blocks, in order, and the commands in them.

An indented block, or a fenced one without a language, is for a shell; other blocks say what they are (``python``,
``toml``, ``text`` for what a command prints).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
SHELL = ("", "console", "sh")
_ASSIGNED = re.compile(r"[A-Z][A-Z0-9_]*=.*", re.DOTALL)


def pages() -> list[Path]:
    """The README and every page, relative to the repository's root."""
    return [Path("README.md"), *sorted(one.relative_to(ROOT) for one in (ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A code block.

    Args:
        page: the page's path.
        line: number of its first line.
        language: what the page says it is; empty: for a shell.
        text: its content.
    """

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[Command]:
        """The commands of a block for a shell; what comes after a ``#`` is a comment."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            variables = []
            while words and _ASSIGNED.fullmatch(words[0]):
                variables.append(words.pop(0))
            if words:
                yield Command(self.place, tuple(words), tuple(variables))


@dataclass(frozen=True)
class Command:
    """A command as it is to be typed.

    Args:
        place: where it stands.
        words: the program and its arguments.
        variables: settings of the environment before it, ``NAME=value``.
    """

    place: str
    words: tuple[str, ...]
    variables: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it in one line, without quotes."""
        return " ".join(self.words)


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    tokens = MarkdownIt().parse((ROOT / page).read_text(encoding="utf-8"))
    return [
        Block(page, (token.map or [0])[0] + 1, token.info.strip().partition(" ")[0], token.content)
        for token in tokens
        if token.type in {"fence", "code_block"}
    ]


def spans(page: Path) -> list[tuple[str, str]]:
    """The code spans of a page's text, each with its place."""
    tokens = MarkdownIt().enable("table").parse((ROOT / page).read_text(encoding="utf-8"))
    return [
        (f"{page}:{(token.map or [0])[0] + 1}", span.content)
        for token in tokens
        for span in token.children or ()
        if span.type == "code_inline"
    ]
