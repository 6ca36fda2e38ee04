"""Steering of a running search: pending commands interrupt the graph and change the state it continues from."""

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
from line_neurons.graphs.loop.routing import better, effective_scores, next_search
from line_neurons.graphs.loop.state import (
    AppliedCommand,
    ConceptScore,
    Deps,
    LineState,
    after_refusal,
    board_of,
    board_rows,
)
from line_neurons.graphs.loop.step_log import log_step, scored_before
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

_ANYWHERE: Place = (2**62, 0, 0)


def interrupt_if_pending(runs: RunStore, node: str, state: LineState) -> None:
    """Interrupt the graph before a node if commands are pending for the unit; see ``apply_pending``."""
    if due := pending(runs, state["run"], state["unit"], _place(node, state)):
        interrupt([command.id for command in due])


def apply_pending(graph: LineGraph, deps: Deps, run: Run, unit: int, config: RunnableConfig) -> bool:
    """Apply the commands that are pending for a unit to its state, from which the search continues.

    A command counts as applied with the checkpoint of that state. After a kill between the checkpoint and the
    command's row, ``reconcile`` writes the row.

    ``config`` is LangGraph's name of the unit's checkpoints. Returns whether the graph continues: a command was
    applied, or those that interrupted it were withdrawn.

    Raises:
        TakenOverError: another process has taken over the run.
        StoreError: the store cannot be written.
    """
    runs, settings, snapshot = deps.runs, deps.settings, graph.get_state(config)
    state, node = cast("LineState", snapshot.values), next_node(snapshot)
    while due := _due(runs, state, node):
        scored = scored_before(runs, state)
        changes, withdrawn = apply_commands(state, node, due, scored, settings)
        if not node and changes.get("kind") == "initial":
            # A restart of the settings that filled no board counts as made.
            before_it: LineState = {"restart": max(state.get("restart", 0), settings.restarts)}
            following = next_search(state | changes | before_it, settings)
            changes |= {**following, "attempt": 0, "refused": [], "outcome": ""}
        if not node:
            # The entry of a revisit is about a label that the search may now replace.
            runs.drop_steps(run.id, "revisit", unit)
        if withdrawn:
            board = board_before_withdrawal(state, node, due, scored, settings)
            before: LineState = {**state, "board": board} if board else state
            log_step(before, deps, "withdrawn", concept=state["concept"], detail={"reason": withdrawn})
        with runs.atomic(run.id):
            if _due(runs, state, node)[: len(due)] != due:
                # A user withdrew one of them meanwhile.
                continue
            _record(runs, run.id, unit, changes["wishes"][-len(due) :], due)
            as_node = LAST if withdrawn else predecessor(node)
            graph.update_state(config, cast("dict[str, Any]", changes), as_node=as_node)
        return True
    # Those that interrupted the graph were withdrawn: it continues.
    return bool(node)


def _due(runs: RunStore, state: LineState, node: str) -> list[SteeringCommand]:
    """Return the commands that are pending before a node; an empty node is the end of the search."""
    due = pending(runs, state["run"], state["unit"], _place(node, state))
    # After a rerun, commands recorded past the point that the search now reaches are applied at its end.
    return due or ([] if node else pending(runs, state["run"], state["unit"], _ANYWHERE))


def reconcile(runs: RunStore, run: Run, unit: int, state: LineState) -> None:
    """Bring the rows of a unit's commands into line with its checkpoint, which tells which were applied."""
    applied = state.get("wishes", [])
    requeue(runs, run.id, unit, [int(command[0]) for command in applied])
    if applied:
        with runs.atomic(run.id):
            _record(runs, run.id, unit, applied, commands(runs, run.id, unit))


def next_node(snapshot: StateSnapshot) -> str:
    """Return the node that comes next; empty at the end of a search."""
    following = snapshot.next[0] if snapshot.next else ""
    return BEGINNING if following == START else following


def apply_commands(
    state: LineState, node: str, due: Sequence[SteeringCommand], scored: Sequence[Entry], settings: Settings
) -> tuple[LineState, str]:
    """Compute what steering commands change in a state.

    Args:
        node: the node that comes next; empty at the end of a search.
        due: the commands, in order.
        scored: every concept that the unit was scored on before, in order.

    Returns:
        The changes, and why the current proposal is withdrawn; empty while it is not.
    """
    step, attempt = state.get("step", 0), state.get("attempt", 0)
    proposed = has_proposal(node) and state.get("outcome") in {"proposed", "drawn"}
    before = search = Search(
        board=board_of(state, settings.capacity) if "board" in state else Scoreboard((), settings.capacity),
        scored=tuple(scored),
        tried=tuple(state.get("tried", [])),
        pinned=tuple(state.get("pinned", [])),
        banned=tuple(state.get("banned", [])),
        typed=tuple(state.get("typed", [])),
        further=state.get("further", 0),
        facets=tuple(state.get("facets", [])),
        ended=not node,
        proposal=state["concept"] if proposed else "",
        repeats=settings.duplicates != "refuse",
    )
    applied: list[AppliedCommand] = list(state.get("wishes", []))
    for command in due:
        search, outcome = steer(search, command.kind, command.concept)
        applied.append([command.id, step, attempt, node, outcome])
    changes: LineState = {
        "tried": list(search.tried),
        "pinned": list(search.pinned),
        "banned": list(search.banned),
        "typed": list(search.typed),
        "further": search.further,
        "wishes": applied,
    }
    if search.facets:
        changes["facets"] = list(search.facets)
    if search.board.entries:
        changes["board"] = board_rows(search.board)
        allowed = [entry for entry in search.scored if not find_duplicate(entry.concept, search.banned)]
        if search.banned != before.banned and allowed:
            changes["best"] = _best(effective_scores(allowed, settings.duplicates))
    if "step" not in state:
        changes["kind"] = "initial"
        return changes, ""
    prompts_next = not node or rank(node) == 1 or search.withdrawn
    if prompts_next and (search.further if not node else search.typed and state["kind"] == "summary"):
        changes["kind"] = "iteration"
    elif not node and search.facets:
        changes["kind"] = "initial"
    if search.withdrawn:
        changes |= {**after_refusal(state, search.withdrawn), "outcome": ""}
    return changes, search.withdrawn


def board_before_withdrawal(
    state: LineState, node: str, due: Sequence[SteeringCommand], scored: Sequence[Entry], settings: Settings
) -> list[ConceptScore] | None:
    """Return the board when the current proposal was withdrawn; None where it is the state's.

    Commands applied before that at the same place may have changed it, whether all at once or one by one.
    """
    for count in range(1, len(due) + 1):
        if apply_commands(state, node, due[:count], scored, settings)[1]:
            return apply_commands(state, node, due[: count - 1], scored, settings)[0].get("board")
    return None


def _best(scored: Sequence[Entry]) -> ConceptScore:
    best: ConceptScore | None = None
    for entry in scored:
        best = better(best, entry.concept, entry.score)
    assert best is not None
    return best


def _place(node: str, state: LineState) -> Place:
    return place_of(state.get("step", 0), state.get("attempt", 0), node)


def _record(
    runs: RunStore, run: str, unit: int, applied: Sequence[AppliedCommand], rows: Sequence[SteeringCommand]
) -> None:
    by_id = {command.id: command for command in rows}
    for number, step, attempt, node, outcome in applied:
        place = {"step": int(step), "attempt": int(attempt), "node": str(node), "outcome": str(outcome)}
        if mark_applied(runs, run, int(number), **place):  # type: ignore[arg-type]
            command = by_id[int(number)]
            runs.add_event(
                run, "steered", unit, wish=command.kind, concept=command.concept, by=command.by, **place
            )
