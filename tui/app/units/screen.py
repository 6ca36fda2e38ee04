"""The units of a run: a table to come back to, and what can be done with the run."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from line_neurons.agent.errors import LineError, UsageError
from line_neurons.tools.store.leases import request_stop_of
from line_neurons.tools.store.queries import best_scores
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app.banner import Banner
from line_neurons.tui.app.processes import Launched, launch
from line_neurons.tui.app.store_follower import follow
from line_neurons.tui.app.top_bar import TopBar
from line_neurons.tui.app.unit.screen import UnitScreen
from line_neurons.tui.app.units.columns import SORTABLE
from line_neurons.tui.app.units.detail import UnitDetail
from line_neurons.tui.app.units.filter import matcher
from line_neurons.tui.app.units.header import RunHead
from line_neurons.tui.app.units.model import Seen, UnitsReader
from line_neurons.tui.app.units.sort_menu import SortMenu
from line_neurons.tui.app.units.table import UnitsTable
from line_neurons.tui.cli.exit_codes import is_failure
from line_neurons.tui.formatting import plain

_LOOK_SECONDS = 0.3
"""As often it is looked how a process that was started fares."""

_BEST_FIRST = {"score", "margin", "auc", "mad", "steps", "seconds"}
"""What is sorted with the greatest first, unless the order is flipped."""


class UnitsScreen(Screen[None]):
    """The units of a run with their labels.

    Args:
        store: the store's folder.
        run: id of the run.
    """

    DEFAULT_CSS = """
    UnitsScreen #bar { height: 1; padding: 0 1; background: $surface; }
    UnitsScreen #filter { width: 1fr; display: none; }
    UnitsScreen #count { width: auto; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", show=False),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("s", "sort", "Sort"),
        Binding("o", "other_order", "Other order", show=False),
        Binding("m", "mark", "Compare", tooltip="Mark this unit; a second one opens the comparison"),
        Binding("c", "copy", "Copy", tooltip="Copy the label"),
        Binding("r", "resume", "Resume", tooltip="Finish what is not finished"),
        Binding(
            "x", "stop", "Stop", tooltip="Ask the process that works on the run to stop after the steps in hand"
        ),
        Binding("t", "retry", "Retry", tooltip="Take the failed units again"),
    ]

    def __init__(self, store: Path, run: str) -> None:
        super().__init__()
        self._store = store
        self._run = run
        self._seen: Seen | None = None
        self._reader = UnitsReader(run)
        self._trends: dict[int, tuple[object, tuple[float, ...]]] = {}
        self._in_sight: dict[int, object] = {}
        self._started: Launched | None = None

    def compose(self) -> ComposeResult:
        """The run's head, the table and what is known of the unit under the cursor."""
        yield TopBar()
        yield Banner()
        yield RunHead()
        with Horizontal(id="bar"):
            yield Input(placeholder="words, state:failed, score>2, -origin:predefined", id="filter", compact=True)
            yield Static(id="count", markup=False)
        yield UnitsTable()
        yield UnitDetail()
        yield Footer()

    def on_mount(self) -> None:
        """Follow the units."""
        self.title = self._run
        self.query_one(UnitsTable).focus()
        follow(self, self._store, self._reader, self._show, self._failed)

    # Showing

    def _show(self, seen: Seen) -> None:
        self._seen = seen
        self.query_one(Banner).clear()
        self.query_one(RunHead).show_run(seen)
        self.query_one(UnitsTable).show_units(seen.lines, seen.doing, seen.tally.highest)
        self._tell_unit()
        self._count()
        self.refresh_bindings()

    def _failed(self, error: LineError) -> None:
        self.query_one(Banner).say(error)

    def _complain(self, error: LineError) -> None:
        self.notify(plain(str(error)), severity="error", markup=False)

    def _count(self) -> None:
        table, all_units = self.query_one(UnitsTable), len(self._seen.lines) if self._seen else 0
        shown = len(table.shown)
        some = f"{shown} of " if shown != all_units else ""
        order = f"{table.column.heading} {'▼' if table.descending else '▲'}"
        self.query_one("#count", Static).update(
            f" {some}{all_units} unit{'' if all_units == 1 else 's'}, by {order}"
        )

    def on_units_table_pointed(self) -> None:
        """Tell of the unit under the cursor."""
        self._tell_unit()

    def _tell_unit(self) -> None:
        if (seen := self._seen) is not None:
            line = self.query_one(UnitsTable).pointed
            doing = seen.doing.get(line.unit) if line else None
            self.query_one(UnitDetail).show_unit(line, doing, worked_on=seen.row.is_held)

    def on_units_table_in_sight(self, event: UnitsTable.InSight) -> None:
        """Have the scores of the units in sight read."""
        self._in_sight = dict(event.units)
        if not any(worker.group == "trends" and not worker.is_finished for worker in self.workers):
            self.run_worker(self._read_trends(), group="trends", exit_on_error=False)

    def _missing(self) -> dict[int, object]:
        """Units in sight whose scores have not been read as they are now."""
        return {unit: now for unit, now in self._in_sight.items() if self._trends.get(unit, (None,))[0] != now}

    async def _read_trends(self) -> None:
        while missing := self._missing():
            try:
                found = await asyncio.to_thread(self._look_up, list(missing))
            except LineError:
                # That the store cannot be read is told by who follows it.
                return
            self._trends |= {unit: (state, found[unit]) for unit, state in missing.items()}
            self.query_one(UnitsTable).show_trends({unit: trend for unit, (_, trend) in self._trends.items()})

    def _look_up(self, units: list[int]) -> dict[int, tuple[float, ...]]:
        with closing(RunStore(self._store, read_only=True)) as runs:
            return best_scores(runs, self._run, units)

    # Finding

    def action_filter(self) -> None:
        """Ask for a filter."""
        field = self.query_one("#filter", Input)
        field.display = True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed; what is not whole yet leaves the filter as it was."""
        try:
            matches = matcher(event.value)
        except UsageError as error:
            self.query_one("#count", Static).update(f" {plain(error.message)}")
            return
        self.query_one(UnitsTable).filter(matches)
        self._count()

    def on_input_submitted(self) -> None:
        """Go to what was found."""
        self.query_one(UnitsTable).focus()

    def key_down(self) -> None:
        """Go from the filter to what it found."""
        self.query_one(UnitsTable).focus()

    def action_back(self) -> None:
        """Take the filter away or, where there is none, go back to the runs."""
        field = self.query_one("#filter", Input)
        if field.display:
            field.value = ""
            field.display = False
            self.query_one(UnitsTable).focus()
        else:
            self.app.pop_screen()

    def action_sort(self) -> None:
        """Ask what to sort by."""
        table = self.query_one(UnitsTable)

        def chosen(key: str | None) -> None:
            for column in SORTABLE:
                if column.key == key:
                    table.sort(column, descending=key in _BEST_FIRST)

        headings = [(column.key, column.heading) for column in SORTABLE]
        self.app.push_screen(SortMenu(headings, table.column.key), chosen)

    def action_other_order(self) -> None:
        """Flip the order."""
        table = self.query_one(UnitsTable)
        table.sort(table.column, descending=not table.descending)

    def on_units_table_ordered(self) -> None:
        """Say how the table is sorted."""
        self._count()

    # What can be done with a unit

    def on_units_table_opened(self, event: UnitsTable.Opened) -> None:
        """Open a unit."""
        self.app.push_screen(UnitScreen(self._store, self._run, event.unit))

    def action_mark(self) -> None:
        """Mark the unit, or take its mark away; with the second mark both are compared."""
        table = self.query_one(UnitsTable)
        if (line := table.pointed) is None:
            return
        marked = tuple(unit for unit in table.marked if unit != line.unit)
        table.mark(marked if line.unit in table.marked else (*marked, line.unit))
        if len(table.marked) == 2:
            from line_neurons.tui.app.unit.compare import CompareScreen

            left, right = table.marked
            table.mark(())
            self.app.push_screen(CompareScreen(self._store, (self._run, left), (self._run, right)))

    def action_copy(self) -> None:
        """Copy the label of the unit."""
        line = self.query_one(UnitsTable).pointed
        if line is None or not line.label:
            self.notify("This unit has no label yet.", severity="warning")
            return
        self.app.copy_to_clipboard(line.label)
        self.notify(f"Copied: {line.label}", markup=False)

    # What can be done with the run

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what the run's state allows."""
        seen = self._seen
        if action not in {"resume", "stop", "retry"} or seen is None:
            return True
        row = seen.row
        return {
            "resume": not row.is_held and row.goes_on,
            "stop": row.is_held,
            "retry": not row.is_held and row.failed > 0,
        }[action]

    def action_resume(self) -> None:
        """Finish what is not finished, in a process of its own."""
        self._launch("resume")

    def action_retry(self) -> None:
        """Take the failed units again, in a process of its own."""
        self._launch("retry")

    def action_stop(self) -> None:
        """Ask the process that works on the run to stop."""
        self.run_worker(self._ask_to_stop(), group="stop", exit_on_error=False)

    async def _ask_to_stop(self) -> None:
        try:
            asked = await asyncio.to_thread(request_stop_of, self._store, self._run)
        except LineError as error:
            self._complain(error)
            return
        self.notify(
            "Asked to stop: it ends the steps in hand, and keeps them." if asked else "Nobody works on it."
        )

    def _launch(self, command: str) -> None:
        if self._started is not None:
            self.notify("A process for this run is starting already.", severity="warning")
            return
        try:
            self._started = launch(self._store, [command, self._run])
        except LineError as error:
            self._complain(error)
            return
        self.notify(f"line {command} {self._run}", title="Started", markup=False)
        self.run_worker(self._until_at_work(self._started), group="started", exit_on_error=False)

    async def _until_at_work(self, started: Launched) -> None:
        """Wait until the started process works on the run; say why if it ends before."""
        while (status := started.poll()) is None and not (self._seen and self._seen.row.is_held):
            await asyncio.sleep(_LOOK_SECONDS)
        if is_failure(status):
            said = plain(started.said()) or f"it ended with status {status}"
            self.notify(said, title=f"line {started.arguments[0]}", severity="error", markup=False)
        self._started = None
