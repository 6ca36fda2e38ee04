"""CoSy with the images of worker processes: the scores of a single process."""

from contextlib import closing

import pytest

from line_neurons.agent.errors import DrainedError
from line_neurons.eval.cosy.images import GeneratedImages
from line_neurons.eval.cosy.runner import EvaluatedLayer, evaluate_labels
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.tools.store.results.evaluations import Evaluations
from support.fakes import LAYER, ScriptedControl
from support.workers import in_process, with_workers

CONTROL = "scripted", ScriptedControl(("apple", "bean", "corn", "dog"))
LABELS = Labels("line", "scripted:model", LAYER, tuple(Label(unit, f"thing {unit}") for unit in range(9)), "r")


def evaluated(components, on_progress=None):
    """The scores of all labels, and the stats of the cache."""
    components.layers.add(LAYER)
    subject = EvaluatedLayer(components, LAYER, (LABELS,))
    images = GeneratedImages(
        "scripted", components.generator, components, LAYER, 4, 0, "fixed", workers=components
    )
    with closing(images), closing(Evaluations(components.store)) as results:
        found = evaluate_labels(subject, LABELS, LABELS.labels, images, CONTROL, results, on_progress=on_progress)
    return found.scores, components.cache.snapshot()


def test_the_scores_of_two_workers_are_those_of_one_process(tmp_path):
    alone, plain = evaluated(in_process(tmp_path / "alone"))
    together, stats = evaluated(with_workers(tmp_path / "together", 2))
    assert repr(together) == repr(alone)
    assert stats.generated == plain.generated == 36
    # Workers measured what they generated, and nothing was measured again.
    assert stats.forwarded == plain.forwarded == 36


def test_an_interrupted_evaluation_leaves_nothing_in_progress_and_continues(tmp_path):
    def stop(what, done, total):
        if what.startswith("CoSy") and done == 3:
            raise DrainedError("stop")

    components = with_workers(tmp_path, 2)
    with pytest.raises(DrainedError):
        evaluated(components, stop)
    assert components.engine._pool is None
    again, _ = evaluated(components)
    assert repr(again) == repr(evaluated(in_process(tmp_path / "alone"))[0])
