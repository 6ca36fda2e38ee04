"""Widgets that frame every screen: the title bar and the error banner."""

from __future__ import annotations

from contextlib import suppress

from textual.content import Content
from textual.css.query import NoMatches
from textual.dom import NoScreen
from textual.events import Mount
from textual.widgets import Header, Static

from line_neurons.agent.errors import LineError
from line_neurons.tui.formatting import plain


class TopBar(Header):
    """Title bar of a screen that may be closed while it opens; Textual's own then ends the app with an error."""

    DEFAULT_CSS = """
    TopBar { background: $panel; color: $foreground; }
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
