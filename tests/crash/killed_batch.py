"""The batch that is killed: real store, graph, checkpoints and reply cache, instant scripted engines."""

from __future__ import annotations

import json
import os
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

# What a working process imports late, so that its children find it here.
import langchain_community.cache  # noqa: F401
import langchain_core.load
import numpy as np
import sqlalchemy.dialects.sqlite  # noqa: F401
from langgraph.runtime import RunControl

from crash.kill_points import Killer
from line_neurons.agent.errors import LineError
from line_neurons.agent.ports import LayerInfo
from line_neurons.eval.exchange.bundle_import import import_bundle
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.cache.database import CacheDatabase
from line_neurons.tools.cache.file_hashes import FileHashes
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.proposer import Proposer
from line_neurons.tools.language_models.reply_cache import ReplyCache
from line_neurons.tools.store.checkpoints import open_checkpoints
from line_neurons.tools.store.results.evaluations import Evaluations
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import submit_all
from support.fakes import LAYER, ScriptedGenerator, ScriptedTarget, scripted_components

UNITS = 5
IN_FLIGHT = 4
DRAWN_TOGETHER = 4
REFUSED, DONE = 2, 0

_SETTINGS = {
    "max_concurrent_units": IN_FLIGHT, "llm_parallel": 2, "batch_timeout": 0.002, "images": 2, "top": 2,
    "random": 2, "iterations": 2, "restarts": 1, "revisit": True, "retries": 2,
}  # fmt: skip
# No two share a word, so that a restart finds what is left for a board.
_CLASSES = ("ant", "bell", "cup", "drum", "eel", "fan", "gull", "hat", "iron", "jar", "kite", "lamp")


def do(store, log, place=None, call=0, seed=0, pause=0.0, hold=None, only_start=False, drained=False, ask=()):
    """Start the run with this seed, or go on with it, and die where that is asked for.

    Args:
        store: the folder.
        log: file outside the store: one line of JSON for each thing that began or ended.
        place: see ``Killer``.
        call: see ``Killer``.
        seed: the run's seed.
        pause: seconds that each batch of images takes.
        hold: path of a file; while it is there, no image gets done.
        only_start: write the run down and leave it.
        drained: stop as Ctrl-C does, where it would die.
        ask: ask this of units, each (unit, kind, concept), and leave it.

    Returns:
        Exit status: 0 if the run is finished, 2 if it was refused with a line for the user, 1 for what is a bug.
    """
    began = time.monotonic()
    with _notes(Path(log)) as note:
        drain = RunControl()
        killer = Killer(note, place, call, drain.request_drain if drained else None)
        killer.install()
        try:
            components = _parts(Path(store), note, seed, pause, hold)
            begun = [run for run in components.runs.runs() if run.seed == seed]
            run = begun[0] if begun else start(components, LAYER, ["all"])
            for unit, kind, concept in ask:
                submit_all(components.runs, run, unit, [(kind, concept)])
            if not only_start and not ask:
                run = work(components, run, drain=drain)
                note(status=run.status)
        except LineError as error:
            note(refused=error.message)
            return REFUSED
        except BaseException:
            note(bug=traceback.format_exc())
            return 1
        note(calls=dict(killer.calls), seconds=time.monotonic() - began)
        return DONE


def make_databases(store, files):
    """Make every database of a store, as the commands that first need it do; exit status 0.

    Args:
        store: the folder.
        files: folder of files whose hashes are remembered.
    """
    root = Path(store)
    RunStore(root).close()
    CacheDatabase(root).close()
    with open_checkpoints(root):
        pass
    ReplyCache(root / "replies.db").put("prompt", "model", Completion("reply", truncated=False))
    FileHashes(root / "digests.db").of(sorted(Path(files).iterdir()))
    Evaluations(root).close()
    return DONE


def take_in(store, bundle, place=None, call=0):
    """Import a bundle, and die where that is asked for; exit status 0.

    Args:
        store: the folder.
        bundle: the bundle's path.
        place: see ``Killer``.
        call: see ``Killer``.
    """
    Killer(lambda **_: None, place, call).install()
    import_bundle(Path(store), Path(bundle))
    return DONE


@contextmanager
def _notes(path):
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(*lines, **line):
        text = "".join(json.dumps(one) + "\n" for one in [*lines, *([line] if line else [])])
        os.write(file, text.encode())
        os.fsync(file)

    try:
        yield note
    finally:
        os.close(file)


class _Target(ScriptedTarget):
    """Units that like different things, so that a revisit finds better labels for some."""

    def layers(self):
        return [LayerInfo(LAYER, "Linear", (UNITS,), UNITS)]

    def activate(self, images, layers, progress=None):
        values = np.array([self._value(image) for image in images], np.float32).reshape(-1, 1)
        phases = np.arange(UNITS, dtype=np.float32)
        return dict.fromkeys(layers, np.sin(values * 40 + phases).astype(np.float32))


class _Generator(ScriptedGenerator):
    def __init__(self, note, pause, hold):
        super().__init__(unknown=frozenset({"thing 3", "thing 7"}), batch_size=DRAWN_TOGETHER)
        self._note = note
        self._pause = pause
        self._hold = hold

    def synthesize(self, requests, progress=None):
        unknown = [request for request in requests if request.concept in self.unknown]
        if not unknown:
            self._note(*({"begun": [request.prompt, request.seed]} for request in requests))
        images = super().synthesize(requests, progress)
        time.sleep(self._pause)
        while self._hold and Path(self._hold).exists():
            time.sleep(0.01)
        self._note(*({"done": [request.prompt, request.seed]} for request in requests))
        return images


class _Engine:
    """Answers with few words, as a real model does: units ask for the same concepts again and again."""

    def __init__(self, note):
        self._note = note

    def complete(self, prompt, *, seed, temperature):
        self._note(asked=seed)
        answer = "no idea" if seed % 11 == 0 else json.dumps({"reasoning": "so", "concept": f"thing {seed % 30}"})
        return Completion(answer, truncated=False)


def _parts(store, note, seed, pause, hold):
    model = Proposer(lambda: _Engine(note), "scripted engine", ReplyCache(store / "replies.db"))
    return scripted_components(
        store, model, target=_Target(), generator=_Generator(note, pause, hold), seed=seed, classes=_CLASSES,
        **_SETTINGS,
    )  # fmt: skip


# Imports what writing the first reply needs.
langchain_core.load.dumps(langchain_core.load.dumpd(None))
