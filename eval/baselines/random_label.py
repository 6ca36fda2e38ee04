"""A random word of the vocabulary: the floor."""

from __future__ import annotations

from line_neurons.agent.seeds import derive_rng
from line_neurons.eval.baselines.task import Task
from line_neurons.eval.labels.formats import Label, Labels


def label(task: Task) -> Labels:
    """A word for each unit, drawn uniformly from the vocabulary; a function of (seed, unit, vocabulary)."""
    words = sorted(task.words)
    seed = task.components.settings.seed

    def drawn(place: int, unit: int) -> Label:
        fits = [word for word, fit in zip(words, allowed[place], strict=True) if fit]
        return Label(unit, derive_rng("random label", seed, unit).choice(fits))

    allowed = task.allowed(words)
    return task.labelled("random", (drawn(place, unit) for place, unit in enumerate(task.units)))
