"""The LINE loop as a LangGraph state machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from line_neurons.agent import loop
from line_neurons.graphs.loop import nodes
from line_neurons.graphs.loop.state import Deps, LineState, UnitOfRun

LineGraph = CompiledStateGraph[LineState, Deps, LineState, LineState]

_STEPS: dict[Any, str] = {"initial": "init", "iteration": "propose", "summary": "summarize", "end": END}
# What a node came to decides what follows it; every other node leads to the one that comes after it in the table.
_CHOICES: dict[str, tuple[Callable[[LineState], Any], Any]] = {
    "init": (nodes.next_step, _STEPS),
    "propose": (nodes.after_asking, {"ask": "propose", "synthesize": "synthesize", "update": "update"}),
    "summarize": (nodes.after_asking, {"ask": "summarize", "synthesize": "synthesize", "update": "update"}),
    "synthesize": (
        nodes.after_drawing,
        {name: name for name in ("activate", "propose", "summarize", "update")},
    ),
    "update": (nodes.next_step, _STEPS),
}


def build(
    checkpointer: BaseCheckpointSaver[Any] | None = None,
    *,
    context: type | None = Deps,
    asked: type = LineState,
) -> LineGraph:
    """The compiled graph of one unit: init, then propose -> synthesize -> activate -> score -> update.

    The loop goes round for N iterations, then once more from summarize; a restart begins again at init. A refused
    answer goes back to the question; a step in which every answer is refused is recorded as stalled.

    Args:
        checkpointer: where the state is kept after each node; None for a graph that a server keeps.
        context: what is handed over at each invocation; None: nothing, the run in the state tells the parts.
        asked: the schema of the input.
    """
    graph: Any = StateGraph(LineState, context_schema=context, input_schema=asked)
    for name in loop.NODES:
        graph.add_node(name, getattr(nodes, name))
        if name in _CHOICES:
            graph.add_conditional_edges(name, *_CHOICES[name])
        else:
            graph.add_edge(name, loop.successor(name))
    graph.add_edge(START, loop.BEGINNING)
    compiled: LineGraph = graph.compile(checkpointer=checkpointer)
    return compiled


def node_after(ended: str, state: Mapping[str, Any]) -> str:
    """The node that is at work once another has ended with this state; empty where the unit is done."""
    if ended not in _CHOICES:
        return loop.successor(ended)
    choose, targets = _CHOICES[ended]
    following: str = targets[choose(cast("LineState", state))]
    return following.removeprefix(END)


def make_graph() -> LineGraph:
    """The graph for LangGraph Studio, which brings its own checkpointer.

    Its input names a unit of a recorded run: ``{"run": "mobilenet_v2-classifier.1-1", "unit": 18}``.
    """
    # A server makes the context from JSON, of which no parts can be made.
    return build(context=None, asked=UnitOfRun)
