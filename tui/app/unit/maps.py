"""Where a unit responds: its label's images and the strongest control images, tinted by the unit's maps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from line_neurons.tools.cache.reader import StoredImage
from line_neurons.tui.app.chrome import KeyFooter, TopBar
from line_neurons.tui.app.listing import Listing
from line_neurons.tui.app.unit.images import ImageGrid, LoadedImage, decode
from line_neurons.tui.app.unit.images_screen import UnitImagesScreen
from line_neurons.tui.formatting import plain
from line_neurons.tui.unit_view import UnitView

_POLL_SECONDS = 0.5
_TITLES = {"label": "the label's images", "control": "control images with the highest activations"}


class MapsScreen(UnitImagesScreen):
    """Images with the unit's maps, which `line show --maps` computes in a process of its own."""

    CSS = """
    MapsScreen #summary { color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "next", "Other images", tooltip="The label's images, or the strongest control images."),
    ]

    def __init__(self, store: Path, view: UnitView) -> None:
        super().__init__(store, view)
        self._folder = tempfile.TemporaryDirectory(prefix="line-maps-")
        self._listing: Listing | None = None
        self._start_time = 0.0
        self._sets: dict[str, list[LoadedImage]] = {}
        self._source = ""
        self._shown = "label"

    def compose(self) -> ComposeResult:
        """Lay out what is shown over the images."""
        yield TopBar()
        yield Static("Where does the unit respond?", id="title", markup=False)
        yield Static(id="summary", markup=False)
        yield ImageGrid(self._store)
        yield KeyFooter()

    def on_mount(self) -> None:
        """Compute the maps in the background."""
        view = self._view
        self._start_time = time.time()
        place = ("--maps", f"{self._folder.name}/", "--store", str(self._store))
        self._listing = Listing(["show", view.run.id, str(view.unit.unit), *place])
        self.set_interval(_POLL_SECONDS, self._progress)
        self._listing.deliver(self, _read_sets, self._finish)
        self._progress()

    def on_unmount(self) -> None:
        """End the computation, and remove its files."""
        if self._listing:
            self._listing.cancel()
        self._folder.cleanup()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer other images only if there are any."""
        return action != "next" or sum(map(bool, self._sets.values())) > 1

    def action_next(self) -> None:
        """Show the other images."""
        self._shown = "control" if self._shown == "label" else "label"
        self._show()

    def _progress(self) -> None:
        if self._listing:
            said = self._listing.message()
            waited = f"computing for {time.time() - self._start_time:.0f} s"
            self.query_one("#summary", Static).update(plain(f"{waited}; {said}" if said else waited))

    def _finish(self, found: tuple[dict[str, list[LoadedImage]], str] | None, error: str) -> None:
        self._listing = None
        self._sets, self._source = found or ({}, "")
        if error:
            self.query_one("#summary", Static).update(plain(f"The maps cannot be computed: {error}"))
            return
        self._show()
        self.refresh_bindings()

    def _show(self) -> None:
        self.query_one("#summary", Static).update(plain(f"{self._source}: {_TITLES[self._shown]}"))
        self.query_one(ImageGrid).show_loaded(self._sets[self._shown])


def _read_sets(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[LoadedImage]], str]:
    """Return the images by set, and what their maps are of."""
    sets = {name: _loaded([row for row in rows if row.get("images") == name]) for name in _TITLES}
    return sets, str(rows[0].get("map", "")) if rows else ""


def _loaded(rows: Sequence[Mapping[str, Any]]) -> list[LoadedImage]:
    """Read the images that rows of `line show --maps --json` name."""
    images = []
    for row in rows:
        path = Path(str(row["file"])) if row.get("file") else Path()
        content = path.read_bytes() if row.get("file") else b""
        activation = row.get("activation")
        image = StoredImage(
            id=f"{row.get('images')} {row.get('image')}",
            path=path,
            content=content,
            error=str(row.get("error") or ""),
            activation=activation if isinstance(activation, float) else None,
        )
        images.append(decode(image))
    return images
