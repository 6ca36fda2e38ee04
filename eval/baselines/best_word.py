"""Every word of the vocabulary, scored as LINE scores a concept: the best that a search of the words can find."""

from __future__ import annotations

import numpy as np

from line_neurons.agent.errors import NotDrawableError, UsageError
from line_neurons.eval.baselines.task import Task
from line_neurons.eval.labels.formats import Labels
from line_neurons.graphs.loop import scoring
from line_neurons.tools.scorers import layer_scorer, needs_control

_WORDS_AT_ONCE = 32


def label(task: Task) -> Labels:
    """The word whose images excite each unit most, by the run's generator, number of images and scorer.

    Images and activations are those of the concept bank; one forward pass serves all units. A word that the
    generator cannot image does not count.

    Raises:
        UsageError: no word can be generated.
        LineError: see ``scoring.draw`` and ``Cache.activations``.
    """
    components, words = task.components, task.words
    deps, told = components.deps(task.layer), task.told("words")
    columns = list(task.units)
    scorer = components.settings.scorer
    compared = (
        task.control.activations[:, columns] if needs_control(scorer) else np.empty((0, len(columns)), np.float32)
    )
    score = layer_scorer(scorer, compared)
    scores = np.full((len(columns), len(words)), -np.inf)
    for start in range(0, len(words), _WORDS_AT_ONCE):
        images: dict[int, list[str]] = {}
        for place in range(start, min(start + _WORDS_AT_ONCE, len(words))):
            try:
                images[place] = scoring.draw(deps, words[place])
            except NotDrawableError:
                continue
        if images:
            every = [image for image_ids in images.values() for image in image_ids]
            rows = components.bank.activations(
                every, components.target, task.layer, generator=components.generator
            )
            scores[:, list(images)] = score(rows[:, columns].reshape(len(images), -1, len(columns))).T
        if told:
            told(min(start + _WORDS_AT_ONCE, len(words)), len(words))
    imaged = np.flatnonzero(np.isfinite(scores).all(0))
    if not len(imaged):
        raise UsageError("the generator can image no word of the vocabulary", "name another --vocabulary")
    return task.best("best-word", scores[:, imaged], [words[place] for place in imaged])
