"""Scoreboard of a unit as a table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

from rich.cells import cell_len
from rich.text import Text

from line_neurons.agent.text import format_spread
from line_neurons.tui.app.table_sync import RecordTable, fitted, sync_rows
from line_neurons.tui.formatting import bar, number, plain
from line_neurons.tui.unit_view import BoardRow

_BAR, _SHORTEST_BAR, _BAR_COLUMN = 12, 4, 4
_SPREAD_COLUMN = 3
_REST = 2 + 6 + 5 * 2
"""Cells of the signs, the score, and the padding of these columns, the concept, the spread and the bar."""


class BoardTable(RecordTable[BoardRow]):
    """Concepts, best first, with the standard errors of the scores: + entered last, - left last."""

    DEFAULT_CSS = """
    BoardTable { height: 1fr; }
    """
    COLUMNS = (("", 2), ("concept", None), ("score", 6), ("", 6), ("", _BAR), ("origin", None))

    def __init__(self) -> None:
        super().__init__()
        self._marks: tuple[Collection[str], tuple[str, str]] = (), ("m", "compare")

    def on_resize(self) -> None:
        """Fit the bars into the new width."""
        self.show(self.records, *self._marks)

    def show(
        self, rows: Sequence[BoardRow], marked: Collection[str] = (), mark: tuple[str, str] = ("m", "compare")
    ) -> None:
        """Show a board.

        Args:
            marked: the concepts to mark, as for a comparison.
            mark: sign and word of the mark.
        """
        self.records, self._marks = list(rows), (tuple(marked), mark)
        concept = max((cell_len(plain(row.concept)) for row in rows), default=0)
        spread = max((len(format_spread(row.spread)) for row in rows if row.score is not None), default=0)
        room = self.size.width - concept - spread - _REST
        if room < _SHORTEST_BAR:
            # A bar does not fit beside the spread.
            room, spread = room + spread, 0
        origin = max((cell_len(_notes(row, marked, mark)) for row in rows), default=0) + 2
        # The origin is shortened before the bar is too short to compare by.
        width = max(min(max(room - origin, _SHORTEST_BAR), room, _BAR), 1)
        columns = self.ordered_columns[_SPREAD_COLUMN : _BAR_COLUMN + 1]
        if [column.width for column in columns] != [spread, width]:
            for column, column_width in zip(columns, (spread, width), strict=True):
                column.width = column_width
            self.clear()
        scores = [row.score for row in rows if row.score is not None]
        low, high = min([0.0, *scores]), max([0.0, *scores])
        colour = self.app.theme_variables.get("primary", "")
        bar_of = partial(bar, low=low, high=high, width=width)
        # The padding behind the last column may be cut.
        left = max(room - width - 1, 0)
        cells = {}
        for row in rows:
            sign = mark[0] if row.concept in marked else ""
            cells[f"{row.mark == '-'} {row.concept}"] = _cells(
                row, bar_of, colour, sign, _fitted_notes(row, marked, mark, left), with_spread=spread > 0
            )
        sync_rows(self, cells)


def _cells(
    row: BoardRow, bar_of: Callable[[float], str], colour: str, sign: str, notes: str, *, with_spread: bool
) -> tuple[Text, ...]:
    left = row.mark == "-"
    style = "strike dim" if left else "bold" if row.mark else ""
    signs = row.mark + ("!" if row.banned else "*" if row.pinned else "") or sign
    return (
        Text(signs, style="bold"),
        Text(plain(row.concept), style=style),
        Text(number(row.score), style="dim" if left else "", justify="right"),
        Text(format_spread(row.spread) if with_spread and row.score is not None else "", style="dim"),
        Text("" if left or row.score is None else bar_of(row.score), style=colour),
        Text(notes, style="dim" if left else ""),
    )


def _fitted_notes(row: BoardRow, marked: Collection[str], mark: tuple[str, str], width: int) -> str:
    """Return the notes on a concept; where they do not fit, only the step that it is from."""
    notes = _notes(row, marked, mark)
    if cell_len(notes) > width:
        origin = "summary" if row.origin.startswith("summary") else row.origin.rpartition(", ")[2]
        notes = _notes(replace(row, origin=origin, mark=""), marked, mark)
    return fitted(notes, width)


def _notes(row: BoardRow, marked: Collection[str], mark: tuple[str, str]) -> str:
    notes = [
        row.origin,
        {"+": "new", "-": "left"}.get(row.mark, ""),
        "pinned" if row.pinned else "",
        "banned" if row.banned else "",
        mark[1] if row.concept in marked else "",
    ]
    return " · ".join(filter(None, notes))
