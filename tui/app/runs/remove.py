"""Dialog before a run is deleted."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from line_neurons.tui.app.run_rows import RunRow
from line_neurons.tui.formatting import counted, plain


class RemoveDialog(ModalScreen[bool]):
    """Asks whether to delete a run; returns the answer."""

    CSS = """
    RemoveDialog { align: center middle; }
    RemoveDialog > Vertical {
        width: 66; max-width: 95%; height: auto; padding: 0 2 1 2;
        border: round $error; background: $surface; border-title-style: bold;
    }
    RemoveDialog Horizontal { height: auto; align-horizontal: right; margin-top: 1; }
    RemoveDialog Button { margin-left: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n", "answer(False)", "Keep"),
        Binding("y", "answer(True)", "Delete"),
    ]

    def __init__(self, row: RunRow) -> None:
        super().__init__()
        self._row = row

    def compose(self) -> ComposeResult:
        """Lay out what is deleted and two buttons."""
        with Vertical() as box:
            box.border_title = "Delete this run?"
            yield Static(Text.assemble((plain(self._row.run.id), "bold"), f": {self._content()}"))
            yield Static(
                Text(
                    "Its labels, histories, checkpoints and evaluations are deleted for good. Images stay; "
                    "line gc removes those that no other run refers to."
                )
            )
            with Horizontal():
                yield Button("Keep (n)", id="keep")
                yield Button("Delete (y)", id="delete", variant="error")

    def on_mount(self) -> None:
        """Let a stray enter keep the run."""
        self.query_one("#keep").focus()

    def _content(self) -> str:
        row = self._row
        failed = f", {row.failed} failed" if row.failed else ""
        return f"{counted(row.units, 'unit')}, {row.finished} done{failed}"

    def action_answer(self, answer: bool) -> None:
        """Close the dialog with an answer."""
        self.dismiss(answer)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "delete")
