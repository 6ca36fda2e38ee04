"""Forks a process for each `line` command: ``python line_server.py``, requests and answers as lines of JSON.

A fork has the imports behind it, so that a command costs tenths of a second. Target, generator, control set and
language model are instant; store, graph, checkpoints, leases, reply cache, bank and signals are the product's.

A request is a list of commands (lists of arguments), and the files for standard output and error. The answer is
the id of a fork that does nothing yet: the commands begin when a line comes to the fork's gate, a FIFO, so
that a tracer can be attached first. The request ``{"wait": PID}`` is answered with the status of that fork.
"""

import gc
import importlib
import json
import os
import signal
import sys
import time
from functools import cached_property
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from line_neurons.agent.errors import BackendError
from line_neurons.agent.ports import LayerInfo
from line_neurons.agent.seeds import derive_seed
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.reply_cache import ReplyCache
from line_neurons.tui.cli.main import main
from support.fakes import LAYER, ScriptedControl, ScriptedGenerator, ScriptedModel, ScriptedTarget, said_by

UNITS = 6
WARM = (
    "line_neurons.tui.cli.run",
    "line_neurons.tui.cli.export",
    "line_neurons.tui.cli.replay",
    "line_neurons.tui.cli.show",
    "line_neurons.tui.cli.steer",
    "line_neurons.tui.cli.doctor",
    "line_neurons.tui.cli.jobs",
    "line_neurons.graphs.runs.lifecycle",
    "line_neurons.graphs.runs.fork",
    "line_neurons.graphs.runs.revisit",
    "line_neurons.graphs.replay.replay",
    "line_neurons.eval.exchange",
    "langchain_community.cache",
    "inflect",
    "pandas",
    "pyarrow.compute",
    "pyarrow.parquet",
    "sqlite_utils.db",
    "sqlite_utils.migrations",
    "PIL.PngImagePlugin",
)


class Target(ScriptedTarget):
    """Every unit likes other concepts: a score derived from unit and concept."""

    def layers(self):
        return [LayerInfo(LAYER, "Linear", (UNITS,), UNITS)]

    def activate(self, images, layers, progress=None):
        rows = [
            [derive_seed("score", unit, said_by(image)[0]) % 997 / 997 for unit in range(UNITS)]
            for image in images
        ]
        return dict.fromkeys(layers, np.array(rows, np.float32).reshape(len(images), UNITS))


class Generator(ScriptedGenerator):
    """Fails on a part of the concepts while the file BROKEN is in the working folder; waits for HOLD to go."""

    def synthesize(self, requests, progress=None):
        while Path("HOLD").is_file():
            time.sleep(0.02)
        if Path("BROKEN").is_file() and any(derive_seed("broken", r.concept) % 5 == 0 for r in requests):
            raise BackendError("the generator is broken", "mend it")
        return super().synthesize(requests, progress)


class Model(ScriptedModel):
    """A few ideas for all units, through the product's reply cache; some answers are garbage, some undrawable."""

    def __init__(self, replies):
        super().__init__(self._answer, "model from outside")
        self._replies = replies

    def propose(self, prompt, *, seed, temperature):
        question = f"{prompt} {seed} {temperature}"
        said = self._replies.get_or_complete(
            question, "outside", lambda: Completion(self._answer(prompt, seed, temperature), False)
        )
        return ScriptedModel([said.text]).propose(prompt, seed=seed, temperature=temperature)

    @staticmethod
    def _answer(prompt, seed, temperature):
        number = derive_seed("idea", seed) % 40
        return "garbage" if number < 4 else f"idea {number}"


INSTANT = {
    "target": lambda components: Target(fingerprint="target from outside"),
    "generator": lambda components: Generator(
        frozenset({"idea 5", "idea 6"}), fingerprint="generator from outside"
    ),
    "control_set": lambda components: ScriptedControl(tuple(f"class {letter}" for letter in "abcdefgh")),
    "language_model": lambda components: Model(ReplyCache(components.store / "replies.db")),
}


def use_instant_components():
    for name, make in INSTANT.items():
        part = cached_property(make)
        part.__set_name__(Components, name)
        setattr(Components, name, part)


def run_commands(request):
    """The life of a fork: wait at the gate, run the commands one after the other, exit with the last status."""
    with Path(request["gate"]).open() as gate:
        gate.readline()
    os.chdir(request["folder"])
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, number)
        os.close(file)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    status = 0
    for arguments in request["commands"]:
        sys.argv = ["line", *arguments]
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
            sys.stdout.write(f"\x1e{status}" if len(request["commands"]) > 1 else "")
        sys.stdout.flush()
        sys.stderr.flush()
    return status


def serve():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_instant_components()
    for module in WARM:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        elif answer := os.fork():
            pass
        else:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.setsid()
            sys.exit(run_commands(request))
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
