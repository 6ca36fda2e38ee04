"""Edits of a unit's images: what became of each, and the images side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from line_neurons.tui.app.chrome import KeyFooter, TopBar
from line_neurons.tui.app.table_sync import RecordTable, fitted, sync_rows
from line_neurons.tui.app.unit.images import ImageGrid
from line_neurons.tui.app.unit.images_screen import UnitImagesScreen
from line_neurons.tui.edits_view import EditedImage, UnitEdits
from line_neurons.tui.formatting import bar, number, plain
from line_neurons.tui.unit_view import UnitView

_BAR, _NUMBER = 8, 8
_NAME, _VERDICT = 18, 14


class EditTable(RecordTable[EditedImage]):
    """Edited images: activation before and after, on the control edit, and the verdict."""

    DEFAULT_CSS = """
    EditTable { height: 2fr; }
    """
    # 76 cells with their padding: all fit into the narrowest terminal.
    COLUMNS = (
        ("image", _NAME), ("original", _NUMBER), ("edit", _NUMBER), ("", _BAR), ("control", _NUMBER),
        ("verdict", _VERDICT),
    )  # fmt: skip

    def show(self, images: Sequence[EditedImage]) -> None:
        """Show images, a row each."""
        self.records = list(images)
        values = [arm.activation for image in images for arm in image.arms]
        low, high = min([0.0, *values]), max([0.0, *values])
        rows = {}
        for place, image in enumerate(images):
            found = {arm.arm: arm.activation for arm in image.arms}

            style = "" if image.verdict == "ok" else "bold"
            rows[str(place)] = (
                Text(fitted(image.name, _NAME)),
                *(Text(number(found.get(arm)), justify="right") for arm in ("original", "concept")),
                Text(bar(found["concept"], low=low, high=high, width=_BAR) if "concept" in found else ""),
                Text(number(found.get("elsewhere")), justify="right"),
                Text(fitted(image.verdict, _VERDICT), style=style),
            )
        sync_rows(self, rows)


class EditsScreen(UnitImagesScreen):
    """The edits of a unit's images, an evaluation at a time."""

    CSS = """
    EditsScreen ImageGrid { height: 3fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "next", "Next evaluation", tooltip="Another kind of edit, editor or verifier."),
    ]

    def __init__(self, store: Path, view: UnitView, evaluations: Sequence[UnitEdits]) -> None:
        super().__init__(store, view)
        self._evaluations = list(evaluations)
        self._place = 0

    def compose(self) -> ComposeResult:
        """Lay out the effect, the table and the images of the selected row."""
        yield TopBar()
        yield Static(id="title", markup=False)
        yield Static(id="summary", markup=False)
        yield EditTable()
        yield Static(id="detail", markup=False)
        yield ImageGrid(self._store)
        yield KeyFooter()

    def on_mount(self) -> None:
        """Show the newest evaluation."""
        self._show()
        self.query_one(EditTable).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer the next evaluation only if there are several."""
        return action != "next" or len(self._evaluations) > 1

    def action_next(self) -> None:
        """Show the next evaluation."""
        self._place = (self._place + 1) % len(self._evaluations)
        self._show()

    def _images_name(self) -> str | None:
        selected = self.query_one(EditTable).selected()
        return None if selected is None else selected.name

    def _show(self) -> None:
        edits = self._evaluations[self._place]
        several = f" ({self._place + 1} of {len(self._evaluations)})" if len(self._evaluations) > 1 else ""
        self.query_one("#title", Static).update(f"Is it the cause? {plain(edits.title)}{several}")
        self.query_one("#summary", Static).update(plain(edits.summary))
        self.query_one(EditTable).show(edits.images)
        self._show_images()

    def _show_images(self) -> None:
        selected = self.query_one(EditTable).selected()
        if selected is not None:
            kinds = ", ".join(
                {"concept": "edit", "elsewhere": "control edit"}.get(arm.arm, arm.arm) for arm in selected.arms
            )
            detail = f": {plain(selected.detail)}" if selected.detail else ""
            self.query_one("#detail", Static).update(f"{plain(selected.verdict)} ({kinds}){detail}")
            self.query_one(ImageGrid).show(self._view.run, self._view.unit.unit, selected.images)
