"""`line explain` on real parts, killed by SIGKILL in each node, resumed, and compared with an undisturbed run."""

import json
import os
import signal
import subprocess
import sys

import pytest

ARGUMENTS = [
    *("torchvision:mobilenet_v2", "features.18", "34", "--llm", "embedded", "--generator", "bank"),
    *("--top", "2", "--random", "2", "-n", "2", "-N", "2"),
]

# `make crash` kills in all nodes; with scripted parts test_killed_batch.py always does.
NODES = ["propose", "update"]
if "LINE_KILLS" in os.environ:
    NODES += ["init", "synthesize", "activate", "score", "summarize"]

# Runs the real command in a process that kills itself at a call deep inside a node: half way through its work.
KILLED = """
import os, signal, sys
import line_neurons.tools
from line_neurons.graphs.loop import nodes
from line_neurons.graphs.loop import scoring
from line_neurons.tools.cache.database import CacheDatabase
from line_neurons.tools.language_models import llama_cpp as embedded
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tui.cli.main import main

node = sys.argv.pop(1)
owner, name, wanted = {
    "init": (scoring, "measure", 3),
    "propose": (embedded.LlamaCppEngine, "complete", 2),
    "synthesize": (CacheDatabase, "write", 1),
    "activate": (HookedTarget, "activate", -1),
    "score": (scoring, "score", 6),
    "update": (RunStore, "put_steps", 3),
    "summarize": (embedded.LlamaCppEngine, "complete", -1),
}[node]
real, calls, inside = getattr(owner, name), 0, []

def enter(which):
    work = getattr(nodes, which)
    def entered(state, runtime):
        inside.append(which)
        return work(state, runtime)
    entered.__annotations__ = work.__annotations__
    setattr(nodes, which, entered)

for which in ("init", "propose", "synthesize", "activate", "score", "update", "summarize"):
    enter(which)

def dying(*args, **kwargs):
    global calls
    calls += 1
    result = real(*args, **kwargs)
    if inside and inside[-1] == node and (wanted < 0 or calls >= wanted):
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, dying)
main()
"""


def line(store, *arguments, script=("-c", "from line_neurons.tui.cli.main import main; main()")):
    environment = {**os.environ, "LINE_STORE": str(store)}
    return subprocess.run(
        [sys.executable, *script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def evidence(store):
    shown = line(store, "show", "mobilenet_v2-features.18-1", "34", "--json")
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    for step in found["history"]:
        for varying in ("created", "seconds"):
            step.pop(varying)
    found["unit"].pop("seconds")
    found.pop("contact_sheet")
    images = {path.name: path.read_bytes() for path in (store / "images").rglob("*.png")}
    return found, images


@pytest.fixture(scope="module")
def undisturbed(assets, tmp_path_factory):
    store = tmp_path_factory.mktemp("undisturbed")
    done = line(store, "explain", *ARGUMENTS)
    assert done.returncode == 0, done.stderr
    return evidence(store)


@pytest.mark.e2e
@pytest.mark.parametrize("node", NODES)
def test_a_killed_explain_resumes_to_the_same_history_labels_and_images(undisturbed, tmp_path, node):
    killed = line(tmp_path, node, "explain", *ARGUMENTS, script=("-c", KILLED))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    listed = json.loads(line(tmp_path, "runs", "--json").stdout)
    assert [run["status"] for run in listed] == ["interrupted"]
    resumed = line(tmp_path, "resume")
    assert resumed.returncode == 0, resumed.stderr
    assert evidence(tmp_path) == undisturbed
