"""Two concepts of a unit, or two units, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import LineError
from line_neurons.tools.store.records import Step
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app.banner import Banner
from line_neurons.tui.app.store_follower import follow
from line_neurons.tui.app.top_bar import TopBar
from line_neurons.tui.app.unit.board import BoardTable
from line_neurons.tui.app.unit.header import best_of, head_text, title_of
from line_neurons.tui.app.unit.history import entry_text
from line_neurons.tui.app.unit.image import ImageScreen
from line_neurons.tui.app.unit.images import Card, ImagesView
from line_neurons.tui.app.unit.score_plot import ScorePlot
from line_neurons.tui.formatting import number, plain
from line_neurons.tui.unit_view import UnitView, board, origin_of, read_unit

_LOOK = """
{name} #verdict {{ height: auto; max-height: 3; padding: 0 1; background: $panel; }}
{name} Horizontal {{ height: 1fr; }}
{name} .side {{ width: 1fr; height: 1fr; border: round $panel; border-title-color: $foreground; padding: 0 1; }}
{name} .side:focus-within {{ border: round $accent; }}
{name} ImagesView {{ min-height: 6; }}
"""


class ConceptsScreen(Screen[None]):
    """Two concepts that one unit was scored on.

    Args:
        store: the store's folder.
        view: the unit.
        left: the entry of its history that scored one of them.
        right: that of the other.
    """

    CSS = (
        _LOOK.format(name="ConceptsScreen")
        + """
    ConceptsScreen VerticalScroll { height: auto; max-height: 40%; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,m", "app.pop_screen", "Back"),
        Binding("p", "images", "Images, large"),
    ]

    def __init__(self, store: Path, view: UnitView, left: Step, right: Step) -> None:
        super().__init__()
        self._store, self._view, self._entries = store, view, (left, right)

    def compose(self) -> ComposeResult:
        """A column for each, under what tells them apart."""
        yield TopBar()
        yield Static(verdict(*self._entries), id="verdict")
        with Horizontal():
            for one in self._entries:
                with Vertical(classes="side") as side:
                    side.border_title = Text(plain(one.concept)).plain.replace("[", "\\[")
                    with VerticalScroll():
                        yield Static(self._account(one))
                    yield ImagesView(self._store)
        yield Footer()

    def on_mount(self) -> None:
        """Load the images."""
        self.sub_title = title_of(self._view)
        for one, shown in zip(self._entries, self.query(ImagesView), strict=True):
            shown.show(self._view.run, self._view.unit.unit, one.images)

    def action_images(self) -> None:
        """Open the image that has the focus large, else the first."""
        shown = self._focused()
        if shown.loaded:
            concept = self._entries[list(self.query(ImagesView)).index(shown)].concept or ""
            self.app.push_screen(ImageScreen(concept, shown.loaded, shown.focused()))

    @on(Card.Opened)
    def _open(self, event: Card.Opened) -> None:
        self.action_images()

    @on(ImagesView.Failed)
    def _failed(self, event: ImagesView.Failed) -> None:
        self.notify(plain(str(event.error)), severity="error", markup=False)

    def _focused(self) -> ImagesView:
        views = list(self.query(ImagesView))
        return next((one for one in views if one.has_focus_within), views[0])

    def _account(self, one: Step) -> Text:
        shown = Text.assemble((number(one.score), "bold"), f"  {plain(origin_of(one))}\n")
        shown.append_text(entry_text(one))
        return shown


def verdict(left: Step, right: Step) -> Text:
    """Which of two concepts excites the unit more, in words."""
    one, other = left.score or 0.0, right.score or 0.0
    if one == other:
        return Text(f"Both score {number(one)}.")
    best, second = (left, right) if one > other else (right, left)
    return Text.assemble(
        (plain(best.concept), "bold"),
        f" scores {number(abs(one - other))} more than ",
        (plain(second.concept), "bold"),
        f": {number(best.score)} against {number(second.score)}.",
    )


class CompareScreen(Screen[None]):
    """Two units, of one run or of two, as they go on.

    Args:
        store: the store's folder.
        left: run and index of one.
        right: those of the other.
    """

    CSS = (
        _LOOK.format(name="CompareScreen")
        + """
    CompareScreen .head { height: auto; max-height: 4; }
    CompareScreen BoardTable { height: 2fr; }
    CompareScreen ScorePlot { height: 1fr; }
    CompareScreen ImagesView { height: 1fr; }
    CompareScreen.-short ScorePlot, CompareScreen.-short ImagesView { display: none; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,m", "app.pop_screen", "Back"),
        Binding("p", "images", "Images, large"),
    ]

    def __init__(self, store: Path, left: tuple[str, int], right: tuple[str, int]) -> None:
        super().__init__()
        self._store, self._units = store, (left, right)
        self._views: list[UnitView] = []

    def compose(self) -> ComposeResult:
        """A column for each, under what they share."""
        yield TopBar()
        yield Banner()
        yield Static(id="verdict", markup=False)
        with Horizontal():
            for _ in self._units:
                with Vertical(classes="side"):
                    yield Static(classes="head", markup=False)
                    yield BoardTable()
                    yield ScorePlot()
                    yield ImagesView(self._store)
        yield Footer()

    def on_mount(self) -> None:
        """Follow both."""
        follow(self, self._store, self._read, self._show, self.query_one(Banner).say)

    def on_resize(self, event: events.Resize) -> None:
        """Show boards alone where there is no room for more."""
        self.set_class(event.size.height < 36, "-short")

    def action_images(self) -> None:
        """Open the images of the concept under the cursor."""
        shown = self._side()
        images = list(self.query(ImagesView))[shown]
        if images.loaded:
            self.app.push_screen(ImageScreen(self._concept(shown), images.loaded, images.focused()))

    @on(BoardTable.RowHighlighted)
    def _moved(self) -> None:
        self._images()

    @on(Card.Opened)
    def _open(self, event: Card.Opened) -> None:
        self.action_images()

    @on(ImagesView.Failed)
    def _no_images(self, event: ImagesView.Failed) -> None:
        self._failed(event.error)

    def _read(self, runs: RunStore) -> list[UnitView]:
        return [read_unit(runs, run, unit) for run, unit in self._units]

    def _show(self, views: list[UnitView]) -> None:
        self._views = views
        self.query_one(Banner).clear()
        self.query_one("#verdict", Static).update(shared_text(*views))
        shared = shared_concepts(views)
        for view, side in zip(views, self.query(".side"), strict=True):
            side.border_title = title_of(view).replace("[", "\\[")
            side.query_one(".head", Static).update(head_text(view))
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
                (one.images for one in reversed(view.steps) if one.concept == concept and one.images), ()
            )
            list(self.query(ImagesView))[index].show(view.run, view.unit.unit, images)

    def _concept(self, side: int) -> str:
        row = list(self.query(BoardTable))[side].chosen()
        return row.concept if row else best_of(self._views[side])[0]

    def _side(self) -> int:
        sides = list(self.query(".side"))
        return next((index for index, side in enumerate(sides) if side.has_focus_within), 0)

    def _failed(self, error: LineError) -> None:
        self.notify(plain(str(error)), severity="error", markup=False)


def shared_concepts(views: Sequence[UnitView]) -> set[str]:
    """Keys of the concepts that each of the units was scored on."""
    scored = [
        {concept_key(one.concept) for one in view.steps if one.concept and one.score is not None} for view in views
    ]
    return set.intersection(*scored)


def shared_text(left: UnitView, right: UnitView) -> Text:
    """The concepts that both units were scored on, with both scores, those that differ most first."""
    shared = shared_concepts([left, right])
    if not shared:
        return Text("No concept was scored on both units.")
    scores = [
        {concept_key(one.concept): one.score for one in view.steps if one.concept and one.score is not None}
        for view in (left, right)
    ]
    ordered = sorted(shared, key=lambda key: (-abs(scores[0][key] - scores[1][key]), key))
    said = ", ".join(f"{plain(key)} {number(scores[0][key])} | {number(scores[1][key])}" for key in ordered)
    return Text.assemble((f"scored on both ({len(shared)}): ", "bold"), said)
