"""What became of steering commands: a suggested concept has its outcome once it was tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.text import short_score
from line_neurons.tools.store.records import Step
from line_neurons.tools.store.refused_replies import reason_of_refusal
from line_neurons.tools.store.steering_queue import CommandState, SteeringCommand


@dataclass(frozen=True)
class CommandOutcome:
    """A steering command with what became of it.

    Args:
        state: see ``CommandState``; of a suggested concept what trying it came to.
        text: what it did, or why not; empty while it is waiting.
    """

    command: SteeringCommand
    state: CommandState
    text: str

    def __str__(self) -> str:
        """Return state and text as one phrase."""
        return f"{self.state}: {self.text}" if self.text else self.state


def outcomes(commands: Sequence[SteeringCommand], history: Iterable[Step]) -> list[CommandOutcome]:
    """Return what became of a unit's commands, in order.

    That of a suggested concept is its entry in the history, which a fork, a restart and a bundle have too: nothing
    else can disagree with it.
    """
    entries = [step for step in history if step.kind != "revisit"]
    typed = [step for step in entries if step.origin == "typed" and step.concept]
    found = []
    for place, command in enumerate(commands):
        if command.kind == "try" and command.applied:
            step = next((step for step in typed if _answers(step, command)), None)
            if step is not None:
                # The same concept may be suggested again.
                typed.remove(step)
            found.append(_tried(command, step, commands[place + 1 :]))
        elif command.state == "outdated" and any(step.step >= (command.step or 0) for step in entries):
            found.append(CommandOutcome(command, "applied", "the search had ended, and continued"))
        else:
            text = command.outcome.removeprefix(command.state).removeprefix(":").strip()
            found.append(CommandOutcome(command, command.state, text))
    return found


def _answers(step: Step, command: SteeringCommand) -> bool:
    place = (command.step or 0, command.attempt or 0)
    return concept_key(step.concept or "") == concept_key(command.concept) and (step.step, step.attempt) >= place


def _tried(command: SteeringCommand, step: Step | None, later: Sequence[SteeringCommand]) -> CommandOutcome:
    if step is None:
        if any(_bans(other, command) for other in later):
            return CommandOutcome(command, "refused", "it was banned before it was tried")
        return CommandOutcome(command, "applied", command.outcome)
    if step.outcome == "scored" and step.score is not None:
        entered = "" if step.removed != step.concept else ", too low for the board"
        return CommandOutcome(command, "applied", f"scored {short_score(step.score)} at step {step.step}{entered}")
    if step.outcome == "withdrawn":
        return CommandOutcome(command, "withdrawn", f"its proposal was discarded at step {step.step}")
    return CommandOutcome(command, "refused", reason_of_refusal(step) or step.outcome)


def _bans(other: SteeringCommand, command: SteeringCommand) -> bool:
    return other.applied and other.kind == "ban" and concept_key(other.concept) == concept_key(command.concept)
