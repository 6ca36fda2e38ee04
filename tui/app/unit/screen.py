"""One unit of a run, live, with its past to go back to and its future to steer."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Static, Tab, Tabs

from line_neurons.agent.errors import LineError
from line_neurons.agent.steering import SteeringKind
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.store.leases import request_stop_of
from line_neurons.tools.store.records import Step
from line_neurons.tui.app.banner import Banner
from line_neurons.tui.app.store_follower import follow
from line_neurons.tui.app.top_bar import TopBar
from line_neurons.tui.app.unit.board import BoardTable
from line_neurons.tui.app.unit.compare import ConceptsScreen
from line_neurons.tui.app.unit.dialogs import ConceptDialog, Fork, ForkDialog
from line_neurons.tui.app.unit.header import best_of, head_text, title_of
from line_neurons.tui.app.unit.history import EntryView, HistoryTable
from line_neurons.tui.app.unit.image import ImageScreen, show_outside
from line_neurons.tui.app.unit.images import Card, ImagesView
from line_neurons.tui.app.unit.loop import LoopView, StateLine
from line_neurons.tui.app.unit.prompt import PromptScreen
from line_neurons.tui.app.unit.score_plot import LEGEND, ScorePlot
from line_neurons.tui.app.unit.steering_commands import SteeringView, when_taken
from line_neurons.tui.cli.exit_codes import is_failure
from line_neurons.tui.formatting import plain, step_name
from line_neurons.tui.unit_view import Place, UnitView, board, read_unit, steered

PANES = ("board", "history", "plot", "images")


class UnitScreen(Screen[None]):
    """A unit's search as it goes on: the loop, the board, the history, the scores and the images.

    Where the terminal has no room for all, they are behind tabs.

    Args:
        store: the store's folder.
        run: id of the run.
        unit: index of the unit.
    """

    CSS = """
    UnitScreen #head { height: auto; max-height: 3; padding: 0 1; }
    UnitScreen #past {
        display: none; height: auto; padding: 0 1; background: $warning; color: auto; text-style: bold;
    }
    UnitScreen.past #past { display: block; }
    UnitScreen #panes { height: 1fr; }
    UnitScreen .pane { display: none; height: 1fr; }
    UnitScreen .pane.chosen { display: block; }
    UnitScreen #legend { height: 1; color: $text-muted; padding: 0 1; }
    UnitScreen #whose { height: 1; padding: 0 1; color: $text-muted; }
    UnitScreen.-all Tabs, UnitScreen.-all #whose { display: none; }
    UnitScreen.-all #panes { layout: grid; grid-size: 2 2; grid-columns: 1fr 1fr; grid-rows: 1fr 1fr; }
    UnitScreen.-all .pane {
        display: block; border: round $panel; border-title-color: $foreground; background: $surface;
    }
    UnitScreen.-all .pane:focus-within { border: round $accent; }
    UnitScreen.-all.past #board { border: double $warning; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", tooltip="To now, where the past is shown; else to the units."),
        Binding("end", "live", "Now", priority=True, tooltip="Leave the past."),
        Binding("v", "exchange", "Prompt", tooltip="What the language model was asked, and what it replied."),
        Binding("p", "images", "Images", tooltip="The chosen concept's images, large."),
        Binding("f", "fork", "Fork", tooltip="A new run that goes on from the step that is shown."),
        Binding("P", "steer('pin')", "Pin", tooltip="The chosen concept stays on the board; again: no longer."),
        Binding("B", "steer('ban')", "Ban", tooltip="The chosen concept leaves the board and is never the label."),
        Binding("T", "try", "Try own", tooltip="A concept of your own is the next proposal."),
        Binding("A", "steer('again')", "Ask anew", tooltip="The proposal in hand is given up."),
        Binding("m", "mark", "Compare", tooltip="Mark the chosen concept; the second one opens both."),
        Binding("c", "copy", "Copy label"),
        Binding("e", "open", "Open image file", show=False),
        Binding("r", "resume", "Resume", tooltip="A process of its own goes on with the run."),
        Binding("x", "stop", "Stop", tooltip="The run stops where nothing is lost."),
        Binding("t", "retry", "Retry", tooltip="Try the run's failed units again."),
        *(
            Binding(str(place + 1), f"pane('{name}')", name.capitalize(), show=False)
            for place, name in enumerate(PANES)
        ),
    ]

    def __init__(self, store: Path, run: str, unit: int) -> None:
        super().__init__()
        self._store = store
        self._run = run
        self._unit = unit
        self._view: UnitView | None = None
        self._past: Place | None = None
        self._concept: str | None = None
        self._marked: Step | None = None
        self._awaited: frozenset[str] | None = None

    def compose(self) -> ComposeResult:
        """Head, loop and state over the four panes."""
        yield TopBar()
        yield Banner()
        yield Static(id="head", markup=False)
        yield LoopView()
        yield StateLine()
        yield Static(id="past", markup=False)
        yield Tabs(
            *(Tab(f"{place + 1} {name.capitalize()}", id=f"tab-{name}") for place, name in enumerate(PANES))
        )
        with Container(id="panes"):
            with Vertical(id="board", classes="pane chosen"):
                yield BoardTable()
                yield SteeringView()
            with Vertical(id="history", classes="pane"):
                yield HistoryTable()
                yield EntryView()
            with Vertical(id="plot", classes="pane"):
                yield ScorePlot()
                yield Static(LEGEND, id="legend", markup=False)
            with Vertical(id="images", classes="pane"):
                yield Static(id="whose", markup=False)
                yield ImagesView(self._store)
        yield Footer()

    def on_mount(self) -> None:
        """Follow the unit."""
        self._titles()
        self.query_one(BoardTable).focus()
        follow(
            self,
            self._store,
            lambda runs: read_unit(runs, self._run, self._unit),
            self._show,
            self.query_one(Banner).say,
        )

    def on_resize(self, event: events.Resize) -> None:
        """Show all panes at once where there is room."""
        self.set_class(event.size.width >= 120 and event.size.height >= 36, "-all")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only what makes sense as the unit stands."""
        view = self._view
        if action in {"live", "resume", "stop", "retry"}:
            if view is None:
                return False
            possible = {
                "live": self._past is not None,
                "resume": view.unfinished and not view.worked_on,
                "stop": view.worked_on and not view.stopping,
                "retry": view.state == "failed" and not view.worked_on,
            }
            return possible[action]
        return True

    # What is shown

    def _show(self, view: UnitView) -> None:
        self._view = view
        self.query_one(Banner).clear()
        self.sub_title = title_of(view)
        self.query_one("#head", Static).update(head_text(view))
        self.query_one(LoopView).light(view.doing.node if view.doing else "")
        self.query_one(StateLine).show(view)
        self.query_one(SteeringView).show(view)
        if self._past is not None and all((one.step, one.attempt) != self._past for one in view.steps):
            # The unit has begun again.
            self._past = None
        marked = {(self._marked.step, self._marked.attempt)} if self._marked else set()
        self.query_one(HistoryTable).show(view.steps, best_of(view)[1], marked)
        self._show_place()
        self.refresh_bindings()
        new = frozenset(view.forks) - self._awaited if self._awaited is not None else None
        if new:
            self._awaited = None
            self.app.push_screen(UnitScreen(self._store, min(new), self._unit))

    def _show_place(self) -> None:
        """Show board, plot and images as of the place in the history that is looked at."""
        view, past = self._view, self._past
        if view is None:
            return
        marked = [self._marked.concept or ""] if self._marked else []
        self.query_one(BoardTable).show(board(view, past), marked)
        self.query_one(ScorePlot).show(view.steps, past[0] if past else None)
        self.query_one(EntryView).show(self.query_one(HistoryTable).chosen())
        self.set_class(past is not None, "past")
        if past is not None:
            said = f"the board after step {past[0]}" if past[0] else "the first board"
            if any(one.step == past[0] and one.attempt > past[1] for one in view.steps) and past[0]:
                said += f", try {past[1] + 1}, which changed nothing"
            self.query_one("#past", Static).update(f"◷ You see {said}. End: back to now, f: fork from here")
        self._titles()
        self._show_images()

    def _show_images(self) -> None:
        entry = self._entry()
        if self._view is not None:
            self.query_one(ImagesView).show(self._view.run, self._unit, entry.images if entry else ())
            title = f"Images of {plain(entry.concept)}" if entry and entry.concept else "Images"
            title += " — activation under each"
            self._title("images", title)
            self.query_one("#whose", Static).update(title)

    def _titles(self) -> None:
        past = self._past
        self._title("board", "Scoreboard" if past is None else f"Scoreboard after step {past[0]} — past")
        self._title("history", "History")
        self._title("plot", "Score over steps")

    def _title(self, pane: str, text: str) -> None:
        self.query_one(f"#{pane}").border_title = text.replace("[", "\\[")

    def _failed(self, error: LineError) -> None:
        self.notify(plain(str(error)), severity="error", markup=False)

    @on(ImagesView.Failed)
    def _no_images(self, event: ImagesView.Failed) -> None:
        self._failed(event.error)

    # What is chosen

    def _entry(self) -> Step | None:
        """The entry of the history that scored the chosen concept."""
        view = self._view
        if view is None:
            return None
        table = self.query_one(HistoryTable)
        if table.has_focus and (chosen := table.chosen()) is not None and chosen.images:
            return chosen
        concept = self._concept or best_of(view)[0]
        scored = (one for one in reversed(view.steps) if one.concept == concept and one.images)
        return next(scored, None)

    @on(DataTable.RowHighlighted)
    def _moved(self, event: DataTable.RowHighlighted) -> None:
        table = event.data_table
        if isinstance(table, BoardTable):
            row = table.chosen()
            if row is not None and (table.has_focus or self._concept is None):
                self._concept = row.concept
                self._show_images()
        elif isinstance(table, HistoryTable):
            chosen = table.chosen()
            if table.has_focus and chosen is not None:
                self._concept = chosen.concept or self._concept
                past = None if table.at_end() else (chosen.step, chosen.attempt)
                if past != self._past:
                    self._past = past
                    self.refresh_bindings()
            self._show_place()

    @on(DataTable.RowSelected)
    def _opened(self, event: DataTable.RowSelected) -> None:
        if isinstance(event.data_table, HistoryTable):
            self.action_exchange()
        else:
            self.action_images()

    @on(Tabs.TabActivated)
    def _tab(self, event: Tabs.TabActivated) -> None:
        self._choose((event.tab.id or "").removeprefix("tab-"))

    def action_pane(self, name: str) -> None:
        """Show a pane and go to it."""
        self.query_one(Tabs).active = f"tab-{name}"
        self._choose(name)

    def _choose(self, name: str) -> None:
        for pane in self.query(".pane"):
            pane.set_class(pane.id == name, "chosen")
            # Now, so that the next key finds the focus where it belongs.
            self.app.stylesheet.update(pane)
        first = {"board": "BoardTable", "history": "HistoryTable", "images": "Card"}.get(name)
        if first is not None and (found := self.query(first)):
            self.set_focus(found.first())

    # What is done

    def action_back(self) -> None:
        """Go back to now, or from the screen."""
        if self._past is not None:
            self.action_live()
        else:
            self.app.pop_screen()

    def action_live(self) -> None:
        """Go back to now."""
        self._past = None
        table = self.query_one(HistoryTable)
        table.move_cursor(row=max(0, len(table.shown) - 1))
        self._show_place()
        self.refresh_bindings()

    def action_copy(self) -> None:
        """Copy the label, or the best concept so far."""
        label = best_of(self._view)[0] if self._view else ""
        if label:
            self.app.copy_to_clipboard(label)
            self.notify(plain(label), title="Copied", markup=False)
        else:
            self.notify("there is no label yet", severity="warning", markup=False)

    def action_images(self) -> None:
        """Open the chosen concept's images large."""
        shown, entry = self.query_one(ImagesView), self._entry()
        if shown.loaded and entry:
            self.app.push_screen(ImageScreen(entry.concept or "", shown.loaded, shown.focused()))
        else:
            self.notify("there are no images of this entry", severity="warning", markup=False)

    @on(Card.Opened)
    def _open_card(self, event: Card.Opened) -> None:
        entry = self._entry()
        loaded = self.query_one(ImagesView).loaded
        if loaded and entry:
            self.app.push_screen(ImageScreen(entry.concept or "", loaded, event.index))

    def action_open(self) -> None:
        """Open the image's file with the desktop's viewer, or say where it is."""
        shown = self.query_one(ImagesView)
        if shown.loaded:
            show_outside(self, shown.loaded[shown.focused()])

    def action_exchange(self) -> None:
        """Show what the language model was asked at the chosen entry, and what it replied."""
        asked = [
            one
            for one in (self._view.steps if self._view else ())
            if one.kind in {"iteration", "summary"} and one.origin != "typed" and one.outcome != "stalled"
        ]
        if not asked:
            self.notify("the language model was not asked for this unit yet", severity="warning", markup=False)
            return
        table = self.query_one(HistoryTable)
        wanted = table.chosen() if table.has_focus or self._past else self._entry()
        place = (wanted.step, wanted.attempt) if wanted else (0, 0)
        # The one asked for, else the first one after it.
        index = next((at for at, one in enumerate(asked) if (one.step, one.attempt) >= place), len(asked) - 1)
        if wanted and wanted not in asked:
            self.notify(f"step {step_name(wanted)} asked no model; this is the nearest that did", markup=False)
        self.app.push_screen(PromptScreen(self._store, asked, index))

    def action_mark(self) -> None:
        """Mark the chosen concept; with a second one, show both side by side."""
        entry = self._entry()
        if entry is None or self._view is None:
            self.notify("choose a concept that was scored", severity="warning", markup=False)
        elif self._marked is None:
            self._marked = entry
            self.notify(f"“{plain(entry.concept)}” is marked: press m on another concept", markup=False)
            self._show(self._view)
        else:
            first, self._marked = self._marked, None
            self._show(self._view)
            if first.concept != entry.concept:
                self.app.push_screen(ConceptsScreen(self._store, self._view, first, entry))

    def action_steer(self, kind: SteeringKind) -> None:
        """Ask something of the unit: pin or unpin the chosen concept, ban it, or ask the model anew now."""
        if self._view is None:
            return
        entry = self._entry()
        concept = "" if kind == "again" else (entry.concept or "" if entry else "")
        if kind != "again" and not concept:
            self.notify("choose a concept that was scored", severity="warning", markup=False)
            return
        row = self.query_one(BoardTable).chosen()
        if kind == "pin" and row is not None and row.concept == concept and row.pinned:
            kind = "unpin"
        self._wish(kind, concept)

    def action_try(self) -> None:
        """Type a concept that is to be tried next."""
        if self._view is None:
            return
        tried = [one.concept for one in self._view.steps if one.concept and one.outcome == "scored"]
        dialog = ConceptDialog(
            f"unit {self._unit}",
            tried if self._view.run.settings.get("duplicates", "refuse") == "refuse" else [],
            sorted(steered(self._view.commands)[1]),
        )
        self.app.push_screen(dialog, lambda concept: self._wish("try", concept) if concept else None)

    def _wish(self, kind: SteeringKind, concept: str) -> None:
        """Write a wish into the store, beside the app's own thread."""

        def write() -> None:
            from line_neurons.tools.store.steering_queue import submit

            try:
                submit(self._store, self._run, self._unit, kind, concept)
            except LineError as error:
                self.app.call_from_thread(self._failed, error)
            else:
                self.app.call_from_thread(self._asked, kind, concept)

        self.run_worker(write, thread=True, group="wish", exit_on_error=False)

    def _asked(self, kind: SteeringKind, concept: str) -> None:
        said = {"again": "ask anew", "try": f"try “{plain(concept)}”"}.get(kind, f"{kind} “{plain(concept)}”")
        if self._view is not None:
            self.notify(f"It {when_taken(self._view)}.", title=f"Asked: {said}", markup=False)

    def action_fork(self) -> None:
        """Ask what a fork begins with, and make it."""
        view = self._view
        steps = [one.step for one in view.steps if one.kind != "revisit" and one.board] if view else []
        if view is None or not steps:
            self.notify("there is no board to go on from yet", severity="warning", markup=False)
            return
        at = self._past[0] if self._past else max(steps)
        dialog = ForkDialog(
            f"unit {self._unit}",
            steps,
            at if at in steps else max(steps),
            view.run.seed,
            str(view.run.settings.get("llm", "")),
            sorted(steered(view.commands)[1]),
            ended=view.unit.status in DONE,
        )
        self.app.push_screen(dialog, self._fork)

    def _fork(self, fork: Fork | None) -> None:
        if fork is not None and self._view is not None:
            self._awaited = frozenset(self._view.forks)
            self._launch(fork.arguments(self._run, self._unit), f"forking after step {fork.step}")

    def action_resume(self) -> None:
        """Let a process of its own go on with the run."""
        self._launch(["resume", self._run], "resuming the run")

    def action_retry(self) -> None:
        """Let a process of its own try the failed units again."""
        self._launch(["retry", self._run], "trying the failed units again")

    def action_stop(self) -> None:
        """Ask the process that works on the run to stop where nothing is lost."""

        def write() -> None:
            try:
                asked = request_stop_of(self._store, self._run)
            except LineError as error:
                self.app.call_from_thread(self._failed, error)
                return
            said = "it stops at the next checkpoint; nothing is lost" if asked else "nobody works on it any more"
            self.app.call_from_thread(self.notify, said, title="Stop", markup=False)

        self.run_worker(write, thread=True, group="stop", exit_on_error=False)

    def _launch(self, arguments: list[str], what: str) -> None:
        """Start the command as a process of its own, and say so if it fails."""
        from line_neurons.tui.app.processes import launch

        try:
            launched = launch(self._store, arguments)
        except LineError as error:
            self._failed(error)
            return
        self.notify(f"{what} …", markup=False)

        def look() -> None:
            if (status := launched.poll()) is None:
                return
            timer.stop()
            if status:
                self._awaited = None
            if is_failure(status):
                said = plain(launched.said()) or f"it ended with status {status}"
                self.notify(said, title=f"Failed: {what}", severity="error", timeout=30, markup=False)

        timer = self.set_interval(0.5, look)
