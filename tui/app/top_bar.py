"""The line at the top: the program and the store, or what a screen calls itself."""

from __future__ import annotations

from contextlib import suppress

from textual.css.query import NoMatches
from textual.dom import NoScreen
from textual.events import Mount
from textual.widgets import Header
from textual.widgets._header import HeaderTitle


class TopBar(Header):
    """A header that may be closed as soon as it was opened; Textual's own then ends the app with an error."""

    DEFAULT_CSS = """
    TopBar { background: $panel; color: $foreground; }
    """

    def __init__(self) -> None:
        # Textual's own sign is not in every font.
        super().__init__(icon="≡")

    def _on_mount(self, event: Mount) -> None:
        event.prevent_default()
        for node in (self.app, self.screen):
            for name in ("title", "sub_title"):
                self.watch(node, name, self._set_title)

    async def _set_title(self) -> None:
        with suppress(NoMatches, NoScreen):
            self.query_one(HeaderTitle).update(self.format_title())
