"""Whole runs for the tests of faults: real store, checkpoints and reply cache around instant parts."""

import json
import shutil

from langgraph.runtime import RunControl

from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.proposer import Proposer
from line_neurons.tools.language_models.reply_cache import ReplyCache
from support.fakes import LAYER, scripted_components

NEEDED = ["runs.db", "checkpoints.db", "bank.db"]


class Engine:
    """Answers each question with a concept of its seed."""

    def complete(self, prompt, *, seed, temperature):
        return Completion(json.dumps({"reasoning": f"because of {seed}", "concept": f"thing {seed % 97}"}), False)


def components_for(store, engine=None, **options):
    made = engine or Engine()
    model = Proposer(lambda: made, "an engine", ReplyCache(store / "replies.db"))
    return scripted_components(store, model, **{"iterations": 2, "images": 2, "top": 2, "random": 2} | options)


def begun(store, **options):
    """A run on two units that nothing has been done for yet."""
    components = components_for(store, **options)
    return components, start(components, LAYER, ["0-1"])


def closed(components):
    """Close the parts' databases, as the end of their process would."""
    for name in ("runs", "cache"):
        if name in components.opened():
            getattr(components, name).close()


def outcome(components, run):
    """What a run found: labels, scores and the whole history."""
    units = [
        (unit.unit, unit.status, unit.label, unit.score, unit.origin, unit.label_step, unit.images)
        for unit in components.runs.units(run.id)
    ]
    steps = [
        (s.unit, s.step, s.attempt, s.kind, s.outcome, s.concept, s.score, s.reply, s.images, s.board, s.removed)
        for unit in units
        for s in components.runs.steps(run.id, unit[0])
    ]
    return units, steps


def stopped_after(components, run, node, then=lambda: None):
    """Work on a run until a node has ended for the second time, then do something."""
    drain, left = RunControl(), [2]

    def watch(progress):
        left[0] -= progress.node == node
        if not left[0]:
            left[0] = -1
            then()
            drain.request_drain("test")

    return work(components, run, watch, drain)


def copy_of(half_done, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(half_done[0], store)
    return store, half_done[1]
