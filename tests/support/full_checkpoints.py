"""Runs with all their checkpoints, as earlier versions left them, and what these tell."""

import sqlite3
import uuid
from contextlib import closing, contextmanager

import pytest

from line_neurons.graphs.runs import checkpoints
from line_neurons.tools.store.checkpoints import thread_config
from line_neurons.tools.store.serializer import PlainSerializer


@contextmanager
def all_checkpoints_kept():
    """Let no unit that finishes have its checkpoints pruned."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoints, "prune", lambda graph, run, unit: None)
        yield


def state_once_ended(graph, run, unit, step):
    """A unit's state by its checkpoints when a step had ended and nothing else had been done."""
    history = graph.get_state_history(thread_config(run.id, unit))
    return [one.values for one in history if one.values.get("step") == step + 1][-1]


def keep_results_of_nodes(store):
    """Leave results of nodes beside each checkpoint, as earlier versions did."""
    kind, value = PlainSerializer().dumps_typed(1.0)
    with closing(sqlite3.connect(store / "checkpoints.db")) as db, db:
        last = "SELECT max(checkpoint_id) FROM checkpoints GROUP BY thread_id"
        every = db.execute(f"SELECT thread_id, checkpoint_id FROM checkpoints WHERE checkpoint_id NOT IN ({last})")
        db.executemany(
            "INSERT INTO writes (thread_id, checkpoint_id, task_id, idx, channel, type, value)"
            " VALUES (?, ?, ?, ?, 'score', ?, ?)",
            [(*place, str(uuid.UUID(int=1)), idx, kind, value) for place in every.fetchall() for idx in range(3)],
        )
