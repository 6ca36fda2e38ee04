"""Every run of the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Input, Static

from line_neurons.agent.errors import LineError
from line_neurons.agent.text import format_score
from line_neurons.tools.store.leases import request_stop_of
from line_neurons.tools.store.runs import has_runs
from line_neurons.tui.app.banner import Banner
from line_neurons.tui.app.external import open_outside
from line_neurons.tui.app.processes import Launched, launch
from line_neurons.tui.app.run_rows import SIGNS, RunRow, RunRows
from line_neurons.tui.app.runs.detail import RunDetail
from line_neurons.tui.app.store_follower import follow
from line_neurons.tui.app.top_bar import TopBar
from line_neurons.tui.app.units.screen import UnitsScreen
from line_neurons.tui.cli.exit_codes import is_failure
from line_neurons.tui.formatting import duration, plain, when

_EMPTY = """
No runs here yet.

   n   begins a run: choose a model, a layer and its units

Or from a shell:

   line demo                              MobileNetV2 with embedded parts only
   line batch MODEL LAYER --units all     a whole layer

Runs started anywhere on this machine appear by themselves.
"""

_ORDERS: dict[str, Callable[[RunRow], Any]] = {
    "newest": lambda row: row.run.created,
    "name": lambda row: row.run.id,
    "state": lambda row: (-list(SIGNS).index(row.state), row.run.created),
    "progress": lambda row: (row.share, row.run.created),
    "best margin": lambda row: (row.labels[0][1] if row.labels else float("-inf"), row.run.created),
}
_UPWARDS = {"name"}
_COLOURS = {
    "running": "success", "stopping": "warning", "starting": "warning", "process gone": "error", "failed": "error",
    "interrupted": "warning", "finished": "primary", "not begun": "foreground",
}  # fmt: skip
_ROOMY = (120, 34)
_POLL_SECONDS = 0.3
_BAR, _SHORT_BAR = 10, 6


class RunsScreen(Screen[None]):
    """The runs of a store: how far they are, who works on them, and their best labels.

    Args:
        store: the store's folder.
    """

    DEFAULT_CSS = """
    RunsScreen {
        & #about { height: 1; padding: 0 1; color: $text-muted; }
        & #filter { display: none; height: 1; border: none; padding: 0 1; background: $panel; }
        & #filter.-shown { display: block; }
        & DataTable { height: 1fr; background: $background; }
        & DataTable > .datatable--header { background: $panel; color: $text-muted; text-style: none; }
        & #empty { display: none; height: 1fr; padding: 1 3; }
        &.-empty DataTable, &.-empty RunDetail, &.-empty #about { display: none; }
        &.-empty #empty { display: block; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", tooltip="The units of the run, with their labels."),
        Binding("n", "new", "New", tooltip="Begin a run, with a form."),
        Binding("r", "resume", "Resume", tooltip="Finish what is not finished, in a process of its own."),
        Binding("x", "stop", "Stop", tooltip="The steps in hand are ended and kept."),
        Binding("t", "retry", "Retry", tooltip="Take the failed units again."),
        Binding("slash", "filter", "Filter", tooltip="By name, model, layer, state, label or language model."),
        Binding("s", "sort", "Sort", tooltip="Newest, name, state, progress, best margin."),
        Binding("o", "reverse", "Other order", show=False),
        Binding("c", "copy", "Copy name", show=False),
        Binding("g", "folder", "Go to the store's folder", show=False),
        Binding("escape", "clear", "Clear the filter", show=False),
    ]

    def __init__(self, store: Path) -> None:
        super().__init__()
        self._store = store
        self._rows: list[RunRow] = []
        self._order = "newest"
        self._reversed = False
        self._launched: dict[str, Launched] = {}
        self._said: dict[str, str] = {}
        self._cells: dict[str, list[Text]] = {}

    def compose(self) -> ComposeResult:
        """What is listed and in which order, the table, and the run under the cursor."""
        yield TopBar()
        yield Banner()
        yield Static(id="about")
        yield Input(placeholder="filter: words of a name, model, layer, state or label", id="filter", compact=True)
        yield DataTable(cursor_type="row", cell_padding=1)
        yield Static(Content(_EMPTY), id="empty")
        yield RunDetail()
        yield Footer()

    def on_mount(self) -> None:
        """Follow the runs."""
        self.query_one(DataTable).focus()
        follow(self, self._store, RunRows(), self._show, self._failed)
        self.set_interval(_POLL_SECONDS, self._look_after)
        self.app.theme_changed_signal.subscribe(self, lambda theme: self._draw(anew=True))

    def on_resize(self) -> None:
        """Columns as the width allows."""
        self._draw(anew=True)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open a run."""
        self.app.push_screen(UnitsScreen(self._store, str(event.row_key.value)))

    def on_data_table_row_highlighted(self) -> None:
        """Tell about the run under the cursor."""
        self._draw_detail()

    def on_input_changed(self) -> None:
        """Filter as one types."""
        self._draw()

    def on_input_submitted(self) -> None:
        """Back to the table, with the filter."""
        self.query_one(DataTable).focus()

    def action_open(self) -> None:
        """Open the run under the cursor."""
        if row := self._current():
            self.app.push_screen(UnitsScreen(self._store, row.run.id))

    def action_new(self) -> None:
        """Open the form for a new run."""
        from line_neurons.tui.app.runs.new_run import NewRunScreen

        self.app.push_screen(NewRunScreen(self._store))

    def action_resume(self) -> None:
        """Let a process go on with the run under the cursor."""
        row = self._current()
        if row is None or self._refuse_held(row):
            return
        if row.goes_on:
            self._launch(row, "resume")
        else:
            again = "; t takes the failed units again" if row.failed else ""
            self._tell(f"nothing is left to do in {row.run.id}{again}")

    def action_retry(self) -> None:
        """Let a process take the failed units of the run under the cursor again."""
        row = self._current()
        if row is None or self._refuse_held(row):
            return
        if row.failed:
            self._launch(row, "retry")
        else:
            self._tell(f"no unit of {row.run.id} has failed")

    def action_stop(self) -> None:
        """Ask the process that works on the run under the cursor to stop."""
        row = self._current()
        if row is None:
            return
        if row.is_held:
            self.run_worker(partial(self._ask_to_stop, row.run.id), thread=True, exit_on_error=False)
        else:
            self._tell(f"nobody works on {row.run.id}")

    def action_filter(self) -> None:
        """Type what the runs are filtered by."""
        field = self.query_one("#filter", Input)
        field.add_class("-shown")
        field.focus()

    def action_clear(self) -> None:
        """Show all runs again."""
        field = self.query_one("#filter", Input)
        field.value = ""
        field.remove_class("-shown")
        self.query_one(DataTable).focus()

    def action_sort(self) -> None:
        """Take the next order."""
        orders = list(_ORDERS)
        self._order = orders[(orders.index(self._order) + 1) % len(orders)]
        self._reversed = False
        self._draw()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._reversed = not self._reversed
        self._draw()

    def action_copy(self) -> None:
        """Copy the name of the run under the cursor."""
        if row := self._current():
            self.app.copy_to_clipboard(row.run.id)
            self._tell(f"copied {row.run.id}")

    def action_folder(self) -> None:
        """Open the store's folder, or say where it is."""
        folder = str(self._store.absolute())
        if not open_outside(self._store):
            self.app.copy_to_clipboard(folder)
            self._tell(f"there is no desktop here to open it with; copied {folder}")

    def _current(self) -> RunRow | None:
        table = self.query_one(DataTable)
        if not table.row_count:
            return None
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        return next((row for row in self._rows if row.run.id == key), None)

    def _refuse_held(self, row: RunRow) -> bool:
        if row.is_held:
            self._tell(f"{row.holder} works on {row.run.id}; x stops it")
        elif row.run.id in self._launched:
            self._tell(f"{row.run.id} is being started")
        return row.is_held or row.run.id in self._launched

    def _launch(self, row: RunRow, command: str) -> None:
        try:
            self._launched[row.run.id] = launch(self._store, [command, row.run.id])
        except LineError as error:
            self._tell(str(error), severity="error")
            return
        self._said.pop(row.run.id, None)
        self._tell(f"line {command} {row.run.id}: started in a process of its own")
        self._draw()

    def _look_after(self) -> None:
        """What became of the commands that were started here."""
        for run, launched in list(self._launched.items()):
            status = launched.poll()
            if status is None:
                continue
            del self._launched[run]
            if is_failure(status):
                self._said[run] = plain(launched.said()) or f"it ended with status {status}; see {launched.log}"
                self._tell(f"{run}: {self._said[run]}", severity="error")
            self._draw()

    def _ask_to_stop(self, run: str) -> None:
        try:
            asked = request_stop_of(self._store, run)
            said = f"asked to stop: {run} ends the steps in hand, and keeps them"
            self.call_later(self._tell, said if asked else f"nobody works on {run} any more")
        except LineError as error:
            self.call_later(partial(self._tell, str(error), severity="error"))

    def _tell(self, text: str, severity: Any = "information") -> None:
        self.notify(plain(text), severity=severity, markup=False, timeout=12 if severity == "error" else 4)

    def _failed(self, error: LineError) -> None:
        if _has_no_runs_yet(self._store):
            self.add_class("-empty")
            self.query_one(Banner).clear()
        else:
            self.query_one(Banner).say(error)

    def _show(self, rows: list[RunRow]) -> None:
        self.query_one(Banner).clear()
        self.set_class(not rows, "-empty")
        self._rows = rows
        self._draw()

    def _chosen(self) -> list[RunRow]:
        words = self.query_one("#filter", Input).value.lower().split()
        found = [row for row in self._rows if all(word in _text(row) for word in words)]
        downwards = (self._order not in _UPWARDS) != self._reversed
        return sorted(found, key=_ORDERS[self._order], reverse=downwards)

    def _draw(self, *, anew: bool = False) -> None:
        """Bring the table up to date; the cursor stays on its run, and what is in sight in sight."""
        if not self.is_attached or not self.size.width:
            return
        rows = self._chosen()
        columns = _columns(self.size.width, max((len(row.run.id) for row in rows), default=0))
        cells = {row.run.id: [self._cell(row, name, width) for name, width in columns] for row in rows}
        table = self.query_one(DataTable)
        if anew or list(cells) != list(self._cells):
            self._fill(table, columns, cells)
        else:
            for place, (run, now) in enumerate(cells.items()):
                for column, (cell, before) in enumerate(zip(now, self._cells[run], strict=True)):
                    if cell != before:
                        table.update_cell_at((place, column), cell)  # type: ignore[arg-type]
        self._cells = cells
        running = sum(row.is_held for row in self._rows)
        shown = "" if len(rows) == len(self._rows) else f"{len(rows)} of "
        count = f"{shown}{len(self._rows)} run{'' if len(self._rows) == 1 else 's'}"
        turned = ", other order" if self._reversed else ""
        self.query_one("#about", Static).update(
            Content(f"{count}, {running} running; sorted by {self._order}{turned}")
        )
        self._draw_detail()

    def _fill(
        self, table: DataTable[Any], columns: Sequence[tuple[str, int]], cells: dict[str, list[Text]]
    ) -> None:
        current, at = self._current(), table.scroll_y
        with self.prevent(DataTable.RowHighlighted):
            table.clear(columns=True)
            for name, width in columns:
                table.add_column(Text(name), width=width, key=name)
            for run, values in cells.items():
                table.add_row(*values, key=run)
            if current is not None and current.run.id in cells:
                table.move_cursor(row=list(cells).index(current.run.id), scroll=False)
                table.scroll_to(y=at, animate=False, force=True)

    def _draw_detail(self) -> None:
        row = self._current()
        said = self._said.get(row.run.id, "") if row else ""
        roomy = self.size.width >= _ROOMY[0] and self.size.height >= _ROOMY[1]
        self.query_one(RunDetail).show(row, said, roomy=roomy)

    def _cell(self, row: RunRow, column: str, width: int) -> Text:
        run = row.run
        state = "starting" if run.id in self._launched and not row.is_held else row.state
        colour = self.app.theme_variables.get(_COLOURS[state], "") if column in {"state", "units"} else ""
        text = {
            "run": lambda: plain(run.id),
            "state": lambda: f"{SIGNS[state]} {state}{' !' if row.noted and not row.goes_on else ''}",
            "units": lambda: _bar(row, _bar_of(self.size.width)),
            "images/s": lambda: "" if row.rate is None else f"{row.rate:.1f}",
            "left": lambda: "" if row.left is None else duration(row.left),
            "model": lambda: plain(run.target_name),
            "layer": lambda: plain(run.layer),
            "language model": lambda: plain(run.settings.get("llm")),
            "started": lambda: when(run.created),
            "best labels": lambda: ", ".join(
                f"{plain(label)} +{format_score(gain)}" for label, gain in row.labels
            ),
        }[column]()
        cell = Text(text, style=colour, no_wrap=True, overflow="ellipsis")
        cell.truncate(width, overflow="ellipsis")
        return cell


def _has_no_runs_yet(store: Path) -> bool:
    try:
        return not has_runs(store) and not (store / "runs.db").is_dir()
    except LineError:
        return False


def _columns(width: int, longest: int) -> list[tuple[str, int]]:
    """Columns with their widths for a screen of this width; the last one takes what is left.

    Args:
        width: of the screen, in cells.
        longest: length of the longest name.
    """
    fixed = [("run", max(12, min(longest, width * 7 // 20))), ("state", 14), ("units", _bar_of(width) + 11)]
    if width >= 100:
        fixed += [("images/s", 10), ("left", 7)]
    if width >= 150:
        fixed += [("language model", 20), ("started", 16)]
    # A cell of padding at each side, and the scroll bar.
    rest = width - sum(given + 2 for _, given in fixed) - 4
    return [*fixed, ("best labels", max(rest, 10))]


def _bar_of(width: int) -> int:
    return _BAR if width >= 100 else _SHORT_BAR


def _bar(row: RunRow, width: int) -> str:
    """How many units are done with, drawn and in numbers; those that failed are told."""
    full = round(row.share * width)
    failed = f" {row.failed}!" if row.failed else ""
    return f"{'█' * full}{'░' * (width - full)} {row.finished}/{row.units}{failed}"


def _text(row: RunRow) -> str:
    run = row.run
    labels = " ".join(label for label, _ in row.labels)
    return f"{run.id} {run.target_name} {run.layer} {row.state} {run.settings.get('llm')} {labels}".lower()
