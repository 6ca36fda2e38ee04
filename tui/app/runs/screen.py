"""Screen of all runs of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import DataTable, Input, Static

from line_neurons.agent.errors import LineError
from line_neurons.agent.text import short_score
from line_neurons.graphs.runs.loading import loading_runs
from line_neurons.tools.store.runs import has_runs
from line_neurons.tools.target_specs import unversioned_spec
from line_neurons.tui.app.chrome import Banner, FilterField, KeyFooter, TopBar
from line_neurons.tui.app.external import open_on_desktop
from line_neurons.tui.app.run_rows import SIGNS, RunRow, RunRowReader, new_row
from line_neurons.tui.app.runs.detail import RunDetail
from line_neurons.tui.app.store_screen import StoreScreen
from line_neurons.tui.app.table_sync import RowTable
from line_neurons.tui.app.units.screen import UnitsScreen
from line_neurons.tui.formatting import counted, duration, fit_middle, plain, when

_EMPTY = """
No runs here yet.

   n   start a run: choose a model, a layer and units

Or from a shell:

   line demo                            MobileNetV2 with embedded components
   line batch MODEL LAYER --units all   a whole layer

Runs that other processes start in this store appear here.
"""

_ORDERS: dict[str, Callable[[RunRow], Any]] = {
    "newest": lambda row: row.run.created,
    "name": lambda row: row.run.id,
    "state": lambda row: (-list(SIGNS).index(row.state), row.run.created),
    "progress": lambda row: (row.progress, row.run.created),
    "best margin": lambda row: (row.labels[0][1] if row.labels else float("-inf"), row.run.created),
}
_ASCENDING = {"name"}
_COLOURS = {
    "running": "success", "stopping": "warning", "starting": "warning", "process gone": "error", "failed": "error",
    "interrupted": "warning", "finished": "primary", "not started": "foreground",
}  # fmt: skip
_ON_RUNS = {"open", "resume", "stop", "retry", "filter", "sort", "reverse", "copy"}
_DETAILS_SIZE = (120, 34)
"""Width and height from which the details of a run are shown in full."""
_POLL_SECONDS = 1.0
"""Interval of looking for runs that load for a store without runs."""
_BAR, _SHORT_BAR = 10, 6
_LEAST_LABELS = 18
"""Width that the best labels have at least where other columns are shown, in cells."""
_IDENTIFIERS = {"run", "model", "layer", "language model"}
"""Columns with names, which differ at their ends."""
_ORDER = ("run", "state", "units", "images/s", "left", "model", "layer", "language model", "started")


class RunsScreen(StoreScreen):
    """The runs of a store: their progress, processes and best labels.

    Args:
        awaited: a run to open as soon as its units are in the store; empty if there is none.
    """

    DEFAULT_CSS = """
    RunsScreen {
        & #about { height: 1; padding: 0 1; color: $text-muted; }
        & #filter { height: 1; border: none; padding: 0 1; background: $panel; }
        & DataTable { height: 1fr; background: $background; }
        & DataTable > .datatable--header { background: $panel; color: $text-muted; text-style: none; }
        & #empty { display: none; height: 1fr; padding: 1; }
        &.-empty DataTable, &.-empty RunDetail, &.-empty #about { display: none; }
        &.-empty #empty { display: block; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", tooltip="Show the run's units and labels."),
        Binding("n", "new", "New", tooltip="Start a run from a form."),
        Binding("r", "resume", "Resume", tooltip="Continue the unfinished units in the background."),
        Binding("x", "stop", "Stop", tooltip="Finish and save the current steps, then stop."),
        Binding("t", "retry", "Retry", tooltip="Run the failed units again."),
        Binding("slash", "filter", "Filter", tooltip="By name, model, layer, state, label or language model."),
        Binding("s", "sort", "Sort", tooltip="Newest, name, state, progress, best margin."),
        Binding("D", "remove", "Delete", tooltip="Delete the run, after a confirmation.", show=False),
        Binding("o", "reverse", "Reverse order", show=False),
        Binding("c", "copy", "Copy name", show=False),
        Binding("g", "folder", "Open the store's folder", show=False),
        Binding("escape", "clear", "Clear the filter", show=False),
    ]

    def __init__(self, store: Path, awaited: str = "") -> None:
        super().__init__(store)
        self._awaited = awaited
        self._rows: list[RunRow] = []
        self._order = "newest"
        self._reversed = False
        self._is_new = False
        self._starting: set[str] = set()
        self._errors: dict[str, str] = {}
        self._cells: dict[str, list[Text]] = {}
        self._columns: list[tuple[str, int]] = []

    def compose(self) -> ComposeResult:
        """Lay out the table over the details of the selected run."""
        yield TopBar()
        yield Banner()
        yield Static(id="about")
        yield FilterField(RowTable, "words of a name, model, layer, state or label")
        yield RowTable()
        yield Static(Content(_EMPTY), id="empty")
        yield RunDetail()
        yield KeyFooter()

    def on_mount(self) -> None:
        """Follow the runs."""
        self.query_one(RowTable).focus()
        self.follow_store(RunRowReader(), self._show_rows)
        self.set_interval(_POLL_SECONDS, self._show_first_runs)
        self.app.theme_changed_signal.subscribe(self, lambda theme: self._draw(rebuild=True))

    def on_resize(self) -> None:
        """Choose columns for the new width."""
        self._draw(rebuild=True)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open a run."""
        self.action_open()

    def on_data_table_row_highlighted(self) -> None:
        """Show the details of the selected run."""
        self._draw_detail()

    def on_input_changed(self) -> None:
        """Filter while the user types."""
        self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer actions on a run where there is one."""
        return bool(self._rows) or action not in _ON_RUNS

    def action_open(self) -> None:
        """Open the selected run, which may have its units only once its components are loaded."""
        row = self._selected()
        if row is None:
            return
        if row.units:
            self.app.push_screen(UnitsScreen(self._store, row.run.id))
        else:
            self._awaited = row.run.id
            self._tell(f"{row.run.id} opens once its components are loaded")

    def action_new(self) -> None:
        """Open the form for a new run."""
        from line_neurons.tui.app.runs.new_run import NewRunScreen

        self.app.push_screen(NewRunScreen(self._store))

    def action_resume(self) -> None:
        """Resume the selected run in the background."""
        row = self._selected()
        if row is None or self._refuse_active(row):
            return
        if row.resumable:
            self._start(row, "resume")
        else:
            retry = "; t retries the failed units" if row.failed else ""
            self._tell(f"{row.run.id} has no unfinished units{retry}")

    def action_retry(self) -> None:
        """Retry the failed units of the selected run in the background."""
        row = self._selected()
        if row is None or self._refuse_active(row):
            return
        if row.failed:
            self._start(row, "retry")
        else:
            self._tell(f"{row.run.id} has no failed units")

    def action_stop(self) -> None:
        """Request the selected run to stop."""
        row = self._selected()
        if row is None:
            return
        if row.is_active:
            self.request_stop(row.run.id)
        elif row.state == "starting":
            self._tell(f"{row.run.id} is starting; it can be stopped once its components are loaded")
        else:
            self._tell(f"{row.run.id} is not active")

    def action_remove(self) -> None:
        """Delete the selected run, after a confirmation."""
        from line_neurons.tui.app.runs.remove import RemoveDialog

        row = self._selected()
        if row is None or self._refuse_active(row):
            return

        def answered(delete: bool | None) -> None:
            if delete:
                self.start_command(["rm", row.run.id, "--yes"], f"line rm {row.run.id}")

        self.app.push_screen(RemoveDialog(row), answered)

    def action_filter(self) -> None:
        """Open the filter."""
        self.query_one(FilterField).open()

    def action_clear(self) -> None:
        """Clear the filter."""
        self.query_one(FilterField).action_clear()

    def action_sort(self) -> None:
        """Sort by the next order."""
        orders = list(_ORDERS)
        self._order = orders[(orders.index(self._order) + 1) % len(orders)]
        self._reversed = False
        self._draw()

    def action_reverse(self) -> None:
        """Reverse the order."""
        self._reversed = not self._reversed
        self._draw()

    def action_copy(self) -> None:
        """Copy the name of the selected run."""
        if row := self._selected():
            self.copy_text(row.run.id, "name")

    def action_folder(self) -> None:
        """Open the store's folder, or copy its path."""
        if not open_on_desktop(self._store):
            self.copy_text(str(self._store.absolute()), "path: no file manager here")

    def show_store_error(self, error: LineError) -> None:
        """Show in the banner why the store cannot be read; an empty folder is no error."""
        if _has_no_runs_yet(self._store):
            self._is_new = True
            self._show_first_runs()
        else:
            super().show_store_error(error)

    def _selected(self) -> RunRow | None:
        table = self.query_one(RowTable)
        if not table.row_count:
            return None
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        return next((row for row in self._rows if row.run.id == key), None)

    def _refuse_active(self, row: RunRow) -> bool:
        starting = row.state == "starting" or row.run.id in self._starting
        if row.is_active:
            self._tell(f"{row.holder} is working on {row.run.id}; x stops it")
        elif starting:
            self._tell(f"{row.run.id} is starting")
        return row.is_active or starting

    def _start(self, row: RunRow, command: str) -> None:
        run = row.run.id
        if self.start_command([command, run], f"line {command} {run}", partial(self._ended, run)):
            self._starting.add(run)
            self._errors.pop(run, None)
            self._tell(f"line {command} {run} started in the background")
            self._draw()

    def _ended(self, run: str, status: int, error: str) -> None:
        self._starting.discard(run)
        if error:
            self._errors[run] = error
        self._draw()

    def _tell(self, text: str) -> None:
        self.notify(plain(text), markup=False, timeout=4)

    def _show_first_runs(self) -> None:
        """Show what loads for a store that has no run yet, which the follower cannot read."""
        if self._is_new:
            self._show([new_row(run) for run in loading_runs(self._store)])

    def _show_rows(self, rows: list[RunRow]) -> None:
        self._is_new = False
        self._show(rows)
        if any(row.run.id == self._awaited and row.units for row in rows):
            self.app.push_screen(UnitsScreen(self._store, self._awaited))
            self._awaited = ""

    def _show(self, rows: list[RunRow]) -> None:
        self.query_one(Banner).clear()
        self.set_class(not rows, "-empty")
        if bool(rows) != bool(self._rows):
            self.call_after_refresh(self.refresh_bindings)
        self._rows = rows
        self._draw()

    def _filtered(self) -> list[RunRow]:
        words = self.query_one("#filter", Input).value.lower().split()
        rows = [row for row in self._rows if all(word in _searchable_text(row) for word in words)]
        descending = (self._order not in _ASCENDING) != self._reversed
        return sorted(rows, key=_ORDERS[self._order], reverse=descending)

    def _draw(self, *, rebuild: bool = False) -> None:
        """Update the table; the cursor stays on its run, and the scroll position stays."""
        if not self.is_attached or not self.size.width:
            return
        rows = self._filtered()
        columns = _columns(self.size.width, rows)
        cells = {row.run.id: [self._cell(row, name, width) for name, width in columns] for row in rows}
        table = self.query_one(RowTable)
        # Columns come and go with the runs that are active.
        if rebuild or columns != self._columns or list(cells) != list(self._cells):
            self._fill(table, columns, cells)
        else:
            for index, (run, new) in enumerate(cells.items()):
                for column, (cell, old) in enumerate(zip(new, self._cells[run], strict=True)):
                    if cell != old:
                        table.update_cell_at((index, column), cell)  # type: ignore[arg-type]
        self._cells, self._columns = cells, columns
        active = sum(row.is_active for row in self._rows)
        filtered = "" if len(rows) == len(self._rows) else f"{len(rows)} of "
        order = f"{self._order}{', reversed' if self._reversed else ''}"
        self.query_one("#about", Static).update(
            Content(f"{filtered}{counted(len(self._rows), 'run')}, {active} running; sorted by {order}")
        )
        self._draw_detail()

    def _fill(self, table: RowTable, columns: Sequence[tuple[str, int]], cells: dict[str, list[Text]]) -> None:
        selected, scroll_y = self._selected(), table.scroll_y
        with self.prevent(DataTable.RowHighlighted):
            table.clear(columns=True)
            for name, width in columns:
                table.add_column(Text(name), width=width, key=name)
            for run, values in cells.items():
                table.add_row(*values, key=run)
            if selected is not None and selected.run.id in cells:
                table.move_cursor(row=list(cells).index(selected.run.id), scroll=False)
                table.scroll_to(y=scroll_y, animate=False, force=True)

    def _draw_detail(self) -> None:
        row = self._selected()
        error = self._errors.get(row.run.id, "") if row else ""
        full = self.size.width >= _DETAILS_SIZE[0] and self.size.height >= _DETAILS_SIZE[1]
        self.query_one(RunDetail).show(row, error, full=full)

    def _cell(self, row: RunRow, column: str, width: int) -> Text:
        run = row.run
        state = "starting" if run.id in self._starting and not row.is_active else row.state
        colour = self.app.theme_variables.get(_COLOURS[state], "") if column in {"state", "units"} else ""
        text = {
            "run": lambda: plain(run.id),
            "state": lambda: f"{SIGNS[state]} {state}{' !' if row.short_remarks and not row.resumable else ''}",
            "units": lambda: _progress_bar(row, _bar_width(self.size.width)) if row.units else "",
            "images/s": lambda: "" if row.images_per_second is None else f"{row.images_per_second:.1f}",
            "left": lambda: "" if row.seconds_left is None else duration(row.seconds_left),
            "model": lambda: plain(run.target_name),
            "layer": lambda: plain(run.layer),
            "language model": lambda: plain(run.settings.get("llm")),
            "started": lambda: when(run.created),
            "best labels": lambda: ", ".join(
                f"{plain(label)} +{short_score(margin)}" for label, margin in row.labels
            ),
        }[column]()
        if column == "model" and cell_len(text) > width:
            text = unversioned_spec(text)
            text = text if cell_len(text) <= width else text.rpartition(":")[2]
        if column in _IDENTIFIERS:
            text = fit_middle(text, width)
        cell = Text(text, style=colour, no_wrap=True, overflow="ellipsis")
        cell.truncate(width, overflow="ellipsis")
        return cell


def _has_no_runs_yet(store: Path) -> bool:
    try:
        return not has_runs(store) and not (store / "runs.db").is_dir()
    except LineError:
        return False


def _columns(width: int, rows: Sequence[RunRow]) -> list[tuple[str, int]]:
    """Choose columns and their widths in cells for a screen of a width; the last one takes the rest."""

    def longest(texts: Iterable[str], least: int, most: int) -> int:
        return max(least, min(max(map(cell_len, texts), default=0), most))

    widths = {
        "run": longest((row.run.id for row in rows), 12, width * 7 // 20),
        "state": 14,
        "units": _bar_width(width) + 11,
    }
    # A cell of padding at each side, and the scroll bar.
    rest = width - sum(widths.values()) - 2 * len(widths) - 4
    active = any(row.is_active for row in rows)
    layers = longest((plain(row.run.layer) for row in rows), 5, 24)
    models = longest((plain(row.run.target_name) for row in rows), 12, 40)
    for name, least, most in (
        ("left", 7, 7 if active else 0),
        ("layer", min(layers, 12), layers),
        ("model", 14, models),
        ("images/s", 8, 8 if active else 0),
        ("language model", 14, longest((plain(row.run.settings.get("llm")) for row in rows), 14, 20)),
        ("started", 16, 16),
    ):
        if most and rest - least - 2 >= _LEAST_LABELS:
            widths[name] = min(most, rest - _LEAST_LABELS - 2)
            rest -= widths[name] + 2
    return [*((name, widths[name]) for name in _ORDER if name in widths), ("best labels", max(rest, 10))]


def _bar_width(width: int) -> int:
    return _BAR if width >= 100 else _SHORT_BAR


def _progress_bar(row: RunRow, width: int) -> str:
    """Draw the share of finished units with their number, and the number of failed ones."""
    full = round(row.progress * width)
    failed = f" {row.failed}!" if row.failed else ""
    return f"{'█' * full}{'░' * (width - full)} {row.finished}/{row.units}{failed}"


def _searchable_text(row: RunRow) -> str:
    run = row.run
    labels = " ".join(label for label, _ in row.labels)
    return f"{run.id} {run.target_name} {run.layer} {row.state} {run.settings.get('llm')} {labels}".lower()
