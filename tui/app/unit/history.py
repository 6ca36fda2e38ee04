"""History of a unit as a table, and one step of it in full."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from line_neurons.tools.store.records import Step
from line_neurons.tools.store.refused_replies import reason_of_refusal
from line_neurons.tui.app.table_sync import RecordTable, fitted, sync_rows
from line_neurons.tui.formatting import number, plain
from line_neurons.tui.guidance_text import predicted, promise
from line_neurons.tui.unit_view import StepKey, outcome_of

_PADDING = 4 * 2
_SCORE = 6
_LEAST_CONCEPT = 12
"""Cells of a concept beside which a predicted score is shown."""
_COLUMNS = ("step", "concept", "score", "outcome")
_GUIDED_COLUMNS = ("step", "concept", "pred.", "score", "outcome")
_LEAST_OUTCOME = 16
"""Cells of an outcome that a long concept leaves."""
_SHORT = {
    "duplicate": "tried already",
    "invalid": "unusable reply",
    "not_drawable": "not drawable",
    "withdrawn": "withdrawn",
    "stalled": "stalled",
}
"""Outcomes in a narrow pane; of one that another program wrote the text is cut."""


class HistoryTable(RecordTable[Step]):
    """Every attempt of every step, oldest first; a cursor on the last row follows it."""

    DEFAULT_CSS = """
    HistoryTable { height: 2fr; }
    """
    COLUMNS = tuple((name, _SCORE) for name in _COLUMNS)

    def __init__(self) -> None:
        super().__init__()
        self._emphasis: tuple[float | None, Collection[StepKey]] = None, ()

    def on_resize(self) -> None:
        """Fit concepts and outcomes into the new width."""
        self.show(self.records, *self._emphasis)

    def show(self, steps: Sequence[Step], best: float | None, marked: Collection[StepKey] = ()) -> None:
        """Show a history: concepts whole where that leaves room for the outcomes, which are shortened to fit.

        Args:
            best: the highest score, which is emphasized.
            marked: the steps to mark for a comparison.
        """
        cursor = None if self.at_end() else self.cursor_row
        self.records, self._emphasis = list(steps), (best, tuple(marked))
        # The language model is shown only if it changed.
        models = len({step.model for step in steps if step.model}) > 1
        names = [_step_text(step, marked) for step in steps]
        step_width = max(map(cell_len, ("step", *names)))
        room = max(self.scrollable_content_region.width - step_width - _SCORE - _PADDING, 2 * _LEAST_OUTCOME)
        # What was predicted is shown where it takes no room from the concepts and outcomes.
        guided = any(map(predicted, steps)) and room - _SCORE - 2 >= _LEAST_OUTCOME + _LEAST_CONCEPT
        room -= (_SCORE + 2) * guided
        self._set_columns(guided=guided)
        longest = max((cell_len(plain(step.concept)) for step in steps), default=0)
        concept_width = min(max(longest, len("concept")), room - _LEAST_OUTCOME)
        width = room - concept_width
        short = any(cell_len(_outcome_text(step, models)) > width for step in steps)
        widths = [step_width, concept_width, *([_SCORE] if guided else []), _SCORE, width]
        if [column.width for column in self.ordered_columns] != widths:
            for column, column_width in zip(self.ordered_columns, widths, strict=True):
                column.width = column_width
            self.clear()
        rows = {
            f"{step.step}.{step.attempt}": _cells(
                step,
                name,
                best,
                fitted(step.concept, concept_width),
                fitted(_outcome_text(step, models, short=short), width),
                guided=guided,
            )
            for step, name in zip(steps, names, strict=True)
        }
        sync_rows(self, rows, follow_last=True)
        if cursor is not None and self.cursor_row != cursor:
            # New widths, for which the rows are made again, leave it on its row.
            self.move_cursor(row=cursor)

    def _set_columns(self, *, guided: bool) -> None:
        """Add or remove the column of predicted scores."""
        wanted = _GUIDED_COLUMNS if guided else _COLUMNS
        if [str(column.label) for column in self.ordered_columns] != list(wanted):
            self.clear(columns=True)
            for name in wanted:
                self.add_column(name, width=_SCORE)

    def at_end(self) -> bool:
        """Whether the cursor is on the last row."""
        return self.cursor_row >= len(self.records) - 1


def _step_text(step: Step, marked: Collection[StepKey]) -> str:
    attempt = f" ({step.attempt + 1})" if step.attempt and step.kind not in {"initial", "revisit"} else ""
    mark = " m" if (step.step, step.attempt) in marked else ""
    return f"{step.name}{attempt}{mark}"


def _outcome_text(step: Step, models: bool, *, short: bool = False) -> str:
    """Return the outcome of a step, in short with the signs of the scoreboard, and its language model."""
    outcome = plain(outcome_of(step)) or (plain(step.origin) if step.kind == "initial" else "")
    if short and step.outcome == "scored":
        outcome = f"- {plain(step.removed)}" if step.removed else outcome
    elif short:
        outcome = f"✗ {_SHORT.get(step.outcome, outcome)}"
    model = (step.model or "").partition(" ")[0] if models else ""
    return " · ".join(filter(None, (outcome, plain(model))))


def _cells(
    step: Step, name: str, best: float | None, concept: str, outcome: str, *, guided: bool
) -> tuple[Text, ...]:
    scored = step.outcome == "scored"
    style = "bold" if scored and step.score == best else "" if scored else "dim"
    return (
        Text(name),
        Text(concept, style=style),
        *(
            [Text(number(expected.score) if (expected := predicted(step)) else "", "dim", justify="right")]
            * guided
        ),
        Text(number(step.score) if scored else "", style=style, justify="right"),
        Text(outcome, style=style),
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
    text.append(f"step {step.name}", style="bold")
    if step.concept:
        text.append(f" · {plain(step.concept)}", style="bold")
    if step.score is not None:
        text.append(f" · {number(step.score)}")
    if outcome := outcome_of(step):
        text.append(f" · {plain(outcome)}")
    if reason := reason_of_refusal(step):
        text.append(f"\nreason: {plain(reason)}")
    if expected := promise(step):
        text.append(f"\n{plain(expected)}", style="dim")
    if step.reasoning:
        text.append(f"\n{plain(step.reasoning)}")
    elif step.kind == "initial" and not step.model:
        text.append("\ninitial board; no request to a language model")
    return text
