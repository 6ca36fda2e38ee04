"""Tables that are updated without a jump: the cursor stays on its row, and only changed cells are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

from line_neurons.tui.formatting import plain

T = TypeVar("T")
Cells = Sequence[Text]


class RowTable(DataTable[Text]):
    """Table with a row cursor; home and end go to its first and last row."""

    DEFAULT_CSS = """
    RowTable { overflow-x: hidden; }
    """
    BINDING_GROUP_TITLE = "Table"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home", "scroll_top", "First row", show=False),
        Binding("end", "scroll_bottom", "Last row", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(cursor_type="row")


class RecordTable(RowTable, Generic[T]):
    """Table of records, with the columns of ``COLUMNS``.

    Attributes:
        records: the records, a row each.
    """

    DEFAULT_CSS = """
    RecordTable { background: transparent; }
    """
    COLUMNS: ClassVar[Sequence[tuple[str, int | None]]] = ()
    """Heading and width of each column; None: as wide as its cells."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[T] = []

    def on_mount(self) -> None:
        """Set up the columns."""
        for name, width in self.COLUMNS:
            self.add_column(name, width=width)

    def selected(self) -> T | None:
        """Return the record under the cursor."""
        return self.records[self.cursor_row] if 0 <= self.cursor_row < len(self.records) else None


def fitted(text: str | None, width: int) -> str:
    """Return a text of one line, cut to a width in cells."""
    cell = Text(plain(text))
    cell.truncate(width, overflow="ellipsis")
    return cell.plain


def sync_rows(table: DataTable[Text], rows: Mapping[str, Cells], *, follow_last: bool = False) -> None:
    """Make a table show ``rows``, in their order.

    Args:
        table: the table; its columns are there.
        rows: cells by a key that stays with the row.
        follow_last: a cursor on the last row moves to the new last one.
    """
    shown = [str(key.value) for key in table.rows]
    cursor = table.cursor_row
    selected = shown[cursor] if cursor < len(shown) else None
    at_end = follow_last and (not shown or selected == shown[-1])
    keys = list(rows)
    # Left to itself the table measures its cells after drawing them, and may keep the old lines.
    for index, column in enumerate(table.ordered_columns):
        column.content_width = max([column.label.cell_len, *(cells[index].cell_len for cells in rows.values())])
    if keys[: len(shown)] == shown:
        for key in shown:
            # Text compares without its styles.
            if any(
                old != new or old.style != new.style or old.spans != new.spans
                for old, new in zip(table.get_row(key), rows[key], strict=True)
            ):
                for name, cell in zip(table.columns, rows[key], strict=True):
                    table.update_cell(str(key), name, cell, update_width=True)
    else:
        top = table.scroll_y
        table.clear()
        shown = []
        table.scroll_to(y=top, animate=False, immediate=True)
    for key in keys[len(shown) :]:
        table.add_row(*rows[key], key=key)
    if keys and at_end:
        table.move_cursor(row=len(keys) - 1)
    elif selected is not None and selected in rows:
        table.move_cursor(row=keys.index(selected))
