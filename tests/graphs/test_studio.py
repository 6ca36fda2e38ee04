import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from line_neurons.agent.settings import load_settings
from line_neurons.graphs import studio
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import start
from line_neurons.tools.store.runs import RunStore
from support.fakes import LAYER, ScriptedModel, scripted_components

REPOSITORY = Path(__file__).parents[2]
NODES = {"init", "propose", "synthesize", "activate", "score", "update", "summarize"}


def made_graph():
    config = json.loads((REPOSITORY / "langgraph.json").read_text())
    module, _, name = config["graphs"]["line"].partition(":")
    return getattr(importlib.import_module(module), name)()


def test_langgraph_json_names_a_graph_with_the_nodes_of_the_loop():
    assert set(made_graph().get_graph().nodes) >= NODES


def test_a_server_is_told_that_a_run_and_a_unit_are_asked_for():
    schema = made_graph().get_input_jsonschema()
    assert {name: one["type"] for name, one in schema["properties"].items()} == {
        "run": "string",
        "unit": "integer",
    }
    assert schema["required"] == ["run", "unit"]


@pytest.mark.parametrize("context", [None, {}], ids=["no context", "an empty one"])
def test_without_parts_handed_over_the_state_names_a_recorded_run(tmp_path, monkeypatch, context):
    components = scripted_components(tmp_path, ScriptedModel(["one", "two"]), iterations=1)
    run = start(components, LAYER, ["0"])
    monkeypatch.setattr(studio, "recorded_deps", lambda given: {run.id: components.deps(LAYER)}[given])
    state = made_graph().invoke({"run": run.id, "unit": 0}, context=context)
    assert state["step"] == 3
    assert [step.concept for step in components.runs.steps(run.id, 0) if step.step] == ["one", "two"]


@contextmanager
def served(store, assets):
    """The graph as ``langgraph dev`` serves it ; gives a client."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "LINE_STORE": str(store), "LINE_ASSETS": str(assets), "LANGGRAPH_CLI_NO_ANALYTICS": "1"
    }  # fmt: skip
    command = [
        str(Path(sys.executable).with_name("langgraph")), "dev", "--config", str(REPOSITORY / "langgraph.json"),
        "--no-browser", "--no-reload", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    log = store / "server.log"
    with log.open("wb") as written:
        # Where it is started it keeps its threads.
        server = subprocess.Popen(
            command, cwd=store, env=environment, stdout=written, stderr=written, start_new_session=True
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
            for _ in range(600):
                with suppress(httpx.TransportError):
                    if client.get("/ok").is_success:
                        break
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
            yield client
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.e2e
def test_langgraph_dev_serves_the_graph_and_runs_a_unit_to_its_end(assets, tmp_path):
    small = {"llm": "random", "generator": "bank", "init": "vocabulary", "iterations": 1, "images": 1, "top": 1}
    small |= {"control_images": 1, "vocabulary_share": 0.03}
    components = Components(
        "torchvision:mobilenet_v2", load_settings(store=tmp_path, assets=assets, random=0, **small)
    )
    run = start(components, "classifier.1", ["tiger"])
    with served(tmp_path, assets) as client:
        (assistant,) = client.post("/assistants/search", json={}).json()
        assert assistant["graph_id"] == "line"
        about = f"/assistants/{assistant['assistant_id']}"
        assert {node["id"] for node in client.get(f"{about}/graph").json()["nodes"]} >= NODES
        schemas = client.get(f"{about}/schemas").json()
        assert set(schemas["input_schema"]["properties"]) == {"run", "unit"}
        assert "board" in schemas["state_schema"]["properties"]

        thread = client.post("/threads", json={}).json()["thread_id"]
        asked = {"assistant_id": "line", "input": {"run": run.id, "unit": 292}}
        state = client.post(f"/threads/{thread}/runs/wait", json=asked).json()
        assert state.get("kind") == "end", state
        history = client.post(f"/threads/{thread}/history", json={"limit": 100}).json()
    assert {name for one in history for name in one["next"]} >= NODES
    steps = RunStore(tmp_path, read_only=True).steps(run.id, 292)
    assert [step.kind for step in steps if step.outcome == "scored"] == ["initial", "iteration", "summary"]
    assert state["best"] == list(
        max((step.concept, step.score) for step in steps if step.score == state["best"][1])
    )
