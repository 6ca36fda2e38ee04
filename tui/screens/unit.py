"""One unit of a run, live."""

from __future__ import annotations

from pathlib import Path

from textual.app import ComposeResult
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from line_neurons.agent.errors import LineError
from line_neurons.tools.live import Doing, doings
from line_neurons.tools.run_store import RunStore, Step, Unit
from line_neurons.tui.following import follow
from line_neurons.tui.terminal import plain
from line_neurons.tui.widgets.top_bar import TopBar

Seen = tuple[Unit, list[Step], Doing | None]


class UnitScreen(Screen[None]):
    """A unit's search as it goes on.

    Args:
        store: the store's folder.
        run: id of the run.
        unit: index of the unit.
    """

    def __init__(self, store: Path, run: str, unit: int) -> None:
        super().__init__()
        self._store = store
        self._run = run
        self._unit = unit

    def compose(self) -> ComposeResult:
        """What is known, between header and footer."""
        yield TopBar()
        yield Static()
        yield Footer()

    def on_mount(self) -> None:
        """Follow the unit."""
        follow(self, self._store, self._read, self._show, self._failed)

    def _read(self, runs: RunStore) -> Seen:
        unit = next(unit for unit in runs.units(self._run) if unit.unit == self._unit)
        doing = [one for one in doings(runs).get(self._run, []) if one.unit == self._unit]
        return unit, runs.steps(self._run, self._unit), doing[0] if doing else None

    def _show(self, seen: Seen) -> None:
        unit, steps, doing = seen
        text = f"{unit.status} {plain(unit.label)} {len(steps)} steps {doing.node if doing else ''}"
        self.query_one(Static).update(Content(text))

    def _failed(self, error: LineError) -> None:
        self.notify(plain(str(error)), severity="error", markup=False)
