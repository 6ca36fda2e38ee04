"""The units of a run."""

from __future__ import annotations

from pathlib import Path

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import DataTable, Footer

from line_neurons.agent.errors import LineError
from line_neurons.tools.run_store import Unit
from line_neurons.tui.following import follow
from line_neurons.tui.screens.unit import UnitScreen
from line_neurons.tui.terminal import plain
from line_neurons.tui.widgets.top_bar import TopBar


class UnitsScreen(Screen[None]):
    """The units of a run with their labels.

    Args:
        store: the store's folder.
        run: id of the run.
    """

    def __init__(self, store: Path, run: str) -> None:
        super().__init__()
        self._store = store
        self._run = run

    def compose(self) -> ComposeResult:
        """The table between header and footer."""
        yield TopBar()
        yield DataTable(cursor_type="row")
        yield Footer()

    def on_mount(self) -> None:
        """Follow the units."""
        self.query_one(DataTable).add_columns("unit", "name", "label", "score")
        follow(self, self._store, lambda runs: runs.units(self._run), self._show, self._failed)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open a unit."""
        self.app.push_screen(UnitScreen(self._store, self._run, int(event.row_key.value or 0)))

    def _show(self, units: list[Unit]) -> None:
        table = self.query_one(DataTable)
        table.clear()
        for unit in units:
            cells = (str(unit.unit), unit.name, unit.label, unit.score)
            table.add_row(*(plain(cell) for cell in cells), key=str(unit.unit))

    def _failed(self, error: LineError) -> None:
        self.notify(plain(str(error)), severity="error", markup=False)
