"""Reconstruct a unit's state, and the prompt of a step, from the recorded history alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

# Entries of an attempt come after all commands that were applied before its nodes.
_AFTER_THE_NODES = nodes_per_attempt() + 1

KINDS: dict[str, StepKind] = {"initial": "initial", "iteration": "iteration", "summary": "summary"}
"""The kinds of a search's own steps."""


def state_before(
    settings: Settings, history: Sequence[Step], commands: Sequence[SteeringCommand], until: Place
) -> LineState:
    """Reconstruct a unit's state at a place of its search, as far as later steps depend on it.

    Entries and commands at the place ``until``, or later, do not count.

    Raises:
        ValueError: no board had been filled yet.
    """
    state: LineState = {}
    scored: list[Entry] = []
    for place, event in sorted(_events(history, commands), key=lambda pair: pair[0]):
        if place >= until:
            break
        if isinstance(event, Step):
            state |= _changes_of(state, event, settings)
            if event.concept and event.score is not None:
                scored.append(Entry(event.concept, event.score))
        else:
            # A withdrawn proposal has an entry of its own in the history.
            here: LineState = {"step": place[0], "attempt": place[1], "outcome": ""} if state else {}
            changes, _ = apply_commands(state | here, event.node or "", [event], scored, settings)
            state |= changes
    if "board" not in state:
        raise ValueError("no board had been filled")
    return state


def state_after(
    settings: Settings, history: Sequence[Step], commands: Sequence[SteeringCommand], step: int
) -> LineState:
    """Reconstruct a unit's state at the end of a step; see ``state_before``."""
    state = state_before(settings, history, commands, (step + 1, 0, 0))
    return state | after_step(state | {"step": step}, state["kind"], settings)


def _events(
    history: Sequence[Step], commands: Sequence[SteeringCommand]
) -> Iterator[tuple[Place, Step | SteeringCommand]]:
    for command in commands:
        if command.applied and command.place is not None:
            yield command.place, command
    for entry in history:
        if entry.kind in KINDS:
            yield (entry.step, entry.attempt, _AFTER_THE_NODES), entry


def _changes_of(state: LineState, entry: Step, settings: Settings) -> LineState:
    """Return what an entry of the history changed in the state before it."""
    fresh = entry.step != state.get("step")
    detail = entry.detail or {}
    refused = _first_refusals(state, entry) if fresh else state.get("refused", [])
    held = _held(entry)
    changed: LineState = {"step": entry.step, "attempt": entry.attempt, "kind": KINDS[entry.kind]}
    if entry.concept and entry.outcome in {"scored", "not_drawable"}:
        changed["tried"] = [*state.get("tried", []), entry.concept]
        if entry.kind != "initial":
            changed["proposed"] = [*state.get("proposed", []), entry.concept]
    if entry.origin == "typed":
        changed["typed"] = [concept for concept in state.get("typed", []) if concept != entry.concept]
    board: list[ConceptScore] = [[concept, score] for concept, score in entry.board]
    if entry.kind == "initial":
        changed |= {"board": board, "best": better(state.get("best"), *_top(board))}
        if "board" not in state:
            changed |= {"restart": 0, "found": []}
        elif fresh:
            found = [*state["found"], _top(state["board"])[0]]
            changed |= {"restart": state["restart"] + 1, "found": found, "pinned": []}
            if "waiting" in state:
                changed |= {"waiting": [], "left": 0}
        changed |= {"begin": entry.step, "gained": entry.step}
        if fresh and "facet" in detail:
            changed |= _of_facet(state, [str(source) for source in detail["facet"]])
    elif entry.outcome == "scored" and entry.concept and entry.score is not None:
        best = best_after(state["best"], entry.concept, entry.score, Entry(*_top(board)), settings)
        changed |= {"board": board, "best": best}
        if entry.score > _top(state["board"])[1] and not held:
            changed["gained"] = entry.step
    elif reason := detail.get("reason"):
        refused = [*refused, str(reason)]
    if held or "held" in state:
        changed["held"] = held
    return changed | _recorded_beside(detail) | {"refused": refused}


def _of_facet(state: LineState, sources: list[str]) -> LineState:
    """Return what a search for the facet of some sources changed."""
    requested = state.get("facets", [])
    own = next((place for place, source in enumerate(requested, 1) if source in sources), len(requested))
    searched = [*state.get("searched", []), sources[0]]
    return {"facet": sources, "facets": requested[own:], "searched": searched}


def _recorded_beside(detail: Mapping[str, Any]) -> LineState:
    """Return what a step recorded of the concepts that wait, and of what is expected of them."""
    changed: LineState = {}
    proposals = detail.get("proposals", {})
    if "waiting" in proposals:
        changed["waiting"] = [[concept, step] for concept, _, step in proposals["waiting"]]
        changed["left"] = proposals["left"]
    if "expected" in detail:
        changed["expected"] = float(detail["expected"])
    return changed


def _held(entry: Step) -> list[str]:
    """Return what the next request says of a concept that a restart kept off its board."""
    detail = entry.detail or {}
    kept_off = entry.kind != "initial" and entry.outcome == "scored" and "found" in detail
    return [str(detail["reason"])] if kept_off else []


def _first_refusals(state: LineState, entry: Step) -> list[str]:
    """Return what the first request of a step says was refused."""
    return [] if entry.kind == "initial" else state.get("held", [])


def _top(board: Sequence[ConceptScore]) -> tuple[str, float]:
    return str(board[0][0]), float(board[0][1])


@dataclass(frozen=True)
class RecordedPrompt:
    """The prompt of a step.

    Args:
        matches: whether it is the prompt that was sent, by the recorded hash; None where an earlier version
            recorded none, and the generator's hints of then are unknown.
        attempt: index of the request within the step, from 0.
    """

    prompt: Prompt
    matches: bool | None
    attempt: int


def recorded_prompt(
    store: Path | RunStore, run: str, unit: int, step: int, attempt: int | None = None
) -> RecordedPrompt:
    """Rebuild the prompt of a step from the store.

    Args:
        step: a step with at least one recorded reply.
        attempt: index of the request within the step; None for the last.

    Raises:
        UsageError: there is no such step, or it sent no prompt.
        DamagedError: the history does not tell what came before.
    """
    if isinstance(store, Path):
        with closing(RunStore(store, read_only=True)) as opened:
            return recorded_prompt(opened, run, unit, step, attempt)
    history = store.steps(run, unit)
    entry = _prompted_entry(history, step, attempt)
    settings = revised(store.run(run).settings, {})
    try:
        before = place_of(entry.step, entry.attempt, "synthesize")
        state = state_before(settings, history, commands(store, run, unit), before)
    except (ValueError, KeyError) as error:
        raise DamagedError(
            f"the history of unit {unit} of run {run} does not tell what came before step {step}: {error}",
            "put a backup of the store in its place",
        ) from error
    refused = state["refused"] if state["step"] == entry.step else _first_refusals(state, entry)
    hints = [str(hint) for hint in (entry.detail or {}).get("hints", [])]
    prompt = step_prompt(state | {"kind": KINDS[entry.kind], "refused": refused}, settings, hints)
    matches = None if entry.prompt is None else prompt_hash(prompt) == entry.prompt
    return RecordedPrompt(prompt, matches, entry.attempt)


def _prompted_entry(history: list[Step], step: int, attempt: int | None) -> Step:
    own = [entry for entry in history if entry.step == step]
    prompted = [
        entry
        for entry in own
        if entry.kind in {"iteration", "summary"}
        and entry.origin != "typed"
        and entry.outcome != "stalled"
        # One of several proposals of a request, which another entry records.
        and not (entry.seed is None and "proposals" in (entry.detail or {}))
    ]
    chosen = [entry for entry in prompted if attempt in {None, entry.attempt}]
    if chosen:
        return chosen[-1]
    steps = sorted({entry.step for entry in history if entry.kind in {"iteration", "summary"}})
    if prompted:
        raise UsageError(f"step {step} has no request {attempt}", f"it has {len(prompted)}, from 0")
    if own:
        named = (own[-1].detail or {}).get("proposals", {}).get("step")
        what = "the user typed the concept in" if own[-1].origin == "typed" else f"its kind is {own[-1].kind}"
        if named is not None:
            what = f"the request of step {named} named the concept"
        raise UsageError(f"step {step} sent no prompt: {what}", "name an iteration or a summary")
    raise UsageError(f"there is no step {step}", f"steps: {steps[0]} to {steps[-1]}" if steps else "none yet")
