"""Widgets that frame every screen: the title bar, the error banner, the filter and the keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.css.query import NoMatches
from textual.dom import NoScreen
from textual.events import Mount, Resize
from textual.widget import Widget
from textual.widgets import Footer, Header, Input, Static
from textual.widgets._footer import FooterKey

from line_neurons.agent.errors import LineError
from line_neurons.tui.formatting import fit_middle, plain

_ICON_WIDTH = 3


class TopBar(Header):
    """Title bar; a subtitle that does not fit is shortened in its middle.

    A screen may be closed while it opens; Textual's own bar then ends the app with an error.
    """

    DEFAULT_CSS = f"""
    TopBar {{
        background: $panel; color: $foreground;
        & HeaderIcon {{ width: {_ICON_WIDTH}; }}
        & HeaderTitle {{ content-align: left middle; }}
        & HeaderClockSpace {{ display: none; }}
    }}
    """

    def __init__(self) -> None:
        # Textual's default icon is missing in some fonts.
        super().__init__(icon="≡")

    def _on_mount(self, event: Mount) -> None:
        event.prevent_default()
        for node in (self.app, self.screen):
            for name in ("title", "sub_title"):
                self.watch(node, name, self._set_title)

    async def _set_title(self) -> None:
        with suppress(NoMatches, NoScreen):
            self.query_one("HeaderTitle", Static).update(self.format_title())

    async def on_resize(self, event: Resize) -> None:
        """Fit the title into the new width."""
        await self._set_title()

    def format_title(self) -> Content:
        """Return title and subtitle in the width of the bar."""
        title, room = plain(self.screen_title), self.app.size.width - _ICON_WIDTH - 1
        title = fit_middle(title, room)
        below = fit_middle(plain(self.screen_sub_title), room - cell_len(title) - 3)
        return Content.assemble((title, "bold"), (f" — {below}" if len(below) > 1 else "", "dim"))


class Banner(Static):
    """Error message at the top of a screen; hidden while there is no error."""

    DEFAULT_CSS = """
    Banner {
        display: none; height: auto; max-height: 3; padding: 0 1;
        background: $error-muted; color: $text-error;
        &.-shown { display: block; }
    }
    """

    def show_error(self, error: LineError) -> None:
        """Show an error with its remedy, and that reading is retried."""
        remedy = f" To fix it: {plain(error.remedy)}." if error.remedy else ""
        self.update(Content(f"! {plain(error.message)}.{remedy} Trying again."))
        self.add_class("-shown")

    def clear(self) -> None:
        """Hide the banner."""
        self.remove_class("-shown")


class FilterField(Input):
    """Field of the filter of a table, hidden until it is opened, with the keys that leave it."""

    DEFAULT_CSS = """
    FilterField { display: none; }
    """
    BINDING_GROUP_TITLE = "The filter"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "to_table", "To the table"),
        Binding("escape", "clear", "Clear the filter"),
    ]

    def __init__(self, table: type[Widget], placeholder: str) -> None:
        super().__init__(placeholder=placeholder, id="filter", compact=True)
        self._table = table

    def open(self) -> None:
        """Show the field, to type into it."""
        self.display = True
        self.focus()

    def action_to_table(self) -> None:
        """Go to the filtered table."""
        self.screen.query_one(self._table).focus()

    def key_down(self) -> None:
        """Go to the filtered table."""
        self.action_to_table()

    def action_clear(self) -> None:
        """Clear and hide the filter."""
        self.value = ""
        self.display = False
        self.action_to_table()


class KeyFooter(Footer):
    """Keys of a screen in the order of its bindings, as many as fit, and always that of the help with all keys."""

    DEFAULT_CSS = """
    KeyFooter FooterKey.-command-palette { border-left: none; padding-right: 0; }
    """

    def compose(self) -> ComposeResult:
        """Lay out the keys that fit the width; the palette's comes last."""
        room = self.app.size.width
        keys = [key for key in super().compose() if isinstance(key, FooterKey) and not self._is_typed(key)]
        last = [key for key in keys if key.has_class("-command-palette") or key.action in {*_HELP, "quit"}]
        shown = [key for key in last if key.action in _HELP][:1]
        last = [key for key in last if key.action not in _HELP or key in shown]
        room -= sum(map(_width, shown))
        for key in [*(key for key in keys if key.action not in {*_HELP, *(end.action for end in last)}), *last]:
            if key not in shown:
                room -= _width(key)
                if room < 0:
                    break
                shown.append(key)
        yield from sorted(shown, key=lambda key: key in last)

    def _is_typed(self, key: FooterKey) -> bool:
        """Tell whether the key is typed into the field that has the focus."""
        # The signs of other keys, as of arrows, are no ASCII.
        return isinstance(self.screen.focused, Input) and len(key.key_display) == 1 and key.key_display.isascii()

    def on_resize(self) -> None:
        """Choose keys for the new width."""
        self.call_after_refresh(self.recompose)


_HELP = {"keys", "app.keys"}


def _width(key: FooterKey) -> int:
    return cell_len(key.key_display) + cell_len(key.description) + 3


@dataclass(frozen=True)
class Flow:
    """Renderable of facts on as few lines as they fill; none is broken that fits on a line."""

    facts: Sequence[Text]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Render the facts in the available width."""
        line = Text()
        for fact in self.facts:
            if line and line.cell_len + _GAP + fact.cell_len > options.max_width:
                yield line
                line = Text()
            line.append((" " * _GAP) if line else "").append_text(fact)
        yield line


_GAP = 3
