"""Steering of a unit from its screen: send commands, undo and withdraw them, and show what became of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import Static
from textual.worker import get_current_worker

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import LineError
from line_neurons.agent.steering import SteeringKind
from line_neurons.tools.steering.outcomes import CommandOutcome
from line_neurons.tools.store.steering_queue import CommandState, SteeringCommand
from line_neurons.tui.app import external
from line_neurons.tui.app.store_screen import StoreScreen
from line_neurons.tui.app.unit.dialogs import ConceptDialog, ConfirmBanDialog, WithdrawDialog
from line_neurons.tui.formatting import plain
from line_neurons.tui.guidance_text import next_candidates
from line_neurons.tui.unit_view import COMMAND_VERBS, UnitView, pinned_and_banned

MAX_COMMANDS = 3
"""The number of steering commands that are shown."""

_SIGNS: dict[CommandState, str] = {
    "waiting": "…",
    "applied": "✓",
    "refused": "✗",
    "outdated": "◷",
    "withdrawn": "↶",
}
_OPPOSITES: dict[SteeringKind, SteeringKind] = {"pin": "unpin", "unpin": "pin", "ban": "unban", "unban": "ban"}
_POLL_SECONDS = 0.2


class SteeringView(Static):
    """The last steering commands with what became of them."""

    DEFAULT_CSS = """
    SteeringView { height: auto; max-height: 5; padding: 0 1; display: none; border-top: solid $panel; }
    SteeringView.some { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show(self, view: UnitView) -> None:
        """Show the last commands of a unit."""
        self.set_class(bool(view.commands), "some")
        self.update(commands_text(view))


def command_text(kind: str, concept: str) -> str:
    """Describe a steering command."""
    verb = COMMAND_VERBS.get(kind, plain(kind))
    return f"{verb} “{plain(concept)}”" if concept else verb


def when_applied(view: UnitView) -> str:
    """Tell when a pending command is applied, and the key to press for it."""
    if view.state == "failed":
        return "pending until the unit is retried (t)"
    return "applied before the next node" if view.is_active else "pending until the run is resumed (r)"


def commands_text(view: UnitView) -> Text:
    """Describe the last commands of a unit, a line each, the newest first."""
    text, undone = Text(), undone_next(view)
    for row in reversed(view.outcomes[-MAX_COMMANDS:]):
        waits = row.state == "waiting"
        text.append(("\n" if text else "") + _line(row, view), "bold" if waits else "")
        if row.command == undone:
            text.append(" · u: undo", "dim")
    return text


def _line(row: CommandOutcome, view: UnitView) -> str:
    named = command_text(row.command.kind, row.command.concept)
    if row.state == "waiting":
        said = when_applied(view)
    elif row.state == "applied":
        said = row.text or "applied"
    else:
        said = str(row)
    return f"{_SIGNS[row.state]} {named}: {plain(said)}"


def waiting_commands(view: UnitView) -> list[SteeringCommand]:
    """Return the commands that can be withdrawn, the newest first."""
    return [command for command in reversed(view.commands) if command.state == "waiting"]


def undone_next(view: UnitView) -> SteeringCommand | None:
    """Return the command that is undone next: the last one that is waiting, else the last one that was applied.

    A suggested concept and a discarded proposal cannot be undone once they were applied: None.
    """
    if waiting := waiting_commands(view):
        return waiting[0]
    last = next((command for command in reversed(view.commands) if command.applied), None)
    return last if last is not None and last.kind in _OPPOSITES else None


class SteeringScreen(StoreScreen):
    """Screen of a unit that can be steered."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("N", "try_best", "Try next", show=False, tooltip="Try the next five candidates, best first."),
    ]

    def __init__(self, store: Path, run: str, unit: int) -> None:
        super().__init__(store)
        self._run = run
        self._unit = unit
        self._view: UnitView | None = None

    def steer_concept(self, kind: SteeringKind, concept: str) -> None:
        """Pin or ban a concept, or undo that where it is pinned or banned; ``again`` takes no concept."""
        if self._view is None:
            return
        if kind != "again" and not concept:
            self.warn("select a concept that was scored")
            return
        key, (pinned, banned) = concept_key(concept), pinned_and_banned(self._view.commands)
        same = [
            row for row in waiting_commands(self._view) if row.kind == kind and concept_key(row.concept) == key
        ]
        if concept and same:
            self._withdraw(same[0])
        elif (kind == "pin" and key in pinned) or (kind == "ban" and key in banned):
            self._send(_OPPOSITES[kind], concept)
        else:
            self._send(kind, concept)

    def can_undo(self) -> bool:
        """Whether there is a command to undo."""
        return self._view is not None and undone_next(self._view) is not None

    def action_undo(self) -> None:
        """Withdraw the last command if it is waiting, else send the one that undoes it."""
        command = undone_next(self._view) if self._view else None
        if command is None:
            return
        if command.state == "waiting":
            self._withdraw(command)
        else:
            self._send(_OPPOSITES[command.kind], command.concept)

    def action_withdraw(self) -> None:
        """Choose a waiting command and withdraw it."""
        waiting = waiting_commands(self._view) if self._view else []
        if not waiting:
            self.warn("no command is waiting")
            return
        named = [command_text(command.kind, command.concept) for command in waiting]
        self.app.push_screen(
            WithdrawDialog(named), lambda index: None if index is None else self._withdraw(waiting[index])
        )

    def action_suggest(self) -> None:
        """Type a concept to be the next proposal, or to be banned."""
        if self._view is None:
            return
        tried = [step.concept for step in self._view.steps if step.concept and step.outcome == "scored"]
        dialog = ConceptDialog(
            f"unit {self._unit}",
            tried if self._view.run.settings.get("duplicates", "refuse") == "refuse" else [],
            sorted(pinned_and_banned(self._view.commands)[1]),
        )
        self.app.push_screen(dialog, self._typed)

    def action_try_best(self) -> None:
        """Send the most promising candidates that the last step recorded, best first."""
        if self._view is None:
            return
        if found := next_candidates(self._view.steps, self._view.commands):
            self._send("try", *found)
        else:
            self.warn("the response model has no candidates that nobody tried")

    def _typed(self, sent: tuple[SteeringKind, str] | None) -> None:
        if sent is None or self._view is None:
            return
        kind, concept = sent
        known = {concept_key(step.concept) for step in self._view.steps if step.concept}
        if kind == "ban" and concept_key(concept) not in known:
            self._check_ban(concept)
        else:
            self._send(kind, concept)

    def _check_ban(self, concept: str) -> None:
        """Ban a concept that is not in the history by the command, which knows what the generator can draw."""
        self.notify(f"looking up “{plain(concept)}” …", markup=False)

        def run() -> None:
            worker = get_current_worker()
            try:
                process = external.launch(self._store, ["steer", self._run, str(self._unit), f"--ban={concept}"])
            except LineError as error:
                self.call_later(self.notify_error, error)
                return
            while (status := process.poll()) is None and not worker.is_cancelled:
                time.sleep(_POLL_SECONDS)
            if status == 0:
                self.call_later(self._sent, "ban", concept)
            elif status is not None:
                self.call_later(self._confirm_ban, concept, process.last_message())

        self.run_worker(run, thread=True, group="steering", exit_on_error=False)

    def _confirm_ban(self, concept: str, doubt: str) -> None:
        if "--yes" in doubt:
            reason = doubt.rpartition(" (")[0]
            self.app.push_screen(
                ConfirmBanDialog(concept, reason), lambda sure: self._send("ban", concept) if sure else None
            )
        else:
            self.notify_error(doubt)

    def _send(self, kind: SteeringKind, *concepts: str) -> None:
        """Write a steering command for each concept into the store, all or none, in a worker thread."""

        def write() -> None:
            from line_neurons.tools.store.steering_queue import submit

            try:
                submit(self._store, self._run, self._unit, kind, *concepts)
            except LineError as error:
                self.call_later(self.notify_error, error)
            else:
                self.call_later(self._sent, kind, *concepts)

        self.run_worker(write, thread=True, group="steering", exit_on_error=False)

    def _sent(self, kind: SteeringKind, *concepts: str) -> None:
        if self._view is not None:
            said = f"{when_applied(self._view)} — press u to undo"
            title = ", ".join(command_text(kind, concept) for concept in concepts)
            self.notify(said, title=title, markup=False)

    def _withdraw(self, command: SteeringCommand) -> None:
        """Withdraw a waiting command, in a worker thread."""

        def write() -> None:
            from line_neurons.tools.store.steering_queue import withdraw_from

            try:
                withdraw_from(self._store, self._run, self._unit, command.id)
            except LineError as error:
                self.call_later(self.notify_error, error)
            else:
                said = command_text(command.kind, command.concept)
                self.call_later(self.notify, said, title="Withdrawn", markup=False)

        self.run_worker(write, thread=True, group="steering", exit_on_error=False)
