"""Widgets that frame every screen: the title bar, the error banner, the filter and the keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.css.query import NoMatches
from textual.dom import NoScreen
from textual.events import Mount, Resize
from textual.screen import Screen
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


class _Key(NamedTuple):
    """A key of the footer, and whether it is that of the palette."""

    key: str
    display: str
    description: str
    action: str
    enabled: bool
    tooltip: str
    is_palette: bool = False

    @property
    def width(self) -> int:
        return cell_len(self.display) + cell_len(self.description) + 3

    def widget(self) -> FooterKey:
        """Make its widget; that of the palette is compact."""
        widget = FooterKey(
            self.key,
            self.display,
            self.description,
            self.action,
            disabled=not self.enabled,
            tooltip=self.tooltip,
            classes="-command-palette -compact" if self.is_palette else "",
        )
        # Else each would be styled once more when it is mounted, and once more by its binding to the footer.
        widget.set_reactive(FooterKey.compact, self.is_palette)
        return widget


class KeyFooter(Footer):
    """Keys of a screen in the order of its bindings, as many as fit, and always that of the help with all keys."""

    DEFAULT_CSS = """
    KeyFooter FooterKey.-command-palette { border-left: none; padding-right: 0; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: list[_Key] = []

    def compose(self) -> ComposeResult:
        """Lay out the keys that fit the width; the palette's comes last."""
        self._shown = self._fitting_keys()
        for key in self._shown:
            yield key.widget()

    def bindings_changed(self, screen: Screen[Any]) -> None:
        """Show the keys that can be pressed now."""
        self._bindings_ready = True
        if screen.app.app_focus and self.is_attached and screen is self.screen:
            self.call_after_refresh(self._update_keys)

    def on_resize(self) -> None:
        """Choose keys for the new width."""
        self.call_after_refresh(self._update_keys)

    async def _update_keys(self) -> None:
        """Lay the keys out anew if they changed: bindings are updated far more often."""
        if self.is_attached and self._fitting_keys() != self._shown:
            await self.recompose()

    def _fitting_keys(self) -> list[_Key]:
        keys = [key for key in self._keys() if not self._is_typed(key)]
        last = [key for key in keys if key.is_palette or key.action in {*_HELP, "quit"}]
        shown = [key for key in last if key.action in _HELP][:1]
        last = [key for key in last if key.action not in _HELP or key in shown]
        room = self.app.size.width - sum(key.width for key in shown)
        for key in [*(key for key in keys if key.action not in {*_HELP, *(end.action for end in last)}), *last]:
            if key not in shown:
                room -= key.width
                if room < 0:
                    break
                shown.append(key)
        return sorted(shown, key=lambda key: key in last)

    def _keys(self) -> Iterator[_Key]:
        """Yield the first key of each action that is shown, and that of the palette."""
        if not self._bindings_ready:
            return
        active, actions = self.screen.active_bindings, set()
        for _, binding, enabled, tooltip in active.values():
            if binding.show and binding.action not in actions:
                actions.add(binding.action)
                yield self._key(binding, enabled, tooltip)
        if palette := active.get(self.app.COMMAND_PALETTE_BINDING):
            binding = palette.binding
            yield self._key(binding, palette.enabled, binding.tooltip or binding.description, is_palette=True)

    def _key(self, binding: Binding, enabled: bool, tooltip: str, *, is_palette: bool = False) -> _Key:
        display = self.app.get_key_display(binding)
        return _Key(binding.key, display, binding.description, binding.action, enabled, tooltip, is_palette)

    def _is_typed(self, key: _Key) -> bool:
        """Tell whether the key is typed into the field that has the focus."""
        # The signs of other keys, as of arrows, are no ASCII.
        return isinstance(self.screen.focused, Input) and len(key.display) == 1 and key.display.isascii()


_HELP = {"keys", "app.keys"}


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
