"""Help screen: the keys of a screen, from its bindings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

_HERE, _ELSEWHERE, _NAVIGATION = "This screen", "Everywhere", "Navigation"
GENERAL_ACTIONS = {"app.focus_next", "app.focus_previous", "screen.copy_text"}
"""Actions of every Textual app, which are not listed."""


class HelpScreen(ModalScreen[None]):
    """The keys of another screen, in groups."""

    DEFAULT_CSS = """
    HelpScreen {
        align: center middle;
        & > VerticalScroll {
            width: 74; max-width: 100%; height: auto; max-height: 90%;
            padding: 1 2; background: $surface; border: round $border;
            border-title-color: $primary; border-title-style: bold;
        }
        & Static { height: auto; }
        & .group { color: $primary; text-style: bold; margin-top: 1; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close", show=False),
    ]

    def __init__(self, screen: Screen[Any]) -> None:
        super().__init__()
        self._subject = screen
        # The bindings depend on the focus, which changes once this screen is shown.
        self._groups = list(_groups(screen))

    def compose(self) -> ComposeResult:
        """Lay out a table of keys for each group."""
        with VerticalScroll() as box:
            box.border_title = "Keys"
            box.border_subtitle = "escape closes"
            doc = (self._subject.__doc__ or "").strip().splitlines()
            yield Static(Content(doc[0] if doc else ""))
            for title, rows in self._groups:
                yield Static(Content(title), classes="group")
                table = Table.grid(padding=(0, 2))
                table.add_column(justify="right", no_wrap=True, min_width=10, style="bold")
                table.add_column()
                for keys, text in rows:
                    table.add_row(Text(keys), Text(text))
                yield Static(table)


def _groups(screen: Screen[Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    groups: dict[str, dict[str, tuple[list[str], str]]] = {}
    for node, binding, _enabled, tooltip in screen.active_bindings.values():
        if binding.system or not binding.description or binding.action in GENERAL_ACTIONS:
            continue
        title = node.BINDING_GROUP_TITLE or (
            _HERE if node is screen else _ELSEWHERE if node is screen.app else _NAVIGATION
        )
        text = f"{binding.description}. {tooltip}" if tooltip else binding.description
        keys, _ = groups.setdefault(title, {}).setdefault(binding.action, ([], text))
        key = screen.app.get_key_display(binding)
        if key not in keys:
            keys.append(key)
    order = sorted(groups, key=lambda title: (title == _NAVIGATION, title == _ELSEWHERE, title != _HERE))
    for title in order:
        yield title, [(" ".join(keys), text) for keys, text in groups[title].values()]
