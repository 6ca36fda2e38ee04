"""What people asked of a unit, and what came of it."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

from line_neurons.tui.formatting import plain
from line_neurons.tui.unit_view import UnitView

MOST = 3
_SAID = {
    "pin": "pin {}",
    "unpin": "unpin {}",
    "ban": "ban {}",
    "try": "try {}",
    "again": "ask anew",
}


class SteeringView(Static):
    """The last wishes: those that wait with a sign, those that were taken with what came of them."""

    DEFAULT_CSS = """
    SteeringView { height: auto; max-height: 5; padding: 0 1; display: none; border-top: solid $panel; }
    SteeringView.some { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show(self, view: UnitView) -> None:
        """Show the last of a unit's wishes."""
        self.set_class(bool(view.commands), "some")
        self.update(wishes_text(view))


def when_taken(view: UnitView) -> str:
    """When what is asked of a unit now is taken, and what to press for it."""
    if view.state == "failed":
        return "waits until the unit is tried again (t)"
    return "is taken before the next node" if view.worked_on else "waits until the run is resumed (r)"


def wishes_text(view: UnitView) -> Text:
    """The last wishes of a unit, a line for each, the last one first."""
    shown = Text()
    for command in reversed(view.commands[-MOST:]):
        said = _SAID.get(command.kind, plain(command.kind)).format(f"“{plain(command.concept)}”")
        if command.taken is None:
            said = f"… {said}: {when_taken(view)}"
        else:
            said = f"{'✓' if command.applied else '✗'} {said}: {plain(command.outcome) or 'taken'}"
        shown.append(("\n" if shown else "") + said, "bold" if command.taken is None else "")
    return shown
