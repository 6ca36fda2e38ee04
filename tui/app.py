"""The terminal app: watch, steer and resume runs. It reads the store, and steers through the runner."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from line_neurons.tui.screens.runs import RunsScreen
from line_neurons.tui.screens.units import UnitsScreen


class LineApp(App[None]):
    """Shows the runs of a store.

    Args:
        store: the store's folder.
        run: id of the run to open at once.
    """

    TITLE = "LINE"
    CSS_PATH = "line.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "quit", "Quit")]

    def __init__(self, store: Path, run: str | None = None) -> None:
        super().__init__()
        self.store = store
        self._run = run

    def on_mount(self) -> None:
        """Open the runs and, where one was named, that run."""
        self.push_screen(RunsScreen(self.store))
        if self._run is not None:
            self.push_screen(UnitsScreen(self.store, self._run))
