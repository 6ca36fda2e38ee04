"""Screen of the units of a run."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Static

from line_neurons.agent.errors import LineError, UsageError
from line_neurons.agent.text import format_spread
from line_neurons.tools.spreads import Spreads
from line_neurons.tools.store.queries import best_scores
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app.chrome import Banner, FilterField, KeyFooter, TopBar
from line_neurons.tui.app.store_screen import StoreScreen
from line_neurons.tui.app.unit.screen import UnitScreen
from line_neurons.tui.app.units.columns import SORTABLE
from line_neurons.tui.app.units.filter import matcher
from line_neurons.tui.app.units.header import RunHeader, UnitDetail
from line_neurons.tui.app.units.model import RunSnapshot, RunSnapshotReader, UnitLine
from line_neurons.tui.app.units.sort_menu import SortMenu
from line_neurons.tui.app.units.table import UnitsTable
from line_neurons.tui.formatting import counted, plain

_BEST_FIRST = {"score", "margin", "auc", "mad", "facets", "polysemanticity", "steps", "seconds"}
"""Columns that are sorted in descending order first."""


class UnitsScreen(StoreScreen):
    """The units of a run with their labels. MAD is the mean activation difference."""

    DEFAULT_CSS = """
    UnitsScreen #bar { height: 1; padding: 0 1; background: $surface; }
    UnitsScreen #filter { width: 1fr; }
    UnitsScreen #count { width: auto; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back"),
        Binding("r", "resume", "Resume", tooltip="Continue the unfinished units in the background."),
        Binding("x", "stop", "Stop", tooltip="Finish and save the current steps, then stop."),
        Binding("t", "retry", "Retry", tooltip="Run the failed units again."),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("s", "sort", "Sort"),
        Binding("o", "reverse", "Reverse order", show=False),
        Binding("m", "mark", "Compare", tooltip="Mark this unit; a second mark opens the comparison."),
        Binding("c", "copy", "Copy label"),
    ]

    def __init__(self, store: Path, run: str) -> None:
        super().__init__(store)
        self._run = run
        self._snapshot: RunSnapshot | None = None
        self._reader = RunSnapshotReader(run)
        self._trends: dict[int, tuple[object, tuple[float, ...]]] = {}
        self._visible_units: dict[int, object] = {}
        self._starting = False
        self._spread: tuple[UnitLine | None, str] = None, ""

    def compose(self) -> ComposeResult:
        """Lay out the run, the table and the selected unit."""
        yield TopBar()
        yield Banner()
        yield RunHeader()
        with Horizontal(id="bar"):
            yield FilterField(UnitsTable, "words, state:failed, score>2, -origin:predefined")
            yield Static(id="count", markup=False)
        yield UnitsTable()
        yield UnitDetail()
        yield KeyFooter()

    def on_mount(self) -> None:
        """Follow the units."""
        self.title = self._run
        self.query_one(UnitsTable).focus()
        self.follow_store(self._reader, self._show)

    # Display

    def _show(self, snapshot: RunSnapshot) -> None:
        self._snapshot = snapshot
        self._starting = self._starting and not snapshot.row.is_active
        self.query_one(Banner).clear()
        self.query_one(RunHeader).show(snapshot)
        self.sub_title = f"{snapshot.row.run.target_name} {snapshot.row.run.layer}"
        statistics = snapshot.statistics
        scale = statistics.lowest, statistics.highest
        self.query_one(UnitsTable).show_units(snapshot.lines, snapshot.activities, scale)
        self._show_unit()
        self._show_count()
        self.refresh_bindings()

    def _show_count(self) -> None:
        table, total = self.query_one(UnitsTable), len(self._snapshot.lines) if self._snapshot else 0
        filtered = f"{len(table.lines)} of " if len(table.lines) != total else ""
        order = f"{table.column.heading} {'▼' if table.descending else '▲'}"
        self.query_one("#count", Static).update(f" {filtered}{counted(total, 'unit')}, by {order}")

    def on_units_table_current_changed(self) -> None:
        """Show the selected unit, and read the spread of its score."""
        self._show_unit()
        line = self.query_one(UnitsTable).current_line
        if line is not None and line.score is not None:
            self.run_worker(self._read_spread(line), group="spread", exclusive=True, exit_on_error=False)

    async def _read_spread(self, line: UnitLine) -> None:
        try:
            self._spread = line, format_spread(await asyncio.to_thread(self._query_spread, line.unit))
        except LineError:
            # The banner shows why the store cannot be read.
            return
        self._show_unit()

    def _query_spread(self, unit: int) -> float | None:
        with closing(RunStore(self._store, read_only=True)) as runs:
            record = runs.unit(self._run, unit)
            return Spreads(self._store, runs.run_by_id(self._run)).of_units([record])[0] if record else None

    def _show_unit(self) -> None:
        if (snapshot := self._snapshot) is not None:
            line = self.query_one(UnitsTable).current_line
            activity = snapshot.activities.get(line.unit) if line else None
            spread = self._spread[1] if line == self._spread[0] else ""
            self.query_one(UnitDetail).show(line, activity, spread, is_active=snapshot.row.is_active)

    def on_units_table_visible_changed(self, event: UnitsTable.VisibleChanged) -> None:
        """Read the trends of the visible units."""
        self._visible_units = dict(event.units)
        if not any(worker.group == "trends" and not worker.is_finished for worker in self.workers):
            self.run_worker(self._read_trends(), group="trends", exit_on_error=False)

    def _missing_trends(self) -> dict[int, object]:
        """Return the visible units whose current trends are not read."""
        return {
            unit: now for unit, now in self._visible_units.items() if self._trends.get(unit, (None,))[0] != now
        }

    async def _read_trends(self) -> None:
        while missing := self._missing_trends():
            try:
                read = await asyncio.to_thread(self._query_trends, list(missing))
            except LineError:
                # The banner shows why the store cannot be read.
                return
            self._trends |= {unit: (state, read[unit]) for unit, state in missing.items()}
            self.query_one(UnitsTable).show_trends({unit: trend for unit, (_, trend) in self._trends.items()})

    def _query_trends(self, units: list[int]) -> dict[int, tuple[float, ...]]:
        with closing(RunStore(self._store, read_only=True)) as runs:
            return best_scores(runs, self._run, units)

    # Filter and order

    def action_filter(self) -> None:
        """Open the filter."""
        self.query_one(FilterField).open()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while the user types; an incomplete query leaves the filter unchanged."""
        try:
            matches = matcher(event.value)
        except UsageError as error:
            self.query_one("#count", Static).update(f" {plain(error.message)}")
            return
        self.query_one(UnitsTable).filter(matches)
        self._show_count()

    def action_back(self) -> None:
        """Clear the filter or, without one, return to the runs."""
        field = self.query_one(FilterField)
        if field.display:
            field.action_clear()
        else:
            self.app.pop_screen()

    def action_sort(self) -> None:
        """Open the menu of columns to sort by."""
        table = self.query_one(UnitsTable)

        def sort_by(key: str | None) -> None:
            for column in SORTABLE:
                if column.key == key:
                    table.sort(column, descending=key in _BEST_FIRST)

        headings = [(column.key, column.heading) for column in SORTABLE]
        self.app.push_screen(SortMenu(headings, table.column.key), sort_by)

    def action_reverse(self) -> None:
        """Reverse the order."""
        table = self.query_one(UnitsTable)
        table.sort(table.column, descending=not table.descending)

    def on_units_table_sort_changed(self) -> None:
        """Show the new order."""
        self._show_count()

    # Actions on a unit

    def on_units_table_opened(self, event: UnitsTable.Opened) -> None:
        """Open a unit."""
        self.app.push_screen(UnitScreen(self._store, self._run, event.unit))

    def action_mark(self) -> None:
        """Mark or unmark the unit; a second mark compares both."""
        table = self.query_one(UnitsTable)
        if (line := table.current_line) is None:
            return
        marked = tuple(unit for unit in table.marked if unit != line.unit)
        table.mark(marked if line.unit in table.marked else (*marked, line.unit))
        if len(table.marked) == 2:
            from line_neurons.tui.app.unit.compare import CompareUnitsScreen

            left, right = table.marked
            table.mark(())
            self.app.push_screen(CompareUnitsScreen(self._store, (self._run, left), (self._run, right)))

    def action_copy(self) -> None:
        """Copy the label of the unit."""
        line = self.query_one(UnitsTable).current_line
        if line is None or not line.label:
            self.warn("This unit has no label yet.")
            return
        self.copy_text(line.label, "label")

    # Actions on the run

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only the actions that the state of the run allows."""
        if action not in {"resume", "stop", "retry"} or self._snapshot is None:
            return True
        row = self._snapshot.row
        return {
            "resume": not row.is_active and row.resumable,
            "stop": row.is_active,
            "retry": not row.is_active and row.state != "starting" and row.failed > 0,
        }[action]

    def action_resume(self) -> None:
        """Resume the run in the background."""
        self._start("resume")

    def action_retry(self) -> None:
        """Retry the failed units in the background."""
        self._start("retry")

    def action_stop(self) -> None:
        """Request the run to stop after its current steps."""
        self.request_stop(self._run)

    def _start(self, command: str) -> None:
        if self._starting:
            self.warn("A process for this run is already starting.")
            return

        def ended(status: int, error: str) -> None:
            self._starting = False

        if self.start_command([command, self._run], f"line {command}", ended):
            self._starting = True
            self.notify(f"line {command} {self._run}", title="Started in the background", markup=False)
