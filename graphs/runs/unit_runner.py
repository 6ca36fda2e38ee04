"""Run one unit's graph from its last checkpoint to its label."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from langchain_core.runnables import RunnableConfig

from line_neurons.agent.loop import BEGINNING, nodes_per_attempt
from line_neurons.agent.settings import Settings
from line_neurons.graphs.loop.routing import node_after
from line_neurons.graphs.loop.state import Deps, LineState
from line_neurons.graphs.loop.steering import apply_pending, next_node, reconcile
from line_neurons.graphs.runs import checkpoints
from line_neurons.graphs.runs.results import search_result
from line_neurons.tools.store.checkpoints import thread_config
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.runs import RunStore

if TYPE_CHECKING:
    from line_neurons.graphs.loop.state import LineGraph

INTERNAL_UPDATES = frozenset({"__interrupt__", "__metadata__"})
"""Keys of LangGraph's updates that are no nodes."""

OnNode = Callable[[str, str, Mapping[str, Any]], None]
"""Called with the node that ended, empty before the first, the node that runs now, and the state."""


def work_unit(graph: LineGraph, deps: Deps, run: Run, unit: Unit, on_node: OnNode) -> None:
    """Run a unit from its last checkpoint until it has a label, or can have none, and no command is pending.

    From a checkpoint that is ahead of the unit's history, as after a power cut, it starts again instead.

    ``on_node`` is called before the first node and after each; the ``drain`` of ``deps`` stops the unit at the
    next checkpoint.

    Raises:
        GraphDrained: a stop was requested, between two nodes.
        DrainedError: a stop was requested, before a request or an image.
        DamagedError: the checkpoint is corrupt.
        LineError: a component failed.
    """
    runs, settings = deps.runs, deps.settings
    began = time.monotonic()
    config = thread_config(run.id, unit.unit)
    snapshot = checkpoints.resumable_state(graph, run, unit.unit)
    if checkpoints.is_ahead(snapshot, {trial.step for trial in runs.trials(run.id, unit.unit)}):
        restart_unit(graph, runs, run, unit.unit)
        runs.add_event(run.id, "begun again", unit.unit, reason="the history ends before the checkpoint")
        snapshot = checkpoints.resumable_state(graph, run, unit.unit)
    reconcile(runs, run, unit.unit, cast("LineState", snapshot.values))
    fresh: LineState = {"run": run.id, "unit": unit.unit}
    graph_input = None if snapshot.created_at else fresh
    state: dict[str, Any] = dict(snapshot.values) or dict(fresh)
    runs.update_unit(run.id, unit.unit, status="running", error="")
    on_node("", next_node(snapshot) or (BEGINNING if graph_input else ""), state)

    def seconds() -> float:
        return unit.seconds + time.monotonic() - began

    try:
        while True:
            bounded: RunnableConfig = {**config, "recursion_limit": _recursion_limit(settings, state)}
            stream = graph.stream(
                graph_input, bounded, context=deps, stream_mode="updates", durability="sync", control=deps.drain
            )
            for update in stream:
                for node, changes in update.items():
                    if node not in INTERNAL_UPDATES:
                        state |= changes or {}
                        on_node(node, node_after(node, state), state)
            if not apply_pending(graph, deps, run, unit.unit, config):
                break
            graph_input, snapshot = None, graph.get_state(config)
            state = dict(snapshot.values)
            on_node("", next_node(snapshot), state)
        result = search_result(deps, run, unit)
        # Before the unit counts as finished: a process killed in between comes here again.
        checkpoints.prune(graph, run.id, unit.unit)
    except BaseException:
        runs.update_unit(run.id, unit.unit, seconds=seconds())
        raise
    runs.update_unit(run.id, unit.unit, seconds=seconds(), **result)
    runs.add_event(run.id, "unit finished", unit.unit)


def restart_unit(graph: LineGraph, runs: RunStore, run: Run, unit: int) -> None:
    """Let a unit start again; with the cached images and replies it finds what it found before."""
    runs.drop_history(run.id, unit)
    checkpoints.forget(graph, run.id, unit)


def _recursion_limit(settings: Settings, state: Mapping[str, Any]) -> int:
    """Return how many nodes LangGraph may run before it takes the loop for an endless one.

    A step has the nodes of an attempt, at most ``retries`` times more; typed concepts and iterations add steps,
    requested facets whole searches.
    """
    steps = 1 + max(settings.iterations, settings.max_iterations or 0) + settings.summary
    steered = len(state.get("typed", ())) + int(state.get("further", 0))
    searches = settings.searches + len(state.get("facets", ()))
    return 10 + nodes_per_attempt() * (settings.retries + 1) * (steps * searches + steered)
