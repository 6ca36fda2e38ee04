"""Scoreboard of a unit as a table."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.text import Text

from line_neurons.tui.app.table_sync import RecordTable, sync_rows
from line_neurons.tui.formatting import bar, number, plain
from line_neurons.tui.unit_view import BoardRow

_BAR = 10


class BoardTable(RecordTable[BoardRow]):
    """Concepts, best first: + entered with the last step, - left with it."""

    DEFAULT_CSS = """
    BoardTable { height: 1fr; }
    """

    def on_mount(self) -> None:
        """Set up the columns."""
        for name, width in (("", 2), ("concept", None), ("score", 6), ("", _BAR), ("origin", None)):
            self.add_column(name, width=width)

    def show(
        self, rows: Sequence[BoardRow], marked: Collection[str] = (), mark: tuple[str, str] = ("m", "compare")
    ) -> None:
        """Show a board.

        Args:
            rows: its concepts.
            marked: the concepts to mark, as for a comparison.
            mark: sign and word of the mark.
        """
        self.records = list(rows)
        scores = [row.score for row in rows if row.score is not None]
        low, high = min([0.0, *scores]), max([0.0, *scores])
        colour = self.app.theme_variables.get("primary", "")
        cells = {}
        for row in rows:
            row_mark = mark if row.concept in marked else ("", "")
            cells[f"{row.mark == '-'} {row.concept}"] = _cells(row, low, high, colour, row_mark)
        sync_rows(self, cells)


def _cells(row: BoardRow, low: float, high: float, colour: str, mark: tuple[str, str]) -> tuple[Text, ...]:
    left = row.mark == "-"
    style = "strike dim" if left else "bold" if row.mark else ""
    notes = [
        row.origin,
        {"+": "new", "-": "left"}.get(row.mark, ""),
        "pinned" if row.pinned else "",
        "banned" if row.banned else "",
        mark[1],
    ]
    signs = row.mark + ("!" if row.banned else "*" if row.pinned else "") or mark[0]
    return (
        Text(signs, style="bold"),
        Text(plain(row.concept), style=style),
        Text(number(row.score), style="dim" if left else "", justify="right"),
        Text("" if left or row.score is None else bar(row.score, low, high, _BAR), style=colour),
        Text(" · ".join(filter(None, notes)), style="dim" if left else ""),
    )
