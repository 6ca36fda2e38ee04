"""Fill a table anew without a jump: the cursor stays on its row, and only what changed is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

Cells = Sequence[Text]

ENDS: list[BindingType] = [
    Binding("home", "scroll_top", "First row", show=False),
    Binding("end", "scroll_bottom", "Last row", show=False),
]
"""Bindings of a table whose cursor is a row, so that these keys move it."""


def fill(table: DataTable[Text], rows: Mapping[str, Cells], *, follow_last: bool = False) -> None:
    """Make a table show ``rows``, in their order.

    Args:
        table: the table; its columns are there.
        rows: cells by a key that stays with the row.
        follow_last: a cursor on the last row goes on to the new last one.
    """
    before = [str(key.value) for key in table.rows]
    cursor = table.cursor_row
    here = before[cursor] if cursor < len(before) else None
    at_end = follow_last and (not before or here == before[-1])
    wanted = list(rows)
    # Left to itself the table measures its cells after it has drawn them, and may keep the lines as they are.
    for place, column in enumerate(table.ordered_columns):
        column.content_width = max([column.label.cell_len, *(cells[place].cell_len for cells in rows.values())])
    if wanted[: len(before)] == before:
        for key in before:
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
        before = []
        table.scroll_to(y=top, animate=False, immediate=True)
    for key in wanted[len(before) :]:
        table.add_row(*rows[key], key=key)
    if wanted and at_end:
        table.move_cursor(row=len(wanted) - 1)
    elif here is not None and here in rows:
        table.move_cursor(row=wanted.index(here))
