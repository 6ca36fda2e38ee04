"""Base of the screens that show images of a unit under what is known of them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import DataTable

from line_neurons.tui.app.unit.header import layer_title, unit_title
from line_neurons.tui.app.unit.image import ImageScreen
from line_neurons.tui.app.unit.images import ImageCard, ImageGrid
from line_neurons.tui.formatting import plain
from line_neurons.tui.unit_view import UnitView


class UnitImagesScreen(Screen[None]):
    """Screen of a unit with an ``ImageGrid``; its images open in large."""

    DEFAULT_CSS = """
    UnitImagesScreen #title { height: auto; max-height: 2; padding: 0 1; text-style: bold; }
    UnitImagesScreen #summary { height: auto; max-height: 3; padding: 0 1; }
    UnitImagesScreen #detail { height: auto; max-height: 2; padding: 0 1; color: $text-muted; }
    UnitImagesScreen ImageGrid { height: 1fr; min-height: 6; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back"),
        Binding("p", "images", "Large images"),
    ]

    def __init__(self, store: Path, view: UnitView) -> None:
        super().__init__()
        self._store, self._view = store, view

    def on_mount(self) -> None:
        """Name the unit."""
        self.title, self.sub_title = unit_title(self._view), layer_title(self._view)

    def action_images(self) -> None:
        """Open the focused image in large; the first if none is."""
        grid = self._grid()
        if grid.loaded and (name := self._images_name()) is not None:
            self.app.push_screen(ImageScreen(name, grid.loaded, grid.focused()))

    def _grid(self) -> ImageGrid:
        return self.query_one(ImageGrid)

    def _images_name(self) -> str | None:
        """Return what the images show; None if nothing is selected."""
        return self._view.unit.label or ""

    def _show_images(self) -> None:
        """Show the images of the selected row, where there is a table."""

    @on(DataTable.RowHighlighted)
    def _moved(self) -> None:
        self._show_images()

    @on(DataTable.RowSelected)
    @on(ImageCard.Opened)
    def _open(self) -> None:
        self.action_images()

    @on(ImageGrid.Failed)
    def _failed(self, event: ImageGrid.Failed) -> None:
        self.notify(plain(str(event.error)), severity="error", markup=False)
