"""One unit's graph, from its last checkpoint to its label."""

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
"""What LangGraph tells of among the nodes that ended: interrupts, and that an update was there already."""

Tell = Callable[[str, str, Mapping[str, Any]], None]
"""Told of the node that ended, empty before the first, of the one that is at work now, and of the state."""


def work_unit(graph: LineGraph, deps: Deps, run: Run, unit: Unit, tell: Tell) -> None:
    """Work on a unit from its last checkpoint until it has a label, or can have none, and nothing more is asked.

    From a checkpoint that is ahead of the unit's history, as after a power cut, it begins again instead.

    Args:
        graph: the compiled loop with the store's checkpoints.
        deps: the graph's parts; its ``drain`` stops the unit at the next checkpoint.
        run: the run.
        unit: the unit as it is recorded.
        tell: told of the unit's state before the first node and after each.

    Raises:
        GraphDrained: it was asked to stop, between two nodes.
        DrainedError: it was asked to stop, before a question or an image.
        DamagedError: the checkpoint cannot be gone on from.
        LineError: a part failed.
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
    given = None if snapshot.created_at else fresh
    state: dict[str, Any] = dict(snapshot.values) or dict(fresh)
    runs.update_unit(run.id, unit.unit, status="running", error="")
    tell("", next_node(snapshot) or (BEGINNING if given else ""), state)

    def spent() -> float:
        return unit.seconds + time.monotonic() - began

    try:
        while True:
            bounded: RunnableConfig = {**config, "recursion_limit": _recursion_limit(settings, state)}
            stream = graph.stream(
                given, bounded, context=deps, stream_mode="updates", durability="sync", control=deps.drain
            )
            for update in stream:
                for node, changes in update.items():
                    if node not in INTERNAL_UPDATES:
                        state |= changes or {}
                        tell(node, node_after(node, state), state)
            if not apply_pending(graph, deps, run, unit.unit, config):
                break
            given, snapshot = None, graph.get_state(config)
            state = dict(snapshot.values)
            tell("", next_node(snapshot), state)
        result = search_result(deps, run, unit)
        # Before the unit counts as finished: a process killed in between comes here again.
        checkpoints.prune(graph, run.id, unit.unit)
    except BaseException:
        runs.update_unit(run.id, unit.unit, seconds=spent())
        raise
    runs.update_unit(run.id, unit.unit, seconds=spent(), **result)
    runs.add_event(run.id, "unit finished", unit.unit)


def restart_unit(graph: LineGraph, runs: RunStore, run: Run, unit: int) -> None:
    """Let a unit begin again, with the images and replies that are kept, and so with what it found before."""
    runs.drop_history(run.id, unit)
    checkpoints.forget(graph, run.id, unit)


def _recursion_limit(settings: Settings, state: Mapping[str, Any]) -> int:
    """How many nodes LangGraph may run before it takes the loop for an endless one.

    A step has the nodes of an attempt, at most ``retries`` times more; what people want tried adds steps.
    """
    steps = 1 + max(settings.iterations, settings.max_iterations or 0) + settings.summary
    wanted = len(state.get("typed", ())) + int(state.get("further", 0))
    return 10 + nodes_per_attempt() * (settings.retries + 1) * (steps * (settings.restarts + 1) + wanted)
