"""A unit's state at a place of its search, and the prompt of a step, from the recorded history alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from line_neurons.agent.errors import DamagedError, UsageError
from line_neurons.agent.loop import nodes_per_attempt
from line_neurons.agent.ports import Prompt
from line_neurons.agent.prompts import prompt_hash
from line_neurons.agent.scoreboard import Entry
from line_neurons.agent.settings import Settings, revised
from line_neurons.graphs.loop.prompting import step_prompt
from line_neurons.graphs.loop.routing import after_step, best_after, better
from line_neurons.graphs.loop.state import ConceptScore, LineState, StepKind
from line_neurons.graphs.loop.steering import apply_commands
from line_neurons.tools.store.records import Step
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import Place, SteeringCommand, commands, place_of

# What a node writes down comes after everything that people ask before the nodes of that attempt.
_AFTER_THE_NODES = nodes_per_attempt() + 1

KINDS: dict[str, StepKind] = {"initial": "initial", "iteration": "iteration", "summary": "summary"}
"""The kinds of a search's own steps."""


def state_before(
    settings: Settings, history: Sequence[Step], asked: Sequence[SteeringCommand], until: Place
) -> LineState:
    """What a unit's state was at a place, as far as what comes next depends on it.

    Args:
        settings: the run's settings.
        history: the unit's history, in order.
        asked: what was asked of the unit, in order.
        until: the place; what was written or taken there, or later, does not count.

    Raises:
        ValueError: no board had been filled yet.
    """
    state: LineState = {}
    scored: list[Entry] = []
    for place, one in sorted(_happened(history, asked), key=lambda pair: pair[0]):
        if place >= until:
            break
        if isinstance(one, Step):
            state |= _entered(state, one, settings)
            if one.concept and one.score is not None:
                scored.append(Entry(one.concept, one.score))
        else:
            # That a proposal was given up is an entry of the history.
            here: LineState = {"step": place[0], "attempt": place[1], "outcome": ""} if state else {}
            changes, _ = apply_commands(state | here, one.node or "", [one], scored, settings)
            state |= changes
    if "board" not in state:
        raise ValueError("no board had been filled")
    return state


def state_after(
    settings: Settings, history: Sequence[Step], asked: Sequence[SteeringCommand], step: int
) -> LineState:
    """What a unit's state was once a step had ended; see ``state_before``."""
    state = state_before(settings, history, asked, (step + 1, 0, 0))
    return state | after_step(state | {"step": step}, state["kind"], settings)


def _happened(
    history: Sequence[Step], asked: Sequence[SteeringCommand]
) -> Iterator[tuple[Place, Step | SteeringCommand]]:
    for wish in asked:
        if wish.applied and wish.place is not None:
            yield wish.place, wish
    for entry in history:
        if entry.kind in KINDS:
            yield (entry.step, entry.attempt, _AFTER_THE_NODES), entry


def _entered(state: LineState, entry: Step, settings: Settings) -> LineState:
    """What an entry of the history changed in the state."""
    fresh = entry.step != state.get("step")
    refused = [] if fresh else state.get("refused", [])
    changed: LineState = {"step": entry.step, "attempt": entry.attempt, "kind": KINDS[entry.kind]}
    if entry.concept and entry.outcome in {"scored", "not_drawable"}:
        changed["tried"] = [*state.get("tried", []), entry.concept]
        if entry.kind != "initial":
            changed["proposed"] = [*state.get("proposed", []), entry.concept]
    if entry.origin == "typed":
        changed["typed"] = [one for one in state.get("typed", []) if one != entry.concept]
    board: list[ConceptScore] = [[concept, score] for concept, score in entry.board]
    if entry.kind == "initial":
        changed |= {"board": board, "best": better(state.get("best"), *_top(board))}
        if "board" not in state:
            changed |= {"restart": 0, "found": []}
        elif fresh:
            found = [*state["found"], _top(state["board"])[0]]
            changed |= {"restart": state["restart"] + 1, "found": found, "pinned": []}
        changed |= {"begin": entry.step, "gained": entry.step}
    elif entry.outcome == "scored" and entry.concept and entry.score is not None:
        best = best_after(state["best"], entry.concept, entry.score, Entry(*_top(board)), settings)
        changed |= {"board": board, "best": best}
        if entry.score > _top(state["board"])[1]:
            changed["gained"] = entry.step
    elif reason := (entry.detail or {}).get("reason"):
        refused = [*refused, str(reason)]
    return changed | {"refused": refused}


def _top(board: Sequence[ConceptScore]) -> tuple[str, float]:
    return str(board[0][0]), float(board[0][1])


@dataclass(frozen=True)
class RecordedPrompt:
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


def recorded_prompt(
    store: Path | RunStore, run: str, unit: int, step: int, attempt: int | None = None
) -> RecordedPrompt:
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
            return recorded_prompt(opened, run, unit, step, attempt)
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
    prompt = step_prompt(state | {"kind": KINDS[entry.kind], "refused": refused}, settings, hints)
    matches = None if entry.prompt is None else prompt_hash(prompt) == entry.prompt
    return RecordedPrompt(prompt, matches, entry.attempt)


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
