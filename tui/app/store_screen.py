"""Base of the screens that follow a store, start `line` commands and stop runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from textual.screen import Screen

from line_neurons.agent.errors import LineError
from line_neurons.tools.store.leases import request_stop_of
from line_neurons.tools.store.runs import RunStore
from line_neurons.tui.app import external
from line_neurons.tui.app.chrome import Banner
from line_neurons.tui.app.store_follower import follow
from line_neurons.tui.cli.exit_codes import is_failure
from line_neurons.tui.formatting import plain

T = TypeVar("T")

_POLL_SECONDS = 0.3
"""Poll interval of child processes, in seconds."""


class StoreScreen(Screen[None]):
    """Screen of a store; it has a ``Banner`` for the store's errors."""

    def __init__(self, store: Path) -> None:
        super().__init__()
        self._store = store

    def follow_store(self, read: Callable[[RunStore], T], show: Callable[[T], None]) -> None:
        """Show what ``read`` returns, now and after each change of the store."""
        follow(self, self._store, read, show, self.show_store_error)

    def show_store_error(self, error: LineError) -> None:
        """Show in the banner why the store cannot be read."""
        self.query_one(Banner).show_error(error)

    def warn(self, text: str) -> None:
        """Notify the user that an action is not possible."""
        self.notify(plain(text), severity="warning", markup=False)

    def notify_error(self, error: LineError | str, title: str = "") -> None:
        """Notify the user of an error."""
        self.notify(plain(str(error)), title=title, severity="error", timeout=15, markup=False)

    def copy_text(self, text: str, noun: str) -> None:
        """Copy a text to the clipboard of the terminal."""
        self.app.copy_to_clipboard(text)
        self.notify(plain(text), title=f"Copied {noun}", markup=False, timeout=4)

    def start_command(
        self, arguments: list[str], description: str, on_end: Callable[[int, str], None] | None = None
    ) -> external.ChildProcess | None:
        """Start ``line ARGUMENTS`` as a process that outlives the app; None if it cannot be started.

        Args:
            arguments: without ``line`` and ``--store``.
            description: what the command does, for the title of its error.
            on_end: called with the exit status and the error, empty if the command did not fail.
        """
        try:
            process = external.launch(self._store, arguments)
        except LineError as error:
            self.notify_error(error)
            return None

        def poll() -> None:
            if (status := process.poll()) is None:
                return
            timer.stop()
            error = ""
            if is_failure(status):
                error = plain(process.last_message()) or f"exit status {status}; see {process.log}"
                self.notify_error(error, title=f"Failed: {description}")
            if on_end:
                on_end(status, error)

        timer = self.set_interval(_POLL_SECONDS, poll)
        return process

    def request_stop(self, run: str) -> None:
        """Request the process that works on a run to stop after its current steps."""

        def write() -> None:
            try:
                requested = request_stop_of(self._store, run)
            except LineError as error:
                self.call_later(self.notify_error, error)
                return
            text = "the current steps are finished and saved" if requested else "the run is not active any more"
            self.call_later(self.notify, text, title="Stop requested" if requested else "Stop", markup=False)

        self.run_worker(write, thread=True, group="stop", exit_on_error=False)
