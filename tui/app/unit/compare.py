"""Comparison of two concepts of a unit, or of two units, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Static

from line_neurons.agent.concepts import concept_key
from line_neurons.tools.store.records import Step
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app.chrome import Banner, KeyFooter, TopBar
from line_neurons.tui.app.store_screen import StoreScreen
from line_neurons.tui.app.unit.board import BoardTable
from line_neurons.tui.app.unit.header import best_concept, label_text, layer_title, unit_name
from line_neurons.tui.app.unit.history import step_text
from line_neurons.tui.app.unit.image import ImageScreen
from line_neurons.tui.app.unit.images import ImageCard, ImageGrid
from line_neurons.tui.app.unit.images_screen import UnitImagesScreen
from line_neurons.tui.app.unit.score_plot import ScorePlot
from line_neurons.tui.formatting import number, plain
from line_neurons.tui.unit_view import UnitReader, UnitView, board, origin_of

_LOOK = """
{name} #summary {{ height: auto; max-height: 3; padding: 0 1; background: $panel; }}
{name} Horizontal {{ height: 1fr; }}
{name} .side {{ width: 1fr; height: 1fr; border: round $panel; border-title-color: $foreground; padding: 0 1; }}
{name} .side:focus-within {{ border: round $accent; }}
{name} ImageGrid {{ min-height: 6; }}
"""


class CompareConceptsScreen(UnitImagesScreen):
    """Two concepts that were scored on one unit."""

    CSS = (
        _LOOK.format(name="CompareConceptsScreen")
        + """
    CompareConceptsScreen VerticalScroll { height: auto; max-height: 40%; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,m", "app.pop_screen", "Back"),
    ]

    def __init__(self, store: Path, view: UnitView, left: Step, right: Step) -> None:
        super().__init__(store, view)
        self._steps = left, right

    def compose(self) -> ComposeResult:
        """Lay out a column for each under the difference of their scores."""
        yield TopBar()
        yield Static(score_difference(*self._steps), id="summary")
        with Horizontal():
            for step in self._steps:
                with Vertical(classes="side") as side:
                    side.border_title = Text(plain(step.concept)).plain.replace("[", "\\[")
                    with VerticalScroll():
                        yield Static(self._description(step))
                    yield ImageGrid(self._store)
        yield KeyFooter()

    def on_mount(self) -> None:
        """Load the images."""
        for step, images in zip(self._steps, self.query(ImageGrid), strict=True):
            images.show(self._view.run, self._view.unit.unit, step.images)

    def _grid(self) -> ImageGrid:
        views = list(self.query(ImageGrid))
        return next((view for view in views if view.has_focus_within), views[0])

    def _images_name(self) -> str:
        return self._steps[list(self.query(ImageGrid)).index(self._grid())].concept or ""

    def _description(self, step: Step) -> Text:
        text = Text.assemble((number(step.score), "bold"), f"  {plain(origin_of(step))}\n")
        text.append_text(step_text(step))
        return text


def score_difference(left: Step, right: Step) -> Text:
    """Describe which of two concepts scores higher, and by how much."""
    first, other = left.score or 0.0, right.score or 0.0
    if first == other:
        return Text(f"Both score {number(first)}.")
    best, second = (left, right) if first > other else (right, left)
    return Text.assemble(
        (plain(best.concept), "bold"),
        f" scores {number(abs(first - other))} more than ",
        (plain(second.concept), "bold"),
        f": {number(best.score)} against {number(second.score)}.",
    )


class CompareUnitsScreen(StoreScreen):
    """Two units, of one run or of two; each is given by run and index."""

    CSS = (
        _LOOK.format(name="CompareUnitsScreen")
        + """
    CompareUnitsScreen .head { height: auto; max-height: 4; }
    CompareUnitsScreen BoardTable { height: 2fr; }
    CompareUnitsScreen ScorePlot { height: 1fr; }
    CompareUnitsScreen ImageGrid { height: 1fr; }
    CompareUnitsScreen.-short ScorePlot, CompareUnitsScreen.-short ImageGrid { display: none; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,m", "app.pop_screen", "Back"),
        Binding("p", "images", "Large images"),
    ]

    def __init__(self, store: Path, left: tuple[str, int], right: tuple[str, int]) -> None:
        super().__init__(store)
        self._units = left, right
        self._readers = [UnitReader(*unit) for unit in self._units]
        self._views: list[UnitView] = []

    def compose(self) -> ComposeResult:
        """Lay out a column for each under their shared concepts."""
        yield TopBar()
        yield Banner()
        yield Static(id="summary", markup=False)
        with Horizontal():
            for _ in self._units:
                with Vertical(classes="side"):
                    yield Static(classes="head", markup=False)
                    yield BoardTable()
                    yield ScorePlot()
                    yield ImageGrid(self._store)
        yield KeyFooter()

    def on_mount(self) -> None:
        """Follow both units."""
        self.follow_store(self._read, self._show)

    def on_resize(self, event: events.Resize) -> None:
        """Show only the boards on a short screen."""
        self.set_class(event.size.height < 36, "-short")

    def action_images(self) -> None:
        """Open the images of the concept under the cursor."""
        side = self._side()
        images = list(self.query(ImageGrid))[side]
        if images.loaded:
            self.app.push_screen(ImageScreen(self._concept(side), images.loaded, images.focused()))

    @on(BoardTable.RowHighlighted)
    def _moved(self) -> None:
        self._images()

    @on(ImageCard.Opened)
    def _open(self, event: ImageCard.Opened) -> None:
        self.action_images()

    @on(ImageGrid.Failed)
    def _images_failed(self, event: ImageGrid.Failed) -> None:
        self.notify_error(event.error)

    def _read(self, runs: RunStore) -> list[UnitView]:
        return [read(runs) for read in self._readers]

    def _show(self, views: list[UnitView]) -> None:
        self._views = views
        self.query_one(Banner).clear()
        self.query_one("#summary", Static).update(shared_text(*views))
        shared = shared_concepts(views)
        runs = {plain(view.run.id) for view in views}
        self.title, self.sub_title = " and ".join(sorted(runs)), layer_title(views[0])
        for view, side in zip(views, self.query(".side"), strict=True):
            of_run = f" of {plain(view.run.id)}" if len(runs) > 1 else ""
            side.border_title = f"{unit_name(view)}{of_run}".replace("[", "\\[")
            side.query_one(".head", Static).update(label_text(view))
            rows = board(view)
            side.query_one(BoardTable).show(
                rows, [row.concept for row in rows if concept_key(row.concept) in shared], ("=", "both")
            )
            side.query_one(ScorePlot).show(view.steps)
        self._images()

    def _images(self) -> None:
        for index, view in enumerate(self._views):
            concept = self._concept(index)
            images: Sequence[str] = next(
                (step.images for step in reversed(view.steps) if step.concept == concept and step.images), ()
            )
            list(self.query(ImageGrid))[index].show(view.run, view.unit.unit, images)

    def _concept(self, side: int) -> str:
        row = list(self.query(BoardTable))[side].selected()
        return row.concept if row else best_concept(self._views[side])[0]

    def _side(self) -> int:
        sides = list(self.query(".side"))
        return next((index for index, side in enumerate(sides) if side.has_focus_within), 0)


def shared_concepts(views: Sequence[UnitView]) -> set[str]:
    """Return the keys of the concepts that were scored on all units."""
    scored = [
        {concept_key(step.concept) for step in view.steps if step.concept and step.score is not None}
        for view in views
    ]
    return set.intersection(*scored)


def shared_text(left: UnitView, right: UnitView) -> Text:
    """List the concepts that were scored on both units with both scores, largest difference first."""
    shared = shared_concepts([left, right])
    if not shared:
        return Text("No concept was scored on both units.")
    scores = [
        {concept_key(step.concept): step.score for step in view.steps if step.concept and step.score is not None}
        for view in (left, right)
    ]
    ordered = sorted(shared, key=lambda key: (-abs(scores[0][key] - scores[1][key]), key))
    listed = ", ".join(f"{plain(key)} {number(scores[0][key])} | {number(scores[1][key])}" for key in ordered)
    return Text.assemble((f"scored on both ({len(shared)}): ", "bold"), listed)
