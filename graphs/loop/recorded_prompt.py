"""The question that a step asked the language model, put together again from the store alone."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from line_neurons.agent.errors import DamagedError, UsageError
from line_neurons.agent.ports import Prompt
from line_neurons.agent.prompts import prompt_hash
from line_neurons.agent.settings import revised
from line_neurons.graphs.loop.question import question
from line_neurons.graphs.loop.reconstruct import KINDS, state_before
from line_neurons.tools.store.records import Step
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import commands, place_of


@dataclass(frozen=True)
class Asked:
    """A question.

    Args:
        prompt: the chat.
        matches: whether it is to the letter what was sent, by the hash that was recorded; None where an earlier
            version recorded none, and what the generator suggested then is not known.
        attempt: which of the step's questions it is, from 0.
    """

    prompt: Prompt
    matches: bool | None
    attempt: int


def prompt_of(store: Path | RunStore, run: str, unit: int, step: int, attempt: int | None = None) -> Asked:
    """What the language model was asked in a step.

    Args:
        store: the store's folder, or its runs.
        run: id of the run.
        unit: index of the unit.
        step: an iteration or summary that has ended, or at least a question of which was answered.
        attempt: which of the step's questions; None for the last.

    Raises:
        UsageError: there is no such step, or no model was asked in it.
        DamagedError: the history does not tell what came before.
    """
    if isinstance(store, Path):
        with closing(RunStore(store, read_only=True)) as opened:
            return prompt_of(opened, run, unit, step, attempt)
    runs = store
    recorded, history = runs.run(run), runs.steps(run, unit)
    entry = _entry(history, step, attempt)
    settings = revised(recorded.settings, {})
    try:
        before = place_of(entry.step, entry.attempt, "synthesize")
        state = state_before(settings, history, commands(runs, run, unit), before)
    except (ValueError, KeyError) as error:
        raise DamagedError(
            f"the history of unit {unit} of run {run} does not tell what came before step {step}: {error}",
            "put a backup of the store in its place",
        ) from error
    refused = state["refused"] if state["step"] == entry.step else []
    hints = [str(hint) for hint in (entry.detail or {}).get("hints", [])]
    prompt = question(state | {"kind": KINDS[entry.kind], "refused": refused}, settings, hints)
    matches = None if entry.prompt is None else prompt_hash(prompt) == entry.prompt
    return Asked(prompt, matches, entry.attempt)


def _entry(history: list[Step], step: int, attempt: int | None) -> Step:
    own = [entry for entry in history if entry.step == step]
    asked = [
        entry
        for entry in own
        if entry.kind in {"iteration", "summary"} and entry.origin != "typed" and entry.outcome != "stalled"
    ]
    found = [entry for entry in asked if attempt in {None, entry.attempt}]
    if found:
        return found[-1]
    known = sorted({entry.step for entry in history if entry.kind in {"iteration", "summary"}})
    if asked:
        raise UsageError(f"step {step} has no question {attempt}", f"it has {len(asked)}, from 0")
    if own:
        what = (
            "a person typed the concept in" if own[-1].origin == "typed" else f"it is of the kind {own[-1].kind}"
        )
        raise UsageError(f"step {step} asked no question: {what}", "name an iteration or a summary")
    raise UsageError(f"there is no step {step}", f"steps: {known[0]} to {known[-1]}" if known else "none yet")
