"""Menu of the columns to sort by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option


class SortMenu(ModalScreen[str | None]):
    """Returns the key of the selected column, or None."""

    DEFAULT_CSS = """
    SortMenu { align: center middle; }
    SortMenu > OptionList { width: 28; height: auto; max-height: 90%; border: round $primary;
        border-title-color: $text; padding: 0 1; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,s", "dismiss(None)", "Close")]

    def __init__(self, columns: Sequence[tuple[str, str]], current: str) -> None:
        super().__init__()
        self._columns = columns
        self._current = current

    def compose(self) -> ComposeResult:
        """Lay out the columns, the current one marked."""
        options = [
            Option(f"{'●' if key == self._current else ' '} {heading}", id=key) for key, heading in self._columns
        ]
        menu = OptionList(*options, markup=False)
        menu.border_title = "sort by"
        menu.border_subtitle = "escape closes"
        yield menu

    def on_mount(self) -> None:
        """Highlight the current column."""
        menu = self.query_one(OptionList)
        menu.highlighted = [key for key, _ in self._columns].index(self._current)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Return the selected column."""
        self.dismiss(event.option_id)
