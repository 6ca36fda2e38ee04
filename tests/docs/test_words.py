"""No word of CONTRIBUTING.md's deny-list is in help, messages, screens, templates or pages."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main

from line_neurons.tui.cli.commands import ImportedCommand
from line_neurons.tui.cli.main import app
from support.doc_commands import ROOT, pages

ALLOWED = {
    "You find out what one unit of a vision model looks for.": "sent to the language model",
    "Pictures can be made of, for example:": "sent to the language model",
    "You are told what the pictures show": "sent to the language model",
    "You are given the description of a picture.": "sent to the language model",
    "Describe in one sentence of at most fifteen words what this picture shows.": "sent to the vision model",
    "Does this picture contain a {concept}?": "sent to the vision model",
    '" cannot be pictured': "sent to the language model",
    "cannot be pictured": "the word that was sent to the language model",
    "begun again": "a kind of event that stores have",
    "vector measured anew": "a kind of event that stores have",
    "wish without its unit": "a key in JSON",
}
"""Beginnings of texts in which a denied word is right, with the reason."""

FOLDERS = ("agent", "tools", "graphs", "eval", "tui")
# Identifiers, flags, files, code and statements of SQL are names and not prose.
_NAMES = re.compile(r"`[^`]*`|--?[\w-]+|\w+[._/]\w[\w./]*|\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|<[^>]*>|\]\([^)]*\)")
_SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|REPLACE|PRAGMA|FROM|WHERE|JOIN)\b")
_FENCED = re.compile(r"^```.*?^```|^    .*?$", re.MULTILINE | re.DOTALL)


def denied_words() -> dict[str, str]:
    """Return each word of CONTRIBUTING.md's table with the words to use instead."""
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("| not | but |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    return {word: instead for words, instead in rows for word in words.split(", ")}


DENIED = denied_words()
_DENIED = re.compile(rf"(?i)(?<![\w.-])({'|'.join(map(re.escape, DENIED))})(?:s|es|ed|ing)?(?![\w-])")


def prose(text: str) -> str:
    """Return a text without code, flags, names of files and markup."""
    return _NAMES.sub(" ", text)


def offences(place: str, text: str) -> list[str]:
    """Return one line for each denied word in a text."""
    if text.startswith(tuple(ALLOWED)):
        return []
    return [f"{place}: {found[0]!r} in {text.strip()[:90]!r}; say {DENIED[found[1].lower()]}"
            for found in _DENIED.finditer(prose(text))]  # fmt: skip


def helps(command: click.Command, name: str = "line") -> Iterator[tuple[str, str]]:
    """Yield the help of a command, of its options and of its subcommands."""
    yield name, command.help or ""
    command = command.imported() if isinstance(command, ImportedCommand) else command
    yield name, " ".join(filter(None, [command.help, command.epilog, command.short_help]))
    for parameter in command.params:
        yield f"{name} {parameter.name}", getattr(parameter, "help", None) or ""
    for child in getattr(command, "commands", {}).values():
        yield from helps(child, f"{name} {child.name}")


def strings(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the texts of a module that users may read: its string literals without docstrings and SQL."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in documentation:
            continue
        if " " in node.value.strip() and not _SQL.search(node.value):
            yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def modules() -> list[Path]:
    """Return the product's modules."""
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def test_help_has_no_denied_word():
    assert not [line for place, text in helps(typer.main.get_command(app)) for line in offences(place, text)]


def test_messages_and_screens_have_no_denied_word():
    assert not [line for path in modules() for place, text in strings(path) for line in offences(place, text)]


def test_templates_have_no_denied_word():
    templates = sorted((ROOT / "tui" / "report" / "templates").glob("*.j2"))
    found = [offence for path in templates
             for number, line in enumerate(path.read_text().splitlines(), 1)
             for offence in offences(f"{path.name}:{number}", line)]  # fmt: skip
    assert templates
    assert not found


@pytest.mark.parametrize("page", [*pages(), Path("ARCHITECTURE.md")], ids=str)
def test_a_page_has_no_denied_word(page):
    text = _FENCED.sub("", (ROOT / page).read_text())
    assert not [line for paragraph in text.split("\n") for line in offences(str(page), paragraph)]


def test_a_denied_word_is_noticed():
    assert offences("here", "2 pictures were mended, as a person wishes") != []
    assert offences("here", "`pictures.jsonl` and --control-pictures name files and flags") == []
