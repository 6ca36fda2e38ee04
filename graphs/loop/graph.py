"""The LINE loop of one unit as a LangGraph graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime

from line_neurons.agent import loop
from line_neurons.graphs.loop import nodes
from line_neurons.graphs.loop.routing import CHOICES
from line_neurons.graphs.loop.state import Deps, LineState
from line_neurons.graphs.loop.steering import interrupt_if_pending

if TYPE_CHECKING:
    from line_neurons.graphs.loop.state import LineGraph


def build(
    checkpointer: BaseCheckpointSaver[Any] | None = None,
    *,
    resolve: Callable[[str], Deps] | None = None,
    input_schema: type = LineState,
) -> LineGraph:
    """Compile the loop: init, then propose -> synthesize -> activate -> score -> update, at last summarize.

    A refused reply leads back to its request; a step whose replies are all refused is recorded as stalled. A
    restart begins again at init.

    Args:
        checkpointer: where the state is kept after each node; None for a graph that a server keeps.
        resolve: opens what the nodes work with from the id of a run, for a server that invokes the graph without
            a context; else each invocation hands its ``Deps`` over as the context.
    """
    graph: Any = StateGraph(LineState, context_schema=None if resolve else Deps, input_schema=input_schema)
    for name in loop.NODES:
        graph.add_node(name, _node(name, resolve))
        if name in CHOICES:
            graph.add_conditional_edges(name, *CHOICES[name])
        else:
            graph.add_edge(name, loop.successor(name))
    graph.add_edge(START, loop.BEGINNING)
    compiled: LineGraph = graph.compile(checkpointer=checkpointer)
    return compiled


def _node(name: str, resolve: Callable[[str], Deps] | None) -> Callable[[LineState, Runtime[Deps]], LineState]:
    """Wrap the function of ``nodes`` that has a node's name: pending steering commands are applied first."""
    work: Callable[[LineState, Deps], LineState] = getattr(nodes, name)

    def run(state: LineState, runtime: Runtime[Deps]) -> LineState:
        # A server has no context to hand over; its users steer with the server's own means.
        context: object = runtime.context
        if isinstance(context, Deps):
            interrupt_if_pending(context.runs, name, state)
            return work(state, context)
        if resolve is None:
            raise TypeError("the graph was invoked without its context")
        return work(state, resolve(state["run"]))

    return run
