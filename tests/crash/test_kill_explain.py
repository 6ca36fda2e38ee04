"""`line explain` on real parts, killed by SIGKILL in each node, resumed, and compared with an undisturbed run."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from line_neurons.tools.language_models import llama_cpp
from line_neurons.tui.cli.exit_codes import ALL_REFUSED
from line_neurons.tui.cli.main import app

# `make crash` kills in all nodes; with scripted parts test_killed_batch.py always does.
NODES, RETRIES, STATUSES, REPLY_TOKENS = ["propose"], 0, {0, ALL_REFUSED}, 24
if "LINE_KILLS" in os.environ:
    # The small model has to name something that the bank can image.
    REPLY_TOKENS = llama_cpp.MAX_REPLY_TOKENS
    NODES, RETRIES, STATUSES = [*NODES, "init", "synthesize", "activate", "score", "update", "summarize"], 1, {0}

ARGUMENTS = [
    *("torchvision:mobilenet_v2", "features.18", "34", "--llm", "embedded:smollm2-135m", "--generator", "bank"),
    *("--top", "2", "--random", "2", "-n", "2", "-N", "2", "--retries", str(RETRIES), "--control-images", "1"),
    *(() if "summarize" in NODES else ("--no-summary",)),
]

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

node, embedded.MAX_REPLY_TOKENS = sys.argv.pop(1), int(sys.argv.pop(1))
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


def explain_killed(store, node):
    return subprocess.run(
        [sys.executable, "-c", KILLED, node, str(REPLY_TOKENS), "explain", *ARGUMENTS, "--store", str(store)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def evidence(line, store):
    status, out, err = line("show", "mobilenet_v2-features.18-1", "34", "--json", "--store", store)
    assert status == 0, err
    found = json.loads(out)
    for step in found["history"]:
        for varying in ("created", "seconds"):
            step.pop(varying)
    found["unit"].pop("seconds")
    found.pop("contact_sheet")
    images = {path.name: path.read_bytes() for path in (store / "images").rglob("*.png")}
    return found, images


@pytest.fixture(scope="module", autouse=True)
def _short_replies():
    """Replies are cut where it does not matter that they name nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama_cpp, "MAX_REPLY_TOKENS", REPLY_TOKENS)
        yield


@pytest.fixture(scope="module")
def undisturbed(request, assets, tmp_path_factory):
    """The store of a run that nothing disturbed."""
    if not RETRIES:
        request.getfixturevalue("few_control_images")
    store = tmp_path_factory.mktemp("undisturbed")
    assert (app(["explain", *ARGUMENTS, "--store", str(store)], standalone_mode=False) or 0) in STATUSES
    return store


@pytest.mark.e2e
@pytest.mark.parametrize("node", NODES)
def test_a_killed_explain_resumes_to_the_same_history_labels_and_images(undisturbed, line, tmp_path, node):
    # The names of the image bank, which take seconds to embed.
    shutil.copytree(undisturbed / "embeddings", tmp_path / "embeddings")
    killed = explain_killed(tmp_path, node)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    listed = json.loads(line("runs", "--json", "--store", tmp_path)[1])
    assert [run["status"] for run in listed] == ["interrupted"]
    status, _, err = line("resume", "--store", tmp_path)
    assert status in STATUSES, err
    assert evidence(line, tmp_path) == evidence(line, undisturbed)
