"""What is known of the unit under the cursor, below the table of units; of a failed one why, and what to press."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from line_neurons.agent.text import clean_text
from line_neurons.tools.label_marks import UNLABELLED
from line_neurons.tools.store.activity import Activity
from line_neurons.tui.app.units.columns import number, state_text
from line_neurons.tui.app.units.model import STATES, UnitLine


class UnitDetail(Static):
    """Three lines on a unit."""

    DEFAULT_CSS = """
    UnitDetail { height: 3; padding: 0 1; background: $panel; color: $foreground; }
    """

    def show_unit(self, line: UnitLine | None, doing: Activity | None, *, worked_on: bool) -> None:
        """Show what is known of a unit; None: no unit matches the filter."""
        if line is None:
            self.say("", "No unit matches the filter", "$text-muted", "escape takes it away", "")
            return
        title = f"unit {line.unit}{f' ({line.name})' if line.name else ''}"
        if line.state == "failed":
            press = f"{'x stops the run, then t' if worked_on else 't'} retries, enter shows its history"
            self.say(title, f"{STATES['failed']} failed", "$text-error", press, line.error)
        elif line.state == "damaged":
            self.say(title, f"{STATES['damaged']} {line.error}", "$text-error", "", "`line doctor` tells more")
        elif doing is not None and line.state == "running":
            best = f"best so far {doing.best} {number(doing.best_score)}" if doing.best else "nothing scored yet"
            concept = f", now {doing.concept}" if doing.concept else ""
            self.say(title, state_text(line, doing), "$text-accent", "", clean_text(best + concept, 400))
        elif line.label:
            margin = f", {number(line.margin)} above {line.initial}" if line.initial and line.margin else ""
            facts = [f"score {number(line.score)}{margin}"]
            if line.auc is not None:
                facts.append(f"AUC {line.auc:.3f}")
            if line.mad is not None:
                facts.append(f"MAD {number(line.mad)}")
            marked = f"! {line.condition}; " if line.condition else ""
            self.say(title, line.label, "bold", "", marked + ", ".join([*facts, line.origin]))
        elif line.state in UNLABELLED:
            said = "no concept can be its label; --label-dead in a new run gives it one all the same"
            self.say(title, f"{STATES[line.state]} {line.condition}", "$text-warning", "", said)
        else:
            waits = "waits for its turn" if worked_on else "r resumes the run"
            self.say(title, f"{STATES[line.state]} {line.state}", "$text-muted", "", waits)

    def say(self, title: str, said: str, look: str, press: str, more: str) -> None:
        """Show a title with what is said of it and what to press, and more below; texts are clean."""
        first = [part for part in ((title, "bold"), (said, look), (press, "$text-muted")) if part[0]]
        parts = [part for one in first for part in ("  ", one)][1:]
        self.update(Content.assemble(*parts, "\n", more))
