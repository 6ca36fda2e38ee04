"""One image, as large as the terminal is, with how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

from line_neurons.tui.app.external import open_outside
from line_neurons.tui.app.top_bar import TopBar
from line_neurons.tui.app.unit.images import Card, Loaded
from line_neurons.tui.formatting import drawn_from, number, plain

_ACCOUNT = 34
"""The account of an image has at least so many cells beside it."""


class ImageScreen(Screen[None]):
    """Images of a concept, one at a time.

    Args:
        concept: what they show.
        loaded: the images; at least one.
        index: the one to begin with.
    """

    CSS = """
    ImageScreen Horizontal { height: 1fr; }
    ImageScreen #frame { align: center middle; }
    ImageScreen #frame Card { margin: 0; }
    ImageScreen VerticalScroll { width: 1fr; padding: 0 1; border-left: solid $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,p", "app.pop_screen", "Back"),
        Binding("left", "move(-1)", "Previous", priority=True),
        Binding("right", "move(1)", "Next", priority=True),
        Binding("up", "move(-1)", "Previous", priority=True, show=False),
        Binding("down", "move(1)", "Next", priority=True, show=False),
        Binding("e", "open", "Open file"),
        Binding("c", "copy", "Copy path"),
    ]

    def __init__(self, concept: str, loaded: Sequence[Loaded], index: int = 0) -> None:
        super().__init__()
        self._concept = concept
        self._loaded = list(loaded)
        self._index = index

    def compose(self) -> ComposeResult:
        """The image beside its account."""
        yield TopBar()
        with Horizontal():
            yield Container(id="frame")
            with VerticalScroll():
                yield Static(markup=False)
        yield Footer()

    async def on_mount(self) -> None:
        """Show the first image."""
        await self._show()

    def on_resize(self, event: events.Resize) -> None:
        """Give the image all the height, and the account what is left beside it."""
        room = 2 * max(1, event.size.height - 3)
        self.query_one("#frame").styles.width = max(20, min(room + 2, event.size.width - _ACCOUNT))
        self.call_after_refresh(self._fit)

    async def action_move(self, by: int) -> None:
        """Go to another image."""
        self._index = (self._index + by) % len(self._loaded)
        await self._show()

    def action_open(self) -> None:
        """Open the file with the desktop's viewer, or say where it is."""
        show_outside(self, self._loaded[self._index])

    def action_copy(self) -> None:
        """Copy the file's path."""
        path = str(self._loaded[self._index].image.path)
        self.app.copy_to_clipboard(path)
        self.notify(plain(path), title="Copied", markup=False)

    async def _show(self) -> None:
        frame = self.query_one("#frame")
        await frame.remove_children()
        await frame.mount(Card(self._index, self._loaded[self._index]))
        self.sub_title = f"{plain(self._concept)} {self._index + 1}/{len(self._loaded)}"
        self.query_one(VerticalScroll).query_one(Static).update(
            account_text(self._concept, self._loaded[self._index])
        )
        self._fit()

    def _fit(self) -> None:
        frame = self.query_one("#frame")
        for card in frame.query(Card):
            card.fit(max(4, frame.size.width), max(2, frame.size.height - 1))


def show_outside(screen: Screen[None], loaded: Loaded) -> None:
    """Open an image's file with the desktop's viewer; where that is not possible, say where it is."""
    one = loaded.image
    if loaded.error and not one.content:
        screen.notify(f"the image {plain(loaded.error)}", severity="warning", markup=False)
    elif not open_outside(one.path):
        screen.notify(plain(one.path), title="No viewer here; the file is", markup=False, timeout=15)


def account_text(concept: str, loaded: Loaded) -> Text:
    """How an image was made, a line for each thing known."""
    one, account = loaded.image, loaded.image.metadata or {}
    lines = {
        "concept": concept,
        "activation": number(one.activation) if one.activation is not None else "not kept in the store",
        "trouble": f"the image {loaded.error}" if loaded.error else "",
        "prompt": one.prompt,
        "seed": one.seed,
        "generator": one.generator,
        "drawn from": drawn_from([account]),
        "angle": account.get("angle"),
        "lighting": account.get("lighting"),
        "file": one.path,
    }
    shown = Text()
    for name, value in lines.items():
        if said := plain(value):
            shown.append(f"{name}: ", style="bold")
            shown.append(f"{said}\n")
    return shown
