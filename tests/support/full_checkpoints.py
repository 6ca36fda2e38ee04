"""Runs with all their checkpoints, as earlier versions left them, and what these tell."""

from contextlib import contextmanager

import pytest

from line_neurons.graphs.runs import checkpoints
from line_neurons.tools.store.checkpoints import thread_config


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
