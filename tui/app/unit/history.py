"""The history of one unit as a table, and one entry of it in full."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Static

from line_neurons.tools.store.records import Step
from line_neurons.tui.app.table_sync import ENDS, fill
from line_neurons.tui.formatting import number, plain, step_name
from line_neurons.tui.unit_view import Place, reason_of_refusal, result_of


class HistoryTable(DataTable[Text]):
    """Every entry of the history, oldest first; the cursor follows the last one while it stands there."""

    DEFAULT_CSS = """
    HistoryTable { height: 2fr; background: transparent; overflow-x: hidden; }
    """

    BINDING_GROUP_TITLE = "Table"
    BINDINGS: ClassVar[list[BindingType]] = ENDS

    def __init__(self) -> None:
        super().__init__(cursor_type="row")
        self.shown: list[Step] = []

    def on_mount(self) -> None:
        """Set up the columns."""
        self.add_columns("step", "try", "concept", "score", "result", "")

    def show(self, steps: Sequence[Step], best: float | None, marked: Collection[Place] = ()) -> None:
        """Show a history.

        Args:
            steps: its entries.
            best: the highest score, which is set apart.
            marked: the entries chosen for a comparison.
        """
        self.shown = list(steps)
        # Only where it was swapped does the language model tell entries apart.
        models = len({one.model for one in steps if one.model}) > 1
        rows = {f"{one.step}.{one.attempt}": _cells(one, best, marked, models) for one in steps}
        fill(self, rows, follow_last=True)

    def chosen(self) -> Step | None:
        """The entry under the cursor."""
        return self.shown[self.cursor_row] if 0 <= self.cursor_row < len(self.shown) else None

    def at_end(self) -> bool:
        """Whether the cursor stands on the last entry."""
        return self.cursor_row >= len(self.shown) - 1


def _cells(one: Step, best: float | None, marked: Collection[Place], models: bool) -> tuple[Text, ...]:
    scored = one.outcome == "scored"
    style = "bold" if scored and one.score == best else "" if scored else "dim"
    sign = " m" if (one.step, one.attempt) in marked else ""
    tries = "" if one.kind in {"initial", "revisit"} else str(one.attempt + 1)
    model = (one.model or "").partition(" ")[0] if models else ""
    return (
        Text(step_name(one) + sign),
        Text(tries),
        Text(plain(one.concept), style=style),
        Text(number(one.score) if scored else "", style=style, justify="right"),
        Text(plain(result_of(one)) or (plain(one.origin) if one.kind == "initial" else ""), style=style),
        Text(plain(model), style="dim"),
    )


class EntryView(VerticalScroll):
    """One entry of the history in full: the reasoning, and why it was refused if it was."""

    DEFAULT_CSS = """
    EntryView { height: 1fr; min-height: 3; border-top: solid $panel; padding: 0 1; }
    """

    def compose(self) -> ComposeResult:
        """The text."""
        yield Static(markup=False)

    def show(self, one: Step | None) -> None:
        """Show an entry."""
        self.query_one(Static).update(Text("") if one is None else entry_text(one))
        self.scroll_home(animate=False)


def entry_text(one: Step) -> Text:
    """An entry as text of its own lines."""
    shown = Text()
    shown.append(f"step {step_name(one)}", style="bold")
    if one.concept:
        shown.append(f" · {plain(one.concept)}", style="bold")
    if one.score is not None:
        shown.append(f" · {number(one.score)}")
    if said := result_of(one):
        shown.append(f" · {plain(said)}")
    if reason := reason_of_refusal(one):
        shown.append(f"\nwhy: {plain(reason)}")
    if one.reasoning:
        shown.append(f"\n{plain(one.reasoning)}")
    elif one.kind == "initial":
        shown.append("\nfrom the first board; no language model was asked" if not one.model else "")
    return shown
