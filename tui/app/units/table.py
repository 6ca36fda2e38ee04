"""A table of units that draws the rows in sight and no others: as fast with a whole layer as with ten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from line_neurons.tools.store.activity import Activity
from line_neurons.tui.app.units.columns import (
    SCORE,
    TREND,
    UNIT,
    Around,
    Column,
    Piece,
    chosen,
    fitted,
    ordered,
)
from line_neurons.tui.app.units.filter import Matches
from line_neurons.tui.app.units.model import STATES, UnitLine

_LOOKS = ("heading", "cursor", "cursor-unfocused", "quiet", "bar", *STATES)
_STRIPS = 500
"""So many rendered rows are kept."""
_SIGNS = 2
"""Cells before the first column: the sign of the cursor and that of a marked unit."""


class UnitsTable(ScrollView, can_focus=True):
    """Units in rows: sorted, filtered, with a cursor that stays on its unit whatever changes around it.

    Attributes:
        column: what it is sorted by.
        descending: the greatest come first.
        shown: the units that match the filter, as they are shown.
        marked: the units that are marked, by index.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"units-table--{look}" for look in _LOOKS}
    DEFAULT_CSS = """
    UnitsTable {
        height: 1fr;
        background: $surface;
        color: $foreground;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        & > .units-table--heading { background: $panel; color: $foreground; text-style: bold; }
        & > .units-table--cursor { background: $block-cursor-background; color: $block-cursor-foreground;
            text-style: $block-cursor-text-style; }
        & > .units-table--cursor-unfocused { background: $block-cursor-blurred-background;
            color: $block-cursor-blurred-foreground; }
        & > .units-table--quiet, & > .units-table--pending { color: $text-muted; }
        & > .units-table--bar { color: $primary; }
        & > .units-table--running { color: $text-accent; text-style: bold; }
        & > .units-table--failed, & > .units-table--damaged { color: $text-error; }
        & > .units-table--finished { color: $text-success; }
        & > .units-table--interrupted { color: $text-warning; }
        & > .units-table--dead, & > .units-table--constant, & > .units-table--undecided { color: $text-warning; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "end(-1)", "First unit", show=False),
        Binding("end,G", "end(1)", "Last unit", show=False),
        Binding("enter", "open", "Open"),
    ]

    class Opened(Message):
        """A unit is to be opened."""

        def __init__(self, unit: int) -> None:
            super().__init__()
            self.unit = unit

    class Pointed(Message):
        """The cursor is on another unit."""

    class InSight(Message):
        """Other units have come into sight, or those in sight have changed.

        ``units`` gives for each by its index what is another once there is more of its history.
        """

        def __init__(self, units: Mapping[int, object]) -> None:
            super().__init__()
            self.units = units

    class Ordered(Message):
        """The order has changed."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.column: Column = UNIT
        self.descending = False
        self.shown: list[UnitLine] = []
        self.marked: tuple[int, ...] = ()
        self._lines: Sequence[UnitLine] = ()
        self._matches: Matches | None = None
        self._doing: Mapping[int, Activity] = {}
        self._trends: Mapping[int, tuple[float, ...]] = {}
        self._top = 0.0
        self._named = False
        self._columns: list[tuple[Column, int]] = []
        self._cursor = 0
        self._moved = False
        self._strips: dict[object, Strip] = {}
        self._looks: dict[tuple[str, int], Style] = {}
        self._laid_out = 0
        self._sight: Mapping[int, object] = {}
        self._pointed: UnitLine | None = None

    @property
    def pointed(self) -> UnitLine | None:
        """The unit that the cursor is on; None where no unit is shown."""
        return self.shown[self._cursor] if self.shown else None

    def show_units(self, lines: Sequence[UnitLine], doing: Mapping[int, Activity], top: float) -> None:
        """Show units as they stand now.

        Args:
            lines: all units.
            doing: what those in flight do.
            top: the score that fills a bar.
        """
        named = any(line.name for line in lines)
        others = lines != self._lines
        self._lines, self._doing = lines, doing
        if (top, named) != (self._top, self._named):
            self._top, self._named = top, named
            self._lay_out()
        if others:
            self._arrange()
        self._tell()
        self.refresh()

    def show_trends(self, trends: Mapping[int, tuple[float, ...]]) -> None:
        """Show the best scores over the steps of units; units that are not in it are shown without."""
        self._trends = trends
        self.refresh()

    def filter(self, matches: Matches | None) -> None:
        """Show those units only that match; None: all."""
        self._matches = matches
        self._arrange()
        self._tell()

    def sort(self, column: Column, *, descending: bool) -> None:
        """Sort by a column."""
        self.column, self.descending = column, descending
        self._arrange()
        self._tell()
        self.post_message(self.Ordered())

    def mark(self, units: tuple[int, ...]) -> None:
        """Mark units and no others."""
        self.marked = units
        self.refresh()

    def point_at(self, place: int) -> None:
        """Put the cursor on the row at a place, counted from 0, and bring it into sight."""
        self._moved = True
        self._go(place)

    # Acting

    def action_move(self, rows: int) -> None:
        """Move the cursor by rows."""
        self.point_at(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by what is in sight."""
        self.point_at(self._cursor + pages * max(self._page - 1, 1))

    def action_end(self, which: int) -> None:
        """Move the cursor to the first (-1) or last (1) row."""
        self.point_at(0 if which < 0 else len(self.shown) - 1)

    def action_open(self) -> None:
        """Open the unit under the cursor."""
        if (line := self.pointed) is not None:
            self.post_message(self.Opened(line.unit))

    def on_click(self, event: events.Click) -> None:
        """Sort by a heading, point at a row, open the row that is pointed at."""
        event.stop()
        if event.y == 0:
            edge = _SIGNS
            for column, width in self._columns:
                if edge <= event.x < edge + width + 1 and column.order:
                    self.sort(column, descending=column is self.column and not self.descending)
                edge += width + 1
            return
        place = self.scroll_offset.y + event.y - 1
        if place >= len(self.shown):
            return
        if place == self._cursor and self._moved:
            self.action_open()
        else:
            self.point_at(place)

    # Drawing

    def render_line(self, y: int) -> Strip:
        """The heading, or a row."""
        width = self._room
        if y == 0:
            return self._heading(width)
        place = self.scroll_offset.y + y - 1
        if place >= len(self.shown):
            return Strip.blank(width, self._look("", 0))
        line = self.shown[place]
        doing, trend, marked = (
            self._doing.get(line.unit),
            self._trends.get(line.unit, ()),
            line.unit in self.marked,
        )
        at = (2 if self.has_focus else 1) if place == self._cursor else 0
        key = (line, doing, trend, marked, at)
        kept = self._strips.get(key)
        if kept is None:
            if len(self._strips) > _STRIPS:
                self._strips.clear()
            kept = self._strips[key] = self._row(line, Around(doing, trend, self._top), marked, at, width)
        return kept

    def _heading(self, width: int) -> Strip:
        texts = [" " * _SIGNS]
        for column, room in self._columns:
            sign = ("▼" if self.descending else "▲") if column is self.column else ""
            texts.append(fitted(" " * (column is SCORE) + column.heading + sign, room, right=column.right) + " ")
        style = self._look("heading", 0)
        return Strip([Segment("".join(texts), style)]).adjust_cell_length(width, style)

    def _row(self, line: UnitLine, around: Around, marked: bool, at: int, width: int) -> Strip:
        usual = self._look("", at)
        segments = [Segment(f"{'▸' if at else ' '}{'◆' if marked else ' '}", usual)]
        for column, room in self._columns:
            pieces = column.cell(line, around, room)
            if len(pieces) == 1:
                text, look = pieces[0]
                pieces = [Piece(fitted(text, room, right=column.right), look)]
            segments += [Segment(text, self._look(look, at)) for text, look in pieces]
            segments.append(Segment(" ", usual))
        return Strip(segments).adjust_cell_length(width, usual)

    def _look(self, look: str, at: int) -> Style:
        known = self._looks.get((look, at))
        if known is None:
            known = self.rich_style
            for name in (look, ("", "cursor-unfocused", "cursor")[at]):
                if name in _LOOKS:
                    known += self.get_component_rich_style(f"units-table--{name}", partial=True)
            self._looks[look, at] = known
        return known

    # Keeping

    @property
    def _page(self) -> int:
        return max(self.scrollable_content_region.height - 1, 1)

    @property
    def _room(self) -> int:
        return self.scrollable_content_region.width

    def _lay_out(self) -> None:
        """Choose the columns anew."""
        self._strips.clear()
        self._laid_out = self._room
        self._columns = chosen(self._room - _SIGNS, named=self._named)
        self.virtual_size = Size(self._room, len(self.shown) + 1)

    def _arrange(self) -> None:
        """Filter and sort; the cursor stays on its unit, and in its place on the screen."""
        before, offset = self.pointed, self._cursor - self.scroll_offset.y
        matches = self._matches
        lines = self._lines if matches is None else [line for line in self._lines if matches(line)]
        self.shown = ordered(lines, self.column, descending=self.descending)
        self.virtual_size = Size(self._room, len(self.shown) + 1)
        place = min(self._cursor, max(len(self.shown) - 1, 0))
        if before is not None and self._moved:
            place = next((place for place, line in enumerate(self.shown) if line.unit == before.unit), place)
        self._cursor = place
        if self._moved and 0 <= offset < self._page:
            self.scroll_to(y=max(place - offset, 0), animate=False)
        self.refresh()

    def _go(self, place: int) -> None:
        self._cursor = min(max(place, 0), max(len(self.shown) - 1, 0))
        top, page = self.scroll_offset.y, self._page
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + page:
            self.scroll_to(y=self._cursor - page + 1, animate=False)
        self.refresh()
        self._tell()

    def _tell(self) -> None:
        """Tell of the unit under the cursor and of those in sight, where they are others than before."""
        if (pointed := self.pointed) != self._pointed:
            self._pointed = pointed
            self.post_message(self.Pointed())
        if not any(column is TREND for column, _ in self._columns):
            return
        top = self.scroll_offset.y
        sight = {
            line.unit: (line, doing.step if (doing := self._doing.get(line.unit)) else None)
            for line in self.shown[top : top + self._page]
        }
        if sight != self._sight:
            self._sight = sight
            self.post_message(self.InSight(sight))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Other units come into sight."""
        super().watch_scroll_y(old_value, new_value)
        self._tell()

    def on_resize(self) -> None:
        """Other columns may have room."""
        if self._room != self._laid_out:
            self._lay_out()
        self._go(self._cursor)

    def on_focus(self) -> None:
        """Show that keys come here."""
        self.refresh()

    def on_blur(self) -> None:
        """Show that keys go elsewhere."""
        self.refresh()

    def notify_style_update(self) -> None:
        """Colours are others, as when the theme changes."""
        super().notify_style_update()
        self._looks.clear()
        self._strips.clear()
        self.refresh()
