"""What is known of the unit under the cursor, below the table of units; of a failed one why, and what to press."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from line_neurons.agent.proposal import clean_text
from line_neurons.tools.live import Doing
from line_neurons.tui.widgets.units_columns import number, state_text
from line_neurons.tui.widgets.units_lines import STATES, UnitLine


class UnitDetail(Static):
    """Two lines on a unit."""

    DEFAULT_CSS = """
    UnitDetail { height: 2; padding: 0 1; background: $panel; color: $foreground; }
    """

    def show_unit(self, line: UnitLine | None, doing: Doing | None, *, worked_on: bool) -> None:
        """Show what is known of a unit; None: no unit matches the filter."""
        if line is None:
            self.update(Content.styled("No unit matches the filter; escape takes it away.", "$text-muted"))
            return
        name = f" ({line.name})" if line.name else ""
        title = (f"unit {line.unit}{name}", "bold")
        if line.state == "failed":
            press = "x stops the run, then t takes" if worked_on else "t takes"
            self._say(title, f"{STATES['failed']} failed: {line.error}", "$text-error",
                      f"{press} the failed units again; enter shows its history")  # fmt: skip
        elif line.state == "damaged":
            self._say(
                title, f"{STATES['damaged']} {line.error}", "$text-error", "`line doctor --fix` mends a store"
            )
        elif doing is not None and line.state == "running":
            best = f"best so far {doing.best} {number(doing.best_score)}" if doing.best else "nothing scored yet"
            concept = f", now {doing.concept}" if doing.concept else ""
            self._say(title, state_text(line, doing), "$text-accent", clean_text(best + concept, 400))
        elif line.label:
            margin = f", {number(line.margin)} above {line.initial}" if line.initial and line.margin else ""
            facts = [f"score {number(line.score)}{margin}"]
            if line.auc is not None:
                facts.append(f"AUC {line.auc:.3f}")
            if line.mad is not None:
                facts.append(f"MAD {number(line.mad)}")
            self._say(title, line.label, "bold", ", ".join([*facts, line.origin]))
        else:
            waits = "waits for its turn" if worked_on else "r resumes the run"
            self._say(title, f"{STATES[line.state]} {line.state}", "$text-muted", waits)

    def _say(self, title: tuple[str, str], said: str, look: str, more: str) -> None:
        self.update(Content.assemble(title, "  ", (said, look), "\n", (more, "$text-muted")))
