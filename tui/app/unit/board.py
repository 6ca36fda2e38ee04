"""The scoreboard of one unit as a table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import BindingType
from textual.widgets import DataTable

from line_neurons.tui.app.table_sync import ENDS, fill
from line_neurons.tui.formatting import bar, number, plain
from line_neurons.tui.unit_view import BoardRow

_BAR = 10


class BoardTable(DataTable[Text]):
    """Concepts, best first: what came with the last step has a +, what left a - and a line through it."""

    DEFAULT_CSS = """
    BoardTable { height: 1fr; background: transparent; overflow-x: hidden; }
    """

    BINDING_GROUP_TITLE = "Table"
    BINDINGS: ClassVar[list[BindingType]] = ENDS

    def __init__(self) -> None:
        super().__init__(cursor_type="row", zebra_stripes=False)
        self.shown: list[BoardRow] = []

    def on_mount(self) -> None:
        """Set up the columns."""
        for name, width in (("", 2), ("concept", None), ("score", 6), ("", _BAR), ("from", None)):
            self.add_column(name, width=width)

    def show(
        self, rows: Sequence[BoardRow], marked: Collection[str] = (), sign: tuple[str, str] = ("m", "compare")
    ) -> None:
        """Show a board.

        Args:
            rows: its concepts.
            marked: those that are set apart, as chosen for a comparison.
            sign: what they are set apart by, as a sign and in words.
        """
        self.shown = list(rows)
        scores = [row.score for row in rows if row.score is not None]
        low, high = min([0.0, *scores]), max([0.0, *scores])
        colour = self.app.theme_variables.get("primary", "")
        cells = {}
        for row in rows:
            apart = sign if row.concept in marked else ("", "")
            cells[_key(row)] = self._cells(row, low, high, colour, apart)
        fill(self, cells)

    def chosen(self) -> BoardRow | None:
        """The row under the cursor."""
        return self.shown[self.cursor_row] if 0 <= self.cursor_row < len(self.shown) else None

    def _cells(
        self, row: BoardRow, low: float, high: float, colour: str, sign: tuple[str, str]
    ) -> tuple[Text, ...]:
        gone = row.mark == "-"
        style = "strike dim" if gone else "bold" if row.mark else ""
        notes = [
            row.came,
            {"+": "new", "-": "left"}.get(row.mark, ""),
            "pinned" if row.pinned else "",
            "banned" if row.banned else "",
            sign[1],
        ]
        signs = row.mark + ("!" if row.banned else "*" if row.pinned else "") or sign[0]
        return (
            Text(signs, style="bold"),
            Text(plain(row.concept), style=style),
            Text(number(row.score), style="dim" if gone else "", justify="right"),
            Text("" if gone or row.score is None else bar(row.score, low, high, _BAR), style=colour),
            Text(" · ".join(filter(None, notes)), style="dim" if gone else ""),
        )


def _key(row: BoardRow) -> str:
    return f"{row.mark == '-'} {row.concept}"
