"""History of a unit as a table, and one step of it in full."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from line_neurons.tools.store.records import Step
from line_neurons.tools.store.refused_replies import reason_of_refusal
from line_neurons.tui.app.table_sync import RecordTable, sync_rows
from line_neurons.tui.formatting import number, plain, step_name
from line_neurons.tui.unit_view import StepKey, outcome_of


class HistoryTable(RecordTable[Step]):
    """Every attempt of every step, oldest first; a cursor on the last row follows it."""

    DEFAULT_CSS = """
    HistoryTable { height: 2fr; }
    """

    def on_mount(self) -> None:
        """Set up the columns."""
        self.add_columns("step", "attempt", "concept", "score", "outcome", "")

    def show(self, steps: Sequence[Step], best: float | None, marked: Collection[StepKey] = ()) -> None:
        """Show a history.

        Args:
            steps: its steps.
            best: the highest score, which is emphasized.
            marked: the steps to mark for a comparison.
        """
        self.records = list(steps)
        # The language model is shown only if it changed.
        models = len({step.model for step in steps if step.model}) > 1
        rows = {f"{step.step}.{step.attempt}": _cells(step, best, marked, models) for step in steps}
        sync_rows(self, rows, follow_last=True)

    def at_end(self) -> bool:
        """Whether the cursor is on the last row."""
        return self.cursor_row >= len(self.records) - 1


def _cells(step: Step, best: float | None, marked: Collection[StepKey], models: bool) -> tuple[Text, ...]:
    scored = step.outcome == "scored"
    style = "bold" if scored and step.score == best else "" if scored else "dim"
    mark = " m" if (step.step, step.attempt) in marked else ""
    attempt = "" if step.kind in {"initial", "revisit"} else str(step.attempt + 1)
    model = (step.model or "").partition(" ")[0] if models else ""
    return (
        Text(step_name(step) + mark),
        Text(attempt),
        Text(plain(step.concept), style=style),
        Text(number(step.score) if scored else "", style=style, justify="right"),
        Text(plain(outcome_of(step)) or (plain(step.origin) if step.kind == "initial" else ""), style=style),
        Text(plain(model), style="dim"),
    )


class StepView(VerticalScroll):
    """One step in full: its reasoning, and why it was refused if it was."""

    DEFAULT_CSS = """
    StepView { height: 1fr; min-height: 3; border-top: solid $panel; padding: 0 1; }
    """

    def compose(self) -> ComposeResult:
        """Lay out the text."""
        yield Static(markup=False)

    def show(self, step: Step | None) -> None:
        """Show a step."""
        self.query_one(Static).update(Text("") if step is None else step_text(step))
        self.scroll_home(animate=False)


def step_text(step: Step) -> Text:
    """Describe a step with its reasoning."""
    text = Text()
    text.append(f"step {step_name(step)}", style="bold")
    if step.concept:
        text.append(f" · {plain(step.concept)}", style="bold")
    if step.score is not None:
        text.append(f" · {number(step.score)}")
    if outcome := outcome_of(step):
        text.append(f" · {plain(outcome)}")
    if reason := reason_of_refusal(step):
        text.append(f"\nreason: {plain(reason)}")
    if step.reasoning:
        text.append(f"\n{plain(step.reasoning)}")
    elif step.kind == "initial" and not step.model:
        text.append("\ninitial board; no request to a language model")
    return text
