"""Table of units that renders only the visible rows, so that a whole layer is as fast as ten units."""

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
    CellPart,
    Column,
    RowContext,
    fit_columns,
    fit_text,
    sort_lines,
)
from line_neurons.tui.app.units.filter import Matches
from line_neurons.tui.app.units.model import STATES, UnitLine

_STYLES = ("heading", "cursor", "cursor-unfocused", "quiet", "bar", *STATES)
_MAX_STRIPS = 500
"""Maximum number of cached rows."""
_MARGIN = 2
"""Cells before the first column: the cursor and the mark of a unit."""


class UnitsTable(ScrollView, can_focus=True):
    """Sorted and filtered units with a cursor that stays on its unit.

    Attributes:
        column: the column it is sorted by.
        descending: largest first.
        lines: the units that match the filter, in order.
        marked: indices of the marked units.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"units-table--{style}" for style in _STYLES}
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
        & > .units-table--quiet, & > .units-table--pending { color: $foreground; text-style: dim; }
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
        """The user opens a unit."""

        def __init__(self, unit: int) -> None:
            super().__init__()
            self.unit = unit

    class CurrentChanged(Message):
        """The cursor is on another unit, or its unit has changed."""

    class VisibleChanged(Message):
        """The visible units have changed.

        ``units`` maps their indices to values that change when their histories grow.
        """

        def __init__(self, units: Mapping[int, object]) -> None:
            super().__init__()
            self.units = units

    class SortChanged(Message):
        """The order has changed."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.column: Column = UNIT
        self.descending = False
        self.lines: list[UnitLine] = []
        self.marked: tuple[int, ...] = ()
        self._all_lines: Sequence[UnitLine] = ()
        self._matches: Matches | None = None
        self._activities: Mapping[int, Activity] = {}
        self._trends: Mapping[int, tuple[float, ...]] = {}
        self._scale = (0.0, 0.0)
        self._named = self._facets = False
        self._columns: list[tuple[Column, int]] = []
        self._cursor = 0
        self._cursor_moved = False
        self._strips: dict[object, Strip] = {}
        self._rich_styles: dict[tuple[str, int], Style] = {}
        self._layout_width = 0
        self._visible: Mapping[int, object] = {}
        self._last_line: UnitLine | None = None

    @property
    def current_line(self) -> UnitLine | None:
        """The unit under the cursor; None if no unit matches the filter."""
        return self.lines[self._cursor] if self.lines else None

    def show_units(
        self, lines: Sequence[UnitLine], activities: Mapping[int, Activity], scale: tuple[float, float]
    ) -> None:
        """Show units.

        Args:
            scale: the lowest and the highest score of all bars.
        """
        named, facets = any(line.name for line in lines), any(line.polysemanticity is not None for line in lines)
        changed = lines != self._all_lines
        self._all_lines, self._activities = lines, activities
        if (scale, named, facets) != (self._scale, self._named, self._facets):
            self._scale, self._named, self._facets = scale, named, facets
            self._choose_columns()
        if changed:
            self._filter_and_sort()
        self._notify_changes()
        self.refresh()

    def show_trends(self, trends: Mapping[int, tuple[float, ...]]) -> None:
        """Show the best scores of units by step."""
        self._trends = trends
        self.refresh()

    def filter(self, matches: Matches | None) -> None:
        """Show only matching units; None: all."""
        self._matches = matches
        self._filter_and_sort()
        self._notify_changes()

    def sort(self, column: Column, *, descending: bool) -> None:
        """Sort by a column."""
        self.column, self.descending = column, descending
        self._filter_and_sort()
        self._notify_changes()
        self.post_message(self.SortChanged())

    def mark(self, units: tuple[int, ...]) -> None:
        """Set the marked units."""
        self.marked = units
        self.refresh()

    def move_to(self, index: int) -> None:
        """Move the cursor to a row, from 0, and scroll to it."""
        self._cursor_moved = True
        self._set_cursor(index)

    # Actions

    def action_move(self, rows: int) -> None:
        """Move the cursor by rows."""
        self.move_to(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by pages."""
        self.move_to(self._cursor + pages * max(self._page_rows - 1, 1))

    def action_end(self, which: int) -> None:
        """Move the cursor to the first (-1) or last (1) row."""
        self.move_to(0 if which < 0 else len(self.lines) - 1)

    def action_open(self) -> None:
        """Open the unit under the cursor."""
        if (line := self.current_line) is not None:
            self.post_message(self.Opened(line.unit))

    def on_click(self, event: events.Click) -> None:
        """Sort by a heading, select a row, or open the selected row."""
        event.stop()
        if event.y == 0:
            edge = _MARGIN
            for column, width in self._columns:
                if edge <= event.x < edge + width + 1 and column.order:
                    self.sort(column, descending=column is self.column and not self.descending)
                edge += width + 1
            return
        index = self.scroll_offset.y + event.y - 1
        if index >= len(self.lines):
            return
        if index == self._cursor and self._cursor_moved:
            self.action_open()
        else:
            self.move_to(index)

    # Rendering

    def render_line(self, y: int) -> Strip:
        """Render the heading or a row."""
        width = self._content_width
        if y == 0:
            return self._heading(width)
        index = self.scroll_offset.y + y - 1
        if index >= len(self.lines):
            return Strip.blank(width, self._style("", 0))
        line = self.lines[index]
        activity, trend, marked = (
            self._activities.get(line.unit),
            self._trends.get(line.unit, ()),
            line.unit in self.marked,
        )
        # 0: elsewhere, 1: on this row of an unfocused table, 2: on this row.
        cursor_state = (2 if self.has_focus else 1) if index == self._cursor else 0
        key = (line, activity, trend, marked, cursor_state)
        strip = self._strips.get(key)
        if strip is None:
            if len(self._strips) > _MAX_STRIPS:
                self._strips.clear()
            strip = self._strips[key] = self._row(
                line, RowContext(activity, trend, self._scale), marked, cursor_state, width
            )
        return strip

    def _heading(self, width: int) -> Strip:
        texts = [" " * _MARGIN]
        for column, column_width in self._columns:
            arrow = ("▼" if self.descending else "▲") if column is self.column else ""
            texts.append(
                fit_text(" " * (column is SCORE) + column.heading + arrow, column_width, right=column.right) + " "
            )
        style = self._style("heading", 0)
        return Strip([Segment("".join(texts), style)]).adjust_cell_length(width, style)

    def _row(self, line: UnitLine, context: RowContext, marked: bool, cursor_state: int, width: int) -> Strip:
        base_style = self._style("", cursor_state)
        segments = [Segment(f"{'▸' if cursor_state else ' '}{'◆' if marked else ' '}", base_style)]
        for column, column_width in self._columns:
            parts = column.cell(line, context, column_width)
            if len(parts) == 1:
                text, style = parts[0]
                parts = [CellPart(fit_text(text, column_width, right=column.right), style)]
            segments += [Segment(text, self._style(style, cursor_state)) for text, style in parts]
            segments.append(Segment(" ", base_style))
        return Strip(segments).adjust_cell_length(width, base_style)

    def _style(self, name: str, cursor_state: int) -> Style:
        style = self._rich_styles.get((name, cursor_state))
        if style is None:
            style = self.rich_style
            for component in (name, ("", "cursor-unfocused", "cursor")[cursor_state]):
                if component in _STYLES:
                    style += self.get_component_rich_style(f"units-table--{component}", partial=True)
            self._rich_styles[name, cursor_state] = style
        return style

    # Layout and state

    @property
    def _page_rows(self) -> int:
        return max(self.scrollable_content_region.height - 1, 1)

    @property
    def _content_width(self) -> int:
        return self.scrollable_content_region.width

    def _choose_columns(self) -> None:
        """Choose columns for the width."""
        self._strips.clear()
        self._layout_width = self._content_width
        self._columns = fit_columns(self._content_width - _MARGIN, named=self._named, facets=self._facets)
        self.virtual_size = Size(self._content_width, len(self.lines) + 1)

    def _filter_and_sort(self) -> None:
        """Filter and sort; the cursor stays on its unit and its screen line."""
        before, offset = self.current_line, self._cursor - self.scroll_offset.y
        matches = self._matches
        lines = self._all_lines if matches is None else [line for line in self._all_lines if matches(line)]
        self.lines = sort_lines(lines, self.column, descending=self.descending)
        self.virtual_size = Size(self._content_width, len(self.lines) + 1)
        index = min(self._cursor, max(len(self.lines) - 1, 0))
        if before is not None and self._cursor_moved:
            index = next((index for index, line in enumerate(self.lines) if line.unit == before.unit), index)
        self._cursor = index
        if self._cursor_moved and 0 <= offset < self._page_rows:
            self.scroll_to(y=max(index - offset, 0), animate=False)
        self.refresh()

    def _set_cursor(self, index: int) -> None:
        self._cursor = min(max(index, 0), max(len(self.lines) - 1, 0))
        top, page = self.scroll_offset.y, self._page_rows
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + page:
            self.scroll_to(y=self._cursor - page + 1, animate=False)
        self.refresh()
        self._notify_changes()

    def _notify_changes(self) -> None:
        """Post messages if the current unit or the visible units have changed."""
        if (current_line := self.current_line) != self._last_line:
            self._last_line = current_line
            self.post_message(self.CurrentChanged())
        if not any(column is TREND for column, _ in self._columns):
            return
        top = self.scroll_offset.y
        visible = {
            line.unit: (line, activity.step if (activity := self._activities.get(line.unit)) else None)
            for line in self.lines[top : top + self._page_rows]
        }
        if visible != self._visible:
            self._visible = visible
            self.post_message(self.VisibleChanged(visible))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Update the visible units."""
        super().watch_scroll_y(old_value, new_value)
        self._notify_changes()

    def on_resize(self) -> None:
        """Choose columns for the new width."""
        if self._content_width != self._layout_width:
            self._choose_columns()
        self._set_cursor(self._cursor)

    def on_focus(self) -> None:
        """Redraw the cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Redraw the cursor."""
        self.refresh()

    def notify_style_update(self) -> None:
        """Drop cached styles, as when the theme changes."""
        super().notify_style_update()
        self._rich_styles.clear()
        self._strips.clear()
        self.refresh()
