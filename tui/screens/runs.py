"""Every run of the store."""

from __future__ import annotations

from pathlib import Path

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Header

from line_neurons.agent.errors import LineError
from line_neurons.tools.run_store import Run, RunStore
from line_neurons.tui.following import follow
from line_neurons.tui.screens.units import UnitsScreen
from line_neurons.tui.terminal import plain


class RunsScreen(Screen[None]):
    """The runs of a store with how far they are.

    Args:
        store: the store's folder.
    """

    def __init__(self, store: Path) -> None:
        super().__init__()
        self._store = store

    def compose(self) -> ComposeResult:
        """The table between header and footer."""
        yield Header()
        yield DataTable(cursor_type="row")
        yield Footer()

    def on_mount(self) -> None:
        """Follow the runs."""
        self.query_one(DataTable).add_columns("run", "model", "layer", "state")
        follow(self, self._store, RunStore.runs, self._show, self._failed)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open a run."""
        self.app.push_screen(UnitsScreen(self._store, str(event.row_key.value)))

    def _show(self, runs: list[Run]) -> None:
        table = self.query_one(DataTable)
        table.clear()
        for run in runs:
            table.add_row(plain(run.id), plain(run.model), plain(run.layer), plain(run.status), key=run.id)

    def _failed(self, error: LineError) -> None:
        self.notify(plain(str(error)), severity="error", markup=False)
