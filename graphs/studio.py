"""The graph for LangGraph Studio; ``langgraph.json`` names ``make_graph``."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from line_neurons.agent.settings import load_settings
from line_neurons.graphs.loop.graph import build
from line_neurons.graphs.runs.reopening import reopen
from line_neurons.tools.language_models.arguments import langchain_here, servers_of
from line_neurons.tools.store.runs import RunStore, default_store

if TYPE_CHECKING:
    from line_neurons.graphs.loop.state import Deps, LineGraph


class UnitOfRun(TypedDict):
    """The input of a server's graph.

    Attributes:
        run: id of a recorded run.
        unit: index of a unit of it.
    """

    run: str
    unit: int


def make_graph() -> LineGraph:
    """Compile the graph without a checkpointer, which the server brings.

    Its input names a unit of a recorded run: ``{"run": "mobilenet_v2-classifier.1-1", "unit": 18}``.
    """
    return build(resolve=recorded_deps, input_schema=UnitOfRun)


@lru_cache(maxsize=1)
def recorded_deps(run: str) -> Deps:
    """Open what the nodes of a recorded run work with; its store is that of line.toml or the environment."""
    settings = load_settings()
    recorded = RunStore(settings.store or default_store(), read_only=True).run(run)
    langchain = langchain_here(recorded.settings, settings)
    changes = {**servers_of(settings), "langchain": langchain}
    components = reopen(recorded, settings.store, settings.assets, changes=changes)
    return components.deps(recorded.layer, recorded.vocabulary or ())
