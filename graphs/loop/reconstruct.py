"""A unit's state as it was at a place of its search, put together from the recorded history alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from line_neurons.agent.loop import nodes_per_attempt
from line_neurons.agent.scoreboard import Entry
from line_neurons.agent.settings import Settings
from line_neurons.graphs.loop.routing import after_step, best_after, better
from line_neurons.graphs.loop.state import Kind, LineState, Row
from line_neurons.graphs.loop.steering import grant
from line_neurons.tools.store.records import Step
from line_neurons.tools.store.steering_queue import Place, SteeringCommand

# What a node writes down comes after everything that people ask before the nodes of that attempt.
_AFTER_THE_NODES = nodes_per_attempt() + 1

KINDS: dict[str, Kind] = {"initial": "initial", "iteration": "iteration", "summary": "summary"}
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
            changes, _ = grant(state | here, one.node or "", [one], scored, settings)
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
    board: list[Row] = [[concept, score] for concept, score in entry.board]
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


def _top(board: Sequence[Row]) -> tuple[str, float]:
    return str(board[0][0]), float(board[0][1])
