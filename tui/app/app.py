"""Terminal app: watch, steer and resume runs. It reads the store; runners apply its steering commands."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from line_neurons.agent.errors import UsageError
from line_neurons.graphs.runs.loading import loading_runs
from line_neurons.tui.app import themes
from line_neurons.tui.app.help import GENERAL_ACTIONS, HelpScreen
from line_neurons.tui.app.runs.screen import RunsScreen
from line_neurons.tui.app.units.screen import UnitsScreen
from line_neurons.tui.formatting import plain


class LineApp(App[None]):
    """App on a store, which may not hold a run yet; opens on ``run`` if it is given."""

    TITLE = "LINE"
    BINDING_GROUP_TITLE = "Everywhere"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "keys", "Help"),
        Binding("d", "dark", "Dark or light theme", show=False),
        Binding("ctrl+s", "save_image", "Save a screenshot", show=False),
        Binding("q", "quit", "Quit", tooltip="Active runs continue."),
    ]

    def __init__(self, store: Path, run: str | None = None) -> None:
        super().__init__()
        self.store = store
        self._run = run
        for theme in themes.THEMES.values():
            self.register_theme(theme)
        saved = themes.saved_theme()
        self.theme = saved if saved in self.available_themes else themes.DARK.name
        self.sub_title = short_path(store)

    def on_mount(self) -> None:
        """Open the runs and, if one is given, that run."""
        self.theme_changed_signal.subscribe(self, lambda theme: themes.save_theme(theme.name))
        awaited = self._run in {run.planned.run for run in loading_runs(self.store)}
        self.push_screen(RunsScreen(self.store, self._run or "" if awaited else ""))
        if self._run is not None and not awaited:
            self.push_screen(UnitsScreen(self.store, self._run))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """List the commands of the palette: the key bindings of the current screen, and the themes."""
        actions = set()
        for node, binding, enabled, tooltip in screen.active_bindings.values():
            ours = (
                (node is screen or node is self) and not binding.system and binding.action not in GENERAL_ACTIONS
            )
            if ours and enabled and binding.description and binding.action not in actions:
                actions.add(binding.action)
                key = self.get_key_display(binding)
                yield SystemCommand(
                    binding.description,
                    f"{tooltip or binding.description} (key {key})",
                    lambda node=node, action=binding.action: self.call_later(self.run_action, action, node),
                )
        yield SystemCommand("Theme", "Choose among all themes", self.action_change_theme)

    def action_keys(self) -> None:
        """Show the keys of the screen."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_dark(self) -> None:
        """Toggle between the dark and the light theme."""
        self.theme = themes.LIGHT.name if self.current_theme.dark else themes.DARK.name

    def action_save_image(self) -> None:
        """Save a screenshot in the working folder, or else in the home folder."""
        name = f"line-{datetime.now().astimezone():%Y%m%d-%H%M%S-%f}.svg"
        image = self.export_screenshot(title=self.title)
        for folder in (Path.cwd(), Path.home()):
            try:
                (folder / name).write_text(image, "utf-8")
            except OSError as error:
                reason = error.strerror
                continue
            self.notify(plain(str(folder / name)), title="Screenshot saved", markup=False)
            return
        self.notify(
            plain(f"the screenshot could not be saved in {folder}: {reason}"),
            severity="error",
            markup=False,
            timeout=10,
        )


def short_path(folder: Path) -> str:
    """Shorten a path to 40 characters."""
    shown = plain(str(folder))
    home = str(Path.home())
    if shown.startswith(home + os.sep):
        shown = f"~{shown.removeprefix(home)}"
    return shown if len(shown) <= 40 else f"…{shown[-39:]}"


def _named_run(store: Path, name: str) -> str:
    """Return the run of a name or its beginning; one that loads for the first time has its whole name.

    Raises:
        UsageError: there is no such run.
        StoreError: the store cannot be read.
    """
    from line_neurons.tools.store.runs import open_store

    if name in {run.planned.run for run in loading_runs(store)}:
        return name
    with closing(open_store(store)) as runs:
        return runs.run(name).id


def open_app(store: Path, run: str | None = None) -> None:
    """Run the app in this terminal until the user quits.

    Args:
        store: the store's folder; it may not hold a run yet.
        run: a run to open, or the beginning of its name.

    Raises:
        UsageError: this is no terminal, or there is no such run.
        StoreError: the store cannot be read.
    """
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise UsageError(
            "the terminal app needs a terminal, and this is a pipe or a file",
            "see `line runs` and `line show RUN`, each also with --json",
        )
    if run is not None:
        run = _named_run(store, run)
    # Imported modules are never garbage; collections, which pause the app, skip them.
    gc.freeze()
    LineApp(store, run).run()
