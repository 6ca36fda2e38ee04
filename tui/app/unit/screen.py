"""Screen of one unit: live state, past boards, steering and forking."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.widgets import DataTable, Static, Tab, Tabs

from line_neurons.agent.errors import LineError
from line_neurons.agent.steering import SteeringKind
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.store.records import Step
from line_neurons.tools.store.results.edits import stored_edits
from line_neurons.tools.store.results.facets import facets_of
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app.chrome import Banner, KeyFooter, TopBar
from line_neurons.tui.app.unit.board import BoardTable
from line_neurons.tui.app.unit.compare import CompareConceptsScreen
from line_neurons.tui.app.unit.dialogs import ForkDialog, ForkRequest
from line_neurons.tui.app.unit.edits import EditsScreen
from line_neurons.tui.app.unit.facets import FacetsScreen
from line_neurons.tui.app.unit.header import best_concept, label_text, layer_title, unit_title
from line_neurons.tui.app.unit.history import HistoryTable, StepView
from line_neurons.tui.app.unit.image import ImageScreen, open_image_file
from line_neurons.tui.app.unit.images import ImageCard, ImageGrid
from line_neurons.tui.app.unit.loop import LoopView, StateLine
from line_neurons.tui.app.unit.maps import MapsScreen
from line_neurons.tui.app.unit.prompt import PromptScreen
from line_neurons.tui.app.unit.score_plot import LEGEND, ScorePlot
from line_neurons.tui.app.unit.steering import SteeringScreen, SteeringView
from line_neurons.tui.edits_view import unit_edits
from line_neurons.tui.formatting import plain
from line_neurons.tui.unit_view import StepKey, UnitReader, UnitView, board, pinned_and_banned

PANES = ("board", "history", "plot", "images")


class UnitScreen(SteeringScreen):
    """Search of a unit: the loop, the board, the history, the scores and the images.

    On small terminals the panes are tabs.
    """

    CSS = """
    UnitScreen #head { height: auto; max-height: 3; padding: 0 1; }
    UnitScreen #past {
        display: none; height: auto; padding: 0 1; background: $warning; color: auto; text-style: bold;
    }
    UnitScreen.past #past { display: block; }
    UnitScreen #panes { height: 1fr; }
    UnitScreen .pane { display: none; height: 1fr; }
    UnitScreen .pane.selected { display: block; }
    UnitScreen #legend { height: 1; color: $text-muted; padding: 0 1; }
    UnitScreen #concept { height: 1; padding: 0 1; color: $text-muted; }
    UnitScreen.-all Tabs, UnitScreen.-all #concept { display: none; }
    UnitScreen.-all #panes { layout: grid; grid-size: 2 2; grid-columns: 1fr 1fr; grid-rows: 1fr 1fr; }
    UnitScreen.-all .pane {
        display: block; border: round $panel; border-title-color: $foreground; background: $surface;
    }
    UnitScreen.-all .pane:focus-within { border: round $accent; }
    UnitScreen.-all.past #board { border: double $warning; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", tooltip="From a past board to the current one, else to the units."),
        Binding("end", "live", "Now", priority=True, tooltip="Return to the current board."),
        Binding("r", "resume", "Resume", tooltip="Continue the run in the background."),
        Binding("x", "stop", "Stop", tooltip="Finish and save the current steps, then stop."),
        Binding("t", "retry", "Retry", tooltip="Run the failed units again."),
        Binding("u", "undo", "Undo", tooltip="Undo the last steering command."),
        Binding("v", "prompt", "Prompt", tooltip="Prompt and reply of the selected step."),
        Binding("p", "images", "Images", tooltip="Images of the selected concept, in large."),
        Binding("f", "fork", "Fork", tooltip="Start a new run from the board shown."),
        Binding(
            "P", "steer('pin')", "Pin", tooltip="Keep the selected concept on the board; press again to unpin."
        ),
        Binding(
            "B",
            "steer('ban')",
            "Ban",
            tooltip="Remove the selected concept; it cannot become the label. Press again to unban.",
        ),
        Binding("T", "suggest", "Suggest", tooltip="Type a concept as the next proposal, or to ban it."),
        Binding("A", "steer('again')", "Regenerate", tooltip="Discard the proposal and request another."),
        Binding("W", "withdraw", "Withdraw", show=False, tooltip="Choose a waiting steering command to withdraw."),
        Binding("m", "mark", "Compare", tooltip="Mark the selected concept; a second mark opens both."),
        Binding("c", "copy", "Copy label"),
        Binding("e", "open", "Open image file", show=False),
        *(
            Binding(str(index + 1), f"pane('{name}')", name.capitalize(), show=False)
            for index, name in enumerate(PANES)
        ),
        Binding("5", "edits", "Edits", show=False, tooltip="Images that were edited: is the label the cause?"),
        Binding("6", "facets", "Facets", show=False, tooltip="What else the unit responds to."),
        Binding("7", "maps", "Maps", show=False, tooltip="Where in the images the unit responds."),
    ]

    def __init__(self, store: Path, run: str, unit: int) -> None:
        super().__init__(store, run, unit)
        self._past: StepKey | None = None
        self._concept: str | None = None
        self._marked: Step | None = None
        self._known_forks: frozenset[str] | None = None

    def compose(self) -> ComposeResult:
        """Lay out label, loop and state over the four panes."""
        yield TopBar()
        yield Banner()
        yield Static(id="head", markup=False)
        yield LoopView()
        yield StateLine()
        yield Static(id="past", markup=False)
        yield Tabs(
            *(Tab(f"{index + 1} {name.capitalize()}", id=f"tab-{name}") for index, name in enumerate(PANES))
        )
        with Container(id="panes"):
            with Vertical(id="board", classes="pane selected"):
                yield BoardTable()
                yield SteeringView()
            with Vertical(id="history", classes="pane"):
                yield HistoryTable()
                yield StepView()
            with Vertical(id="plot", classes="pane"):
                yield ScorePlot()
                yield Static(LEGEND, id="legend", markup=False)
            with Vertical(id="images", classes="pane"):
                yield Static(id="concept", markup=False)
                yield ImageGrid(self._store)
        yield KeyFooter()

    def on_mount(self) -> None:
        """Follow the unit."""
        self._titles()
        self.query_one(BoardTable).focus()
        self.follow_store(UnitReader(self._run, self._unit), self._show)

    def on_resize(self, event: events.Resize) -> None:
        """Show all panes on a large screen."""
        self.set_class(event.size.width >= 120 and event.size.height >= 36, "-all")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only the actions that the state of the unit allows."""
        view = self._view
        if action == "undo":
            return self.can_undo()
        if action not in {"live", "resume", "stop", "retry"}:
            return True
        return (
            view is not None
            and {
                "live": self._past is not None,
                "resume": view.resumable and not view.is_active,
                "stop": view.is_active and not view.stop_requested_by,
                "retry": view.state == "failed" and not view.is_active,
            }[action]
        )

    # Display

    def _show(self, view: UnitView) -> None:
        self._view = view
        self.query_one(Banner).clear()
        self.title, self.sub_title = unit_title(view), layer_title(view)
        self.query_one("#head", Static).update(label_text(view))
        self.query_one(LoopView).highlight(view.activity.node if view.activity else "")
        self.query_one(StateLine).show(view)
        self.query_one(SteeringView).show(view)
        if self._past is not None and all((step.step, step.attempt) != self._past for step in view.steps):
            # The unit was restarted.
            self._past = None
        marked = {(self._marked.step, self._marked.attempt)} if self._marked else set()
        self.query_one(HistoryTable).show(view.steps, best_concept(view)[1], marked)
        self._show_board()
        self.refresh_bindings()
        new = frozenset(view.forks) - self._known_forks if self._known_forks is not None else None
        if new:
            self._known_forks = None
            self.app.push_screen(UnitScreen(self._store, min(new), self._unit))

    def _show_board(self) -> None:
        """Show board, plot and images after the selected step."""
        view, past = self._view, self._past
        if view is None:
            return
        marked = [self._marked.concept or ""] if self._marked else []
        self.query_one(BoardTable).show(board(view, past), marked)
        self.query_one(ScorePlot).show(view.steps, past[0] if past else None)
        self.query_one(StepView).show(self.query_one(HistoryTable).selected())
        self.set_class(past is not None, "past")
        if past is not None:
            shown = f"the board after step {past[0]}" if past[0] else "the initial board"
            if any(step.step == past[0] and step.attempt > past[1] for step in view.steps) and past[0]:
                shown += f", attempt {past[1] + 1}, which did not change it"
            self.query_one("#past", Static).update(f"◷ Past: {shown}. End: current board, f: fork from here")
        self._titles()
        self._show_images()

    def _show_images(self) -> None:
        step = self._selected_step()
        if self._view is not None:
            self.query_one(ImageGrid).show(self._view.run, self._unit, step.images if step else ())
            title = f"Images of {plain(step.concept)}" if step and step.concept else "Images"
            title += " — with activations"
            self._title("images", title)
            self.query_one("#concept", Static).update(title)

    def _titles(self) -> None:
        past = self._past
        self._title("board", "Scoreboard" if past is None else f"Scoreboard after step {past[0]} — past")
        self._title("history", "History")
        self._title("plot", "Scores by step")

    def _title(self, pane: str, text: str) -> None:
        self.query_one(f"#{pane}").border_title = text.replace("[", "\\[")

    @on(ImageGrid.Failed)
    def _images_failed(self, event: ImageGrid.Failed) -> None:
        self.notify_error(event.error)

    # Selection

    def _selected_step(self) -> Step | None:
        """Return the step that scored the selected concept."""
        view = self._view
        if view is None:
            return None
        table = self.query_one(HistoryTable)
        if table.has_focus and (selected := table.selected()) is not None and selected.images:
            return selected
        concept = self._concept or best_concept(view)[0]
        scored = (step for step in reversed(view.steps) if step.concept == concept and step.images)
        return next(scored, None)

    @on(DataTable.RowHighlighted)
    def _moved(self, event: DataTable.RowHighlighted) -> None:
        table = event.data_table
        if isinstance(table, BoardTable):
            row = table.selected()
            if row is not None and (table.has_focus or self._concept is None):
                self._concept = row.concept
                self._show_images()
        elif isinstance(table, HistoryTable):
            step = table.selected()
            if table.has_focus and step is not None:
                self._concept = step.concept or self._concept
                past = None if table.at_end() else (step.step, step.attempt)
                if past != self._past:
                    self._past = past
                    self.refresh_bindings()
            self._show_board()

    @on(DataTable.RowSelected)
    def _opened(self, event: DataTable.RowSelected) -> None:
        if isinstance(event.data_table, HistoryTable):
            self.action_prompt()
        else:
            self.action_images()

    @on(Tabs.TabActivated)
    def _tab(self, event: Tabs.TabActivated) -> None:
        self._select_pane((event.tab.id or "").removeprefix("tab-"))

    def action_pane(self, name: str) -> None:
        """Show a pane and go to it."""
        self.query_one(Tabs).active = f"tab-{name}"
        self._select_pane(name)

    def _select_pane(self, name: str) -> None:
        for pane in self.query(".pane"):
            pane.set_class(pane.id == name, "selected")
            # Now, so that the focus is set before the next key.
            self.app.stylesheet.update(pane)
        target = {"board": "BoardTable", "history": "HistoryTable", "images": "ImageCard"}.get(name)
        if target is not None and (widgets := self.query(target)):
            self.set_focus(widgets.first())

    # Actions

    def action_back(self) -> None:
        """Return to the current board, or leave the screen."""
        if self._past is not None:
            self.action_live()
        else:
            self.app.pop_screen()

    def action_live(self) -> None:
        """Return to the current board."""
        self._past = None
        table = self.query_one(HistoryTable)
        table.move_cursor(row=max(0, len(table.records) - 1))
        self._show_board()
        self.refresh_bindings()

    def action_copy(self) -> None:
        """Copy the label, or the best concept so far."""
        label = best_concept(self._view)[0] if self._view else ""
        if label:
            self.copy_text(label, "label")
        else:
            self.warn("there is no label yet")

    def action_images(self) -> None:
        """Open the images of the selected concept in large."""
        self._open_image(self.query_one(ImageGrid).focused())

    @on(ImageCard.Opened)
    def _card_opened(self, event: ImageCard.Opened) -> None:
        self._open_image(event.index)

    def _open_image(self, index: int) -> None:
        loaded, step = self.query_one(ImageGrid).loaded, self._selected_step()
        if loaded and step:
            self.app.push_screen(ImageScreen(step.concept or "", loaded, index))
        else:
            self.warn("there are no images of this step")

    def action_open(self) -> None:
        """Open the image's file with the desktop's viewer, or show its path."""
        grid = self.query_one(ImageGrid)
        if grid.loaded:
            open_image_file(self, grid.loaded[grid.focused()])

    def action_prompt(self) -> None:
        """Show prompt and reply of the selected step, or of the next one with a request."""
        requests = [
            step
            for step in (self._view.steps if self._view else ())
            if step.kind in {"iteration", "summary"} and step.origin != "typed" and step.outcome != "stalled"
        ]
        if not requests:
            self.warn("there is no request to the language model for this unit yet")
            return
        table = self.query_one(HistoryTable)
        selected = table.selected() if table.has_focus or self._past else self._selected_step()
        key = (selected.step, selected.attempt) if selected else (0, 0)
        later = (index for index, step in enumerate(requests) if (step.step, step.attempt) >= key)
        if selected and selected not in requests:
            self.notify(f"step {selected.name} has no request; this is the nearest that has", markup=False)
        self.app.push_screen(PromptScreen(self._store, requests, next(later, len(requests) - 1)))

    def action_edits(self) -> None:
        """Open the edits of the unit's images."""
        view = self._view
        try:
            found = unit_edits(stored_edits(self._store, self._run, self._unit))
        except LineError as error:
            self.notify_error(error)
            return
        if view is None or not found:
            self.warn(f"no image of this unit was edited: line eval edits {self._run} --units {self._unit}")
        else:
            self.app.push_screen(EditsScreen(self._store, view, found))

    def action_facets(self) -> None:
        """Open the facets of the unit."""
        view = self._view
        try:
            with closing(RunStore(self._store, read_only=True)) as runs:
                found = facets_of(runs, self._run).get(self._unit)
        except LineError as error:
            self.notify_error(error)
            return
        if view is None or found is None or not found.facets:
            why = f" ({found.told})" if found and found.told else ""
            self.warn(f"this unit has no facets{why}: line facets {self._run} {self._unit}")
        else:
            self.app.push_screen(FacetsScreen(self._store, view, found))

    def action_maps(self) -> None:
        """Open the label's images with the unit's maps."""
        if self._view is None or not self._view.unit.images:
            self.warn("there is no label with images yet")
        else:
            self.app.push_screen(MapsScreen(self._store, self._view))

    def action_mark(self) -> None:
        """Mark the selected concept; a second mark compares both."""
        step = self._selected_step()
        if step is None or self._view is None:
            self.warn("select a concept that was scored")
        elif self._marked is None:
            self._marked = step
            self.notify(f"“{plain(step.concept)}” is marked: press m on another concept", markup=False)
            self._show(self._view)
        else:
            first, self._marked = self._marked, None
            self._show(self._view)
            if first.concept != step.concept:
                self.app.push_screen(CompareConceptsScreen(self._store, self._view, first, step))

    def action_steer(self, kind: SteeringKind) -> None:
        """Pin or ban the selected concept, or undo that; or request another proposal."""
        step = None if kind == "again" else self._selected_step()
        self.steer_concept(kind, (step.concept or "") if step else "")

    def action_fork(self) -> None:
        """Ask for the parameters of a fork, and create it."""
        view = self._view
        steps = [step.step for step in view.steps if step.kind != "revisit" and step.board] if view else []
        if view is None or not steps:
            self.warn("there is no board to fork from yet")
            return
        step = self._past[0] if self._past else max(steps)
        dialog = ForkDialog(
            f"unit {self._unit}",
            steps,
            step if step in steps else max(steps),
            view.run.seed,
            str(view.run.settings.get("llm", "")),
            sorted(pinned_and_banned(view.commands)[1]),
            ended=view.unit.status in DONE,
        )
        self.app.push_screen(dialog, self._fork)

    def _fork(self, fork: ForkRequest | None) -> None:
        if fork is not None and self._view is not None:
            self._known_forks = frozenset(self._view.forks)
            self._start(fork.arguments(self._run, self._unit), f"forking after step {fork.step}")

    def action_resume(self) -> None:
        """Resume the run in the background."""
        self._start(["resume", self._run], "resuming the run")

    def action_retry(self) -> None:
        """Retry the failed units in the background."""
        self._start(["retry", self._run], "retrying the failed units")

    def action_stop(self) -> None:
        """Request the run to stop after its current steps."""
        self.request_stop(self._run)

    def _start(self, arguments: list[str], description: str) -> None:
        def ended(status: int, error: str) -> None:
            if status:
                self._known_forks = None

        if self.start_command(arguments, description, ended):
            self.notify(f"{description} …", markup=False)
