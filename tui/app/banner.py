"""One line that says what is wrong for as long as it is, and what to do."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from line_neurons.agent.errors import LineError
from line_neurons.tui.formatting import plain


class Banner(Static):
    """Hidden while nothing is wrong."""

    DEFAULT_CSS = """
    Banner {
        display: none; height: auto; max-height: 3; padding: 0 1;
        background: $error-muted; color: $text-error;
        &.-shown { display: block; }
    }
    """

    def say(self, error: LineError) -> None:
        """Show what is wrong, and that it is tried again."""
        remedy = f" To mend it: {plain(error.remedy)}." if error.remedy else ""
        self.update(Content(f"! {plain(error.message)}.{remedy} Trying again."))
        self.add_class("-shown")

    def clear(self) -> None:
        """All is well again."""
        self.remove_class("-shown")
