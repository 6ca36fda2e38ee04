"""One image in large, with its metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from line_neurons.tui.app.chrome import KeyFooter, TopBar
from line_neurons.tui.app.external import open_on_desktop
from line_neurons.tui.app.unit.images import ImageCard, LoadedImage
from line_neurons.tui.formatting import drawn_from, number, plain

_METADATA_WIDTH = 34
"""Minimum width of the metadata, in cells."""


class ImageScreen(Screen[None]):
    """The images of a concept, one at a time."""

    CSS = """
    ImageScreen Horizontal { height: 1fr; }
    ImageScreen #frame { align: center middle; }
    ImageScreen #frame ImageCard { margin: 0; }
    ImageScreen VerticalScroll { width: 1fr; padding: 0 1; border-left: solid $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,p", "app.pop_screen", "Back"),
        Binding("left", "move(-1)", "Previous", priority=True),
        Binding("right", "move(1)", "Next", priority=True),
        Binding("up", "move(-1)", "Previous", priority=True, show=False),
        Binding("down", "move(1)", "Next", priority=True, show=False),
        Binding("home", "first", "First image", show=False),
        Binding("end", "last", "Last image", show=False),
        Binding("e", "open", "Open file"),
        Binding("c", "copy", "Copy path"),
    ]

    def __init__(self, concept: str, loaded: Sequence[LoadedImage], index: int = 0) -> None:
        super().__init__()
        self._concept = concept
        self._loaded = list(loaded)
        self._index = index

    def compose(self) -> ComposeResult:
        """Lay out the image beside its metadata."""
        yield TopBar()
        with Horizontal():
            yield Container(id="frame")
            with VerticalScroll():
                yield Static(markup=False)
        yield KeyFooter()

    async def on_mount(self) -> None:
        """Show the first image."""
        await self._show()

    def on_resize(self, event: events.Resize) -> None:
        """Give the image the full height, and the metadata the remaining width."""
        width = 2 * max(1, event.size.height - 3)
        self.query_one("#frame").styles.width = max(20, min(width + 2, event.size.width - _METADATA_WIDTH))
        self.call_after_refresh(self._fit)

    async def action_move(self, by: int) -> None:
        """Go to another image."""
        self._index = (self._index + by) % len(self._loaded)
        await self._show()

    async def action_first(self) -> None:
        """Go to the first image."""
        await self.action_move(-self._index)

    async def action_last(self) -> None:
        """Go to the last image."""
        await self.action_move(-self._index - 1)

    def action_open(self) -> None:
        """Open the file with the desktop's viewer, or show its path."""
        open_image_file(self, self._loaded[self._index])

    def action_copy(self) -> None:
        """Copy the file's path."""
        path = str(self._loaded[self._index].image.path)
        self.app.copy_to_clipboard(path)
        self.notify(plain(path), title="Copied", markup=False)

    async def _show(self) -> None:
        frame = self.query_one("#frame")
        await frame.remove_children()
        await frame.mount(ImageCard(self._index, self._loaded[self._index]))
        self.title = plain(self._concept)
        self.sub_title = f"image {self._index + 1} of {len(self._loaded)}"
        self.query_one(VerticalScroll).query_one(Static).update(
            metadata_text(self._concept, self._loaded[self._index])
        )
        self._fit()

    def _fit(self) -> None:
        frame = self.query_one("#frame")
        for card in frame.query(ImageCard):
            card.fit(max(4, frame.size.width), max(2, frame.size.height - 1))


def open_image_file(screen: Screen[None], loaded: LoadedImage) -> None:
    """Open an image's file with the desktop's viewer; without one, show its path."""
    image = loaded.image
    if loaded.error and not image.content:
        screen.notify(f"the image {plain(loaded.error)}", severity="warning", markup=False)
    elif not open_on_desktop(image.path):
        screen.notify(plain(image.path), title="No image viewer here; path", markup=False, timeout=15)


def metadata_text(concept: str, loaded: LoadedImage) -> Text:
    """Describe an image, a line for each known field."""
    image, metadata = loaded.image, loaded.image.metadata or {}
    lines = {
        "concept": concept,
        "activation": number(image.activation) if image.activation is not None else "not in the store",
        "error": f"the image {loaded.error}" if loaded.error else "",
        "prompt": image.prompt,
        "seed": image.seed,
        "generator": image.generator,
        "sources": drawn_from([metadata]),
        "angle": metadata.get("angle"),
        "lighting": metadata.get("lighting"),
        "file": image.path,
    }
    text = Text()
    for name, value in lines.items():
        if line := plain(value):
            text.append(f"{name}: ", style="bold")
            text.append(f"{line}\n")
    return text
