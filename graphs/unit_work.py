"""One unit's graph, from its last checkpoint to its label."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig

from line_neurons.agent.settings import Settings
from line_neurons.graphs.line import LineGraph
from line_neurons.graphs.results import search_result
from line_neurons.graphs.state import Deps, LineState
from line_neurons.tools.run_store import Run, Unit

# Nodes of a step, each asked again at most `retries` times; LangGraph counts every one.
_NODES_PER_STEP = 5


Tell = Callable[[str, Mapping[str, Any]], None]
"""Told of the node that ended, empty before the first, and of the state then."""


def work_unit(graph: LineGraph, deps: Deps, run: Run, unit: Unit, tell: Tell) -> None:
    """Work on a unit from its last checkpoint until it has a label.

    Args:
        graph: the compiled loop with the store's checkpoints.
        deps: the graph's parts; its ``drain`` stops the unit at the next checkpoint.
        run: the run.
        unit: the unit as it is recorded.
        tell: told of the unit's state before the first node and after each.

    Raises:
        GraphDrained: it was asked to stop, between two nodes.
        DrainedError: it was asked to stop, before a question or a picture.
        LineError: a part failed.
    """
    runs, settings = deps.runs, deps.settings
    began = time.monotonic()
    config: RunnableConfig = {
        "configurable": {"thread_id": f"{run.id}/{unit.unit}"},
        "recursion_limit": _most_nodes(settings),
    }
    snapshot = graph.get_state(config)
    fresh: LineState = {"run": run.id, "unit": unit.unit}
    given = None if snapshot.created_at else fresh
    state: dict[str, Any] = dict(snapshot.values) or dict(fresh)
    runs.update_unit(run.id, unit.unit, status="running", error="")
    tell("", state)

    def spent() -> float:
        return unit.seconds + time.monotonic() - began

    try:
        stream = graph.stream(
            given, config, context=deps, stream_mode="updates", durability="sync", control=deps.drain
        )
        for update in stream:
            for node, changes in update.items():
                state |= changes or {}
                tell(node, state)
        result = search_result(deps, run, unit)
    except BaseException:
        runs.update_unit(run.id, unit.unit, seconds=spent())
        raise
    runs.update_unit(run.id, unit.unit, status="finished", seconds=spent(), **result)
    runs.add_event(run.id, "unit finished", unit.unit)


def _most_nodes(settings: Settings) -> int:
    steps = 1 + max(settings.iterations, settings.max_iterations or 0) + settings.summary
    return 10 + _NODES_PER_STEP * (settings.retries + 1) * steps * (settings.restarts + 1)
