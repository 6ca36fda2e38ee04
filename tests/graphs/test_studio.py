import importlib
import json
from pathlib import Path

import pytest

from line_neurons.graphs import nodes
from line_neurons.graphs.runs import start
from scripted import LAYER, ScriptedModel, scripted_parts


def test_langgraph_json_names_a_graph_with_the_nodes_of_the_loop():
    config = json.loads((Path(__file__).parents[2] / "langgraph.json").read_text())
    module, _, name = config["graphs"]["line"].partition(":")
    graph = getattr(importlib.import_module(module), name)()
    assert {"propose", "synthesize", "activate", "score", "update", "summarize"} <= set(graph.get_graph().nodes)


@pytest.mark.parametrize("name", ["line_neurons.graphs.line:make_graph"])
def test_without_a_context_the_state_names_a_recorded_run(tmp_path, monkeypatch, name):
    parts = scripted_parts(tmp_path, ScriptedModel(["one", "two"]), iterations=1)
    run = start(parts, LAYER, ["0"])
    monkeypatch.setattr(nodes, "recorded_deps", lambda given: {run.id: parts.deps(LAYER)}[given])
    module, _, function = name.partition(":")
    graph = getattr(importlib.import_module(module), function)()
    state = graph.invoke({"run": run.id, "unit": 0})
    assert state["step"] == 3
    assert [step.concept for step in parts.runs.steps(run.id, 0) if step.step] == ["one", "two"]
