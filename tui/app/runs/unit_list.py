"""List of a layer's units in the form for a new run: how they respond on the control set, and which are chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Input, Static

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.agent.text import format_score
from line_neurons.tui.app.chrome import FilterField, KeyFooter, TopBar
from line_neurons.tui.app.listing import Listing
from line_neurons.tui.app.table_sync import RecordTable, fitted
from line_neurons.tui.app.units.filter import conditions
from line_neurons.tui.app.units.sort_menu import SortMenu
from line_neurons.tui.formatting import counted, duration, plain

MOST_ROWS = 1000
"""Rows of the table; of more units the first in the order are shown."""
_POLL_SECONDS = 0.3


@dataclass(frozen=True)
class ListedUnit:
    """A unit as `line units` lists it.

    Args:
        name: of a class or direction; empty if it has none.
        density: share of the control images on which it is above 0.
        strongest: the class with the highest mean; empty without classes.
        state: such as alive or dead.
    """

    unit: int
    name: str
    density: float
    mean: float
    max: float
    strongest: str
    state: str

    @property
    def label(self) -> str:
        """What a number in a filter is looked for in, besides the index and the name."""
        return self.strongest

    @property
    def text(self) -> str:
        """What words of a filter are looked for in."""
        return f"{self.name}\n{self.strongest}\n{self.state}".casefold()

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> ListedUnit:
        """Read a row of `line units --json`.

        Raises:
            BackendError: it is none.
        """
        try:
            density, mean, largest = (float(row[name]) for name in ("density", "mean", "max"))
            texts = str(row["strongest class"]), str(row["state"])
            return cls(int(row["unit"]), str(row.get("name", "")), density, mean, largest, *texts)
        except (KeyError, TypeError, ValueError) as error:
            raise BackendError(f"`line units` printed something else: {error!r:.100}") from error


class _Column(NamedTuple):
    key: str
    heading: str
    cell: Callable[[ListedUnit], str]
    order: Callable[[ListedUnit], Any]
    descending: bool = False
    width: int = 8


_COLUMNS = (
    _Column("unit", "unit", lambda row: str(row.unit), lambda row: row.unit),
    _Column("name", "name", lambda row: row.name, lambda row: row.name.casefold(), width=18),
    _Column(
        "density", "density", lambda row: f"{row.density:.2%}", lambda row: row.density, descending=True, width=9
    ),
    _Column("mean", "mean", lambda row: format_score(row.mean), lambda row: row.mean, descending=True, width=9),
    _Column("max", "max", lambda row: format_score(row.max), lambda row: row.max, descending=True, width=9),
    _Column("state", "state", lambda row: row.state, lambda row: row.state),
    _Column(
        "strongest", "strongest class", lambda row: row.strongest, lambda row: row.strongest.casefold(), width=20
    ),
)
_TEXTS = ("name", "strongest", "state")
_NUMBERS = ("unit", "density", "mean", "max")
_LEFT = frozenset({"name", "state", "strongest"})


class UnitTable(RecordTable[ListedUnit]):
    """The table, with a mark before each chosen unit."""


class UnitListScreen(Screen[str | None]):
    """The units of a layer: sort, filter and choose. Returns them as a selector, or None.

    Args:
        arguments: of the command `line units` that lists them.
    """

    DEFAULT_CSS = """
    UnitListScreen #bar { height: 1; padding: 0 1; background: $surface; }
    UnitListScreen #filter { width: 1fr; }
    UnitListScreen #count { width: auto; color: $text-muted; }
    UnitListScreen UnitTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter", "choose", "Choose", tooltip="Put the marked units, or this one, into the form.", priority=True
        ),
        Binding("space", "mark", "Mark"),
        Binding("a", "mark_all", "Mark all", tooltip="Mark all units that the filter leaves; again unmarks them."),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("s", "sort", "Sort"),
        Binding("o", "reverse", "Reverse order", show=False),
        Binding("escape", "back", "Back"),
        Binding("f1", "app.keys", "Help"),
    ]

    def __init__(self, arguments: Sequence[str], title: str) -> None:
        super().__init__()
        self._arguments = arguments
        self._title = title
        self._listing: Listing | None = None
        self._start_time = 0.0
        self._units: list[ListedUnit] | None = None
        self._matching: list[ListedUnit] = []
        self._marked: set[int] = set()
        self._column = _COLUMNS[0]
        self._descending = False
        self._error = ""

    def compose(self) -> ComposeResult:
        """Lay out the filter, the number of units and the table."""
        yield TopBar()
        with Horizontal(id="bar"):
            yield FilterField(UnitTable, "words, density>.001, -state:dead")
            yield Static(id="count", markup=False)
        yield UnitTable()
        yield KeyFooter()

    def on_mount(self) -> None:
        """List the units in the background."""
        self.title = self._title
        self.query_one(UnitTable).focus()
        self._start_time = time.time()
        self._listing = Listing(self._arguments)
        self.set_interval(_POLL_SECONDS, self._show_count)
        self._listing.deliver(self, lambda rows: [ListedUnit.of(row) for row in rows], self._listed)
        self._show_count()

    def on_unmount(self) -> None:
        """Cancel the listing; what was measured of the control set is kept."""
        if self._listing:
            self._listing.cancel()

    def on_resize(self, event: events.Resize) -> None:
        """Fit the columns to the new width."""
        self._draw()

    def _listed(self, units: list[ListedUnit] | None, error: str) -> None:
        self._listing, self._units, self._error = None, units, error
        self._matching = units or []
        self._draw()

    # Display

    def _draw(self, *, to_top: bool = False) -> None:
        table = self.query_one(UnitTable)
        cursor = None if to_top else table.selected()
        ordered = sorted(self._matching, key=self._column.order, reverse=self._descending)
        table.records = ordered[:MOST_ROWS]
        named = any(unit.name for unit in self._units or ())
        columns = [column for column in _COLUMNS if named or column.key != "name"]
        room = self.size.width - 4 - sum(column.width + 2 for column in columns[:-1])
        widths = [column.width for column in columns[:-1]] + [max(room, 8)]
        table.clear(columns=True)
        table.add_column("", width=1)
        for column, width in zip(columns, widths, strict=True):
            arrow = (" ▼" if self._descending else " ▲") if column == self._column else ""
            side: Literal["left", "right"] = "left" if column.key in _LEFT else "right"
            table.add_column(Text(f"{column.heading}{arrow}", justify=side), width=width)
        for unit in table.records:
            table.add_row(Text("●" if unit.unit in self._marked else ""), *_cells(unit, columns, widths))
        if cursor in table.records:
            table.move_cursor(row=table.records.index(cursor), animate=False)
        self._show_count()

    def _show_count(self) -> None:
        self.query_one("#count", Static).update(plain(self._summary()))

    def _summary(self) -> str:
        if self._error:
            return f"! {self._error}"
        if self._units is None:
            message = self._listing.message() if self._listing else ""
            return f"measuring the control set, {duration(time.time() - self._start_time)}: {message}"
        total, left = len(self._units), len(self._matching)
        shown = f", the first {MOST_ROWS:,} are shown" if left > MOST_ROWS else ""
        filtered = f"{left:,} of " if left != total else ""
        marked = f", {len(self._marked):,} marked" if self._marked else ""
        return f" {filtered}{counted(total, 'unit')}{shown}{marked}"

    # Filter and order

    def action_filter(self) -> None:
        """Open the filter."""
        self.query_one(FilterField).open()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while the user types; an incomplete query leaves the filter unchanged."""
        try:
            matches = conditions(event.value, _NUMBERS, _TEXTS)
        except UsageError as error:
            self.query_one("#count", Static).update(plain(error.message))
            return
        self._matching = [unit for unit in self._units or () if matches is None or matches(unit)]
        self._draw()

    def action_sort(self) -> None:
        """Open the menu of columns to sort by."""

        def sort_by(key: str | None) -> None:
            for column in _COLUMNS:
                if column.key == key:
                    self._column, self._descending = column, column.descending
                    self._draw(to_top=True)

        self.app.push_screen(SortMenu([(each.key, each.heading) for each in _COLUMNS], self._column.key), sort_by)

    def action_reverse(self) -> None:
        """Reverse the order."""
        self._descending = not self._descending
        self._draw(to_top=True)

    # Choice

    def action_mark(self) -> None:
        """Mark or unmark the unit, and go to the next."""
        table = self.query_one(UnitTable)
        if (unit := table.selected()) is None:
            return
        self._marked ^= {unit.unit}
        row = table.cursor_row
        self._draw()
        table.move_cursor(row=min(row + 1, len(table.records) - 1), animate=False)

    def action_mark_all(self) -> None:
        """Mark all units that the filter leaves, also those that are not shown; unmark them if all are marked."""
        every = {unit.unit for unit in self._matching}
        self._marked = self._marked - every if every <= self._marked else self._marked | every
        self._draw()

    def action_choose(self) -> None:
        """Return the marked units or, if there are none, the one under the cursor."""
        if isinstance(self.focused, Input):
            self.query_one(UnitTable).focus()
            return
        unit = self.query_one(UnitTable).selected()
        chosen = self._marked or ({unit.unit} if unit else set())
        if chosen:
            self.dismiss(as_selector(chosen))

    def action_back(self) -> None:
        """Clear the filter or, without one, return to the form."""
        field = self.query_one(FilterField)
        if field.display:
            field.action_clear()
        else:
            self.dismiss(None)


def _cells(unit: ListedUnit, columns: Sequence[_Column], widths: Sequence[int]) -> list[Text]:
    return [
        Text(fitted(column.cell(unit), width), justify="left" if column.key in _LEFT else "right")
        for column, width in zip(columns, widths, strict=True)
    ]


def as_selector(units: Iterable[int]) -> str:
    """Write units as numbers and ranges.

    >>> as_selector([3, 1, 2, 7])
    '1-3,7'
    """
    parts: list[list[int]] = []
    for unit in sorted(units):
        if parts and unit == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], unit]
        else:
            parts.append([unit])
    return ",".join("-".join(map(str, part)) for part in parts)
