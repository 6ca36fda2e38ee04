"""Help of a command: panels of options, each with its description beside or below it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text
from typer.core import TyperCommand

FILES_PANEL = "Files and output"
_FRAME = 4
_OPTION_WIDTH = 28
_HANGING = 6
_OPTION = r"(?<!\S)--?[a-zA-Z][\w-]*"


class PanelCommand(TyperCommand):
    """Command with a help in two columns, which are wide enough to read at 80 columns."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print usage, description, panels and examples."""
        console = Console(highlight=False)
        console.print(Padding(_highlighted(self.get_usage(ctx)), 1), style="bold")
        paragraphs = [" ".join(part.split()) for part in (self.help or "").split("\n\n")]
        console.print(Padding(Text("\n\n".join(paragraphs)), (0, 1, 1, 1)))
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            if record := _record(parameter, ctx):
                panels.setdefault(_panel(parameter), []).append(record)
        files = panels.pop(FILES_PANEL, [])
        for name, rows in {**panels, FILES_PANEL: files}.items():
            if rows:
                shown = _columns(rows, console)
                console.print(Panel(shown, title=name, title_align="left", border_style="dim"))
        heading, *examples = (self.epilog or "").split("\n\n")
        if heading:
            console.print(f" {heading}")
        for example in examples:
            first, *more = Text.from_markup(example).wrap(console, console.width - _HANGING - 2)
            console.print(Padding(first, (0, 0, 0, 2)))
            for line in more:
                console.print(Padding(line, (0, 0, 0, _HANGING)))


def _columns(rows: Sequence[tuple[str, str]], console: Console) -> Text:
    """Return options with their descriptions, of one that is long below it."""
    first = min(max(len(option) for option, _ in rows), _OPTION_WIDTH)
    lines = []
    for option, description in rows:
        wrapped = Text(description).wrap(console, console.width - _FRAME - first - 2)
        beside = wrapped.pop(0).plain.rstrip() if wrapped and len(option) <= first else ""
        lines.append(f"{option.ljust(first)}  {beside}".rstrip())
        lines += [f"{'':{first}}  {line.plain.rstrip()}" for line in wrapped]
    return _highlighted("\n".join(lines))


def _record(parameter: Any, ctx: Any) -> tuple[str, str] | None:
    """Return an option and its description as plain text; None if it is hidden."""
    record = parameter.get_help_record(ctx)
    if record is None:
        return None
    option = re.sub(r"<(?:list\[)?(\w+)(?:\]| range)>", r"<\1>", record[0])
    if parameter.param_type_name == "argument":
        option = option.partition(" <")[0]
    described = parameter.help or ""
    return option, Text.from_markup(described).plain + record[1].removeprefix(described).replace("  [", " [")


def _panel(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    return FILES_PANEL if parameter.name == "help" else parameter.rich_help_panel or "Options"


def _highlighted(text: str) -> Text:
    shown = Text(text)
    shown.highlight_regex(_OPTION, "bold cyan")
    shown.highlight_regex(r"\[default: [^\]]*\]", "dim")
    return shown
