"""The LINE loop as a LangGraph state machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from line_neurons.graphs import nodes
from line_neurons.graphs.state import Deps, LineState, UnitOfRun

LineGraph = CompiledStateGraph[LineState, Deps, LineState, LineState]

_STEPS: dict[Any, str] = {"initial": "init", "iteration": "propose", "summary": "summarize", "end": END}


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
    graph.add_node("init", nodes.init)
    graph.add_node("propose", nodes.propose)
    graph.add_node("summarize", nodes.summarize)
    graph.add_node("synthesize", nodes.synthesize)
    graph.add_node("activate", nodes.activate)
    graph.add_node("score", nodes.score)
    graph.add_node("update", nodes.update)
    graph.add_edge(START, "init")
    graph.add_conditional_edges("init", nodes.next_step, _STEPS)
    for asking in ("propose", "summarize"):
        targets: dict[Any, str] = {"ask": asking, "synthesize": "synthesize", "update": "update"}
        graph.add_conditional_edges(asking, nodes.after_asking, targets)
    graph.add_conditional_edges("synthesize", nodes.after_drawing, ["activate", "propose", "summarize", "update"])
    graph.add_edge("activate", "score")
    graph.add_edge("score", "update")
    graph.add_conditional_edges("update", nodes.next_step, _STEPS)
    compiled: LineGraph = graph.compile(checkpointer=checkpointer)
    return compiled


def node_after(ended: str, state: Mapping[str, Any]) -> str:
    """The node that is at work once another has ended with this state; empty where the unit is done."""
    if ended in {"propose", "summarize"}:
        went = nodes.after_asking(cast("LineState", state))
        return ended if went == "ask" else went
    if ended == "synthesize":
        return nodes.after_drawing(cast("LineState", state))
    if ended in {"activate", "score"}:
        return "score" if ended == "activate" else "update"
    return _STEPS[state["kind"]].removeprefix(END)


def make_graph() -> LineGraph:
    """The graph for LangGraph Studio, which brings its own checkpointer.

    Its input names a unit of a recorded run: ``{"run": "mobilenet_v2-classifier.1-1", "unit": 18}``.
    """
    # A server makes the context from JSON, of which no parts can be made.
    return build(context=None, asked=UnitOfRun)
