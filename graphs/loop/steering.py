"""A person's wishes reach a unit's search: the graph stops for them, and goes on from a state that grants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START
from langgraph.types import StateSnapshot, interrupt

from line_neurons.agent.concepts import find_duplicate
from line_neurons.agent.loop import BEGINNING, LAST, has_proposal, predecessor, rank
from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.agent.settings import Settings
from line_neurons.agent.steering import Search, steer
from line_neurons.graphs.loop.routing import better, effective_scores
from line_neurons.graphs.loop.state import Deps, LineState, Row, Taken, board_of, board_rows
from line_neurons.graphs.loop.step_log import log_step
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import (
    Place,
    SteeringCommand,
    commands,
    mark_applied,
    pending,
    place_of,
    requeue,
)

if TYPE_CHECKING:
    from line_neurons.graphs.loop.state import LineGraph

_NEVER: Place = (2**62, 0, 0)


def interrupt_if_pending(runs: RunStore, node: str, state: LineState) -> None:
    """Interrupt the graph before a node's work if something is asked of its unit; see ``apply_pending``."""
    if asked := pending(runs, state["run"], state["unit"], _place(node, state)):
        interrupt([wish.id for wish in asked])


def apply_pending(graph: LineGraph, deps: Deps, run: Run, unit: int, config: RunnableConfig) -> bool:
    """Let the search go on from a state in which what is asked of the unit is granted.

    The wishes count as taken with the checkpoint that grants them: a process that is killed between it and the row
    of a wish finds in the checkpoint that it was taken, and ``reconcile`` writes the row.

    Args:
        graph: the compiled loop with the run's checkpoints.
        deps: the graph's parts.
        run: the run.
        unit: index of the unit.
        config: LangGraph's name of the unit's checkpoints.

    Returns:
        whether anything was asked.

    Raises:
        TakenOverError: another process has taken over the run.
        StoreError: the store cannot be written.
    """
    runs, settings, snapshot = deps.runs, deps.settings, graph.get_state(config)
    state, node = cast("LineState", snapshot.values), next_node(snapshot)
    # What was taken at a later place than a search comes to now that it is done again is taken at its end.
    asked = pending(runs, run.id, unit, _place(node, state)) or (
        [] if node else pending(runs, run.id, unit, _NEVER)
    )
    if not asked:
        return False
    scored = _scored(runs, state)
    changes, withdrawn = apply_commands(state, node, asked, scored, settings)
    board = board_before_withdrawal(state, node, asked, scored, settings) if withdrawn else None
    if not node:
        # It tells of a label that gives way to what the search comes to now.
        runs.drop_steps(run.id, "revisit", unit)
    if withdrawn:
        at_its_end: LineState = {**state, "board": board} if board else state
        log_step(at_its_end, deps, "withdrawn", concept=state["concept"], detail={"reason": withdrawn})
    with runs.atomic(run.id):
        _record(runs, run.id, unit, changes["wishes"][-len(asked) :], asked)
        as_node = LAST if withdrawn else predecessor(node)
        graph.update_state(config, cast("dict[str, Any]", changes), as_node=as_node)
    return True


def reconcile(runs: RunStore, run: Run, unit: int, state: LineState) -> None:
    """Bring a unit's wishes into line with its search as it stands: the checkpoint tells which were taken."""
    taken = state.get("wishes", [])
    requeue(runs, run.id, unit, [int(one[0]) for one in taken])
    if taken:
        with runs.atomic(run.id):
            _record(runs, run.id, unit, taken, commands(runs, run.id, unit))


def next_node(snapshot: StateSnapshot) -> str:
    """The node that comes next; empty at the end of a search."""
    following = snapshot.next[0] if snapshot.next else ""
    return BEGINNING if following == START else following


def apply_commands(
    state: LineState, node: str, asked: Sequence[SteeringCommand], scored: Sequence[Entry], settings: Settings
) -> tuple[LineState, str]:
    """What wishes change in a state.

    Args:
        state: the state before the node's work.
        node: the node that comes next; empty at the end of a search.
        asked: the wishes, in order.
        scored: every concept that the unit was scored on before, in order.
        settings: the run's settings.

    Returns:
        The changes, and why the proposal in hand is given up; empty while it is not.
    """
    step, attempt = state.get("step", 0), state.get("attempt", 0)
    proposal = has_proposal(node) and state.get("outcome") in {"proposed", "drawn"}
    before = search = Search(
        board=board_of(state, settings.capacity) if "board" in state else Scoreboard((), settings.capacity),
        scored=tuple(scored),
        tried=tuple(state.get("tried", [])),
        pinned=tuple(state.get("pinned", [])),
        banned=tuple(state.get("banned", [])),
        typed=tuple(state.get("typed", [])),
        further=state.get("further", 0),
        ended=not node,
        proposal=state["concept"] if proposal else "",
        repeats=settings.duplicates != "refuse",
    )
    taken: list[Taken] = list(state.get("wishes", []))
    for wish in asked:
        search, outcome = steer(search, wish.kind, wish.concept)
        taken.append([wish.id, step, attempt, node, outcome])
    changes: LineState = {
        "tried": list(search.tried),
        "pinned": list(search.pinned),
        "banned": list(search.banned),
        "typed": list(search.typed),
        "further": search.further,
        "wishes": taken,
    }
    if search.board.entries:
        changes["board"] = board_rows(search.board)
        allowed = [entry for entry in search.scored if not find_duplicate(entry.concept, search.banned)]
        if search.banned != before.banned and allowed:
            changes["best"] = _best(effective_scores(allowed, settings.duplicates))
    if "step" not in state:
        changes["kind"] = "initial"
        return changes, ""
    asks = not node or rank(node) == 1 or search.withdrawn
    goes_on = (search.further if not node else search.typed and state["kind"] == "summary") and asks
    if goes_on:
        changes["kind"] = "iteration"
    if search.withdrawn:
        changes |= {"attempt": attempt + 1, "refused": [*state["refused"], search.withdrawn], "outcome": ""}
    return changes, search.withdrawn


def board_before_withdrawal(
    state: LineState, node: str, asked: Sequence[SteeringCommand], scored: Sequence[Entry], settings: Settings
) -> list[Row] | None:
    """The board when the proposal in hand was given up; None where it is the state's.

    What was asked before that at the same place may have changed it, whether it was taken at once or one by one.
    """
    for count in range(1, len(asked) + 1):
        if apply_commands(state, node, asked[:count], scored, settings)[1]:
            return apply_commands(state, node, asked[: count - 1], scored, settings)[0].get("board")
    return None


def _best(scored: Sequence[Entry]) -> Row:
    best: Row | None = None
    for entry in scored:
        best = better(best, entry.concept, entry.score)
    assert best is not None
    return best


def _place(node: str, state: LineState) -> Place:
    return place_of(state.get("step", 0), state.get("attempt", 0), node)


def _scored(runs: RunStore, state: LineState) -> list[Entry]:
    """What the unit was scored on before the place in hand; a killed process may have written down more."""
    if "step" not in state:
        return []
    here = (state["step"], state["attempt"])
    trials = runs.trials(state["run"], state["unit"])
    return [
        Entry(trial.concept, trial.score)
        for trial in trials
        if trial.concept and trial.score is not None and (trial.step, trial.attempt) < here
    ]


def _record(runs: RunStore, run: str, unit: int, taken: Sequence[Taken], asked: Sequence[SteeringCommand]) -> None:
    by_id = {wish.id: wish for wish in asked}
    for number, step, attempt, node, outcome in taken:
        place = {"step": int(step), "attempt": int(attempt), "node": str(node), "outcome": str(outcome)}
        if mark_applied(runs, run, int(number), **place):  # type: ignore[arg-type]
            wish = by_id[int(number)]
            runs.add_event(run, "steered", unit, wish=wish.kind, concept=wish.concept, by=wish.by, **place)
