"""The baselines by name, with their options and file formats."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import choices
from line_neurons.eval.baselines import clip_dissect, describe_and_dissect, invert, simple
from line_neurons.eval.baselines.task import BaselineTask
from line_neurons.eval.labels.formats import write_csv
from line_neurons.eval.labels.labels import Labels
from line_neurons.eval.labels.names import file_stem
from line_neurons.eval.labels.vocabulary import LabelVocabulary, vocabulary_of_run, write_vocabulary


@dataclass(frozen=True)
class Baseline:
    """A baseline.

    Args:
        label: labels the units of a task; its keyword arguments are the method's options.
        form: key of ``formats.WRITE_FORMATS`` for its files.
        words: the words that it chooses from; None: a language model proposes labels freely.
    """

    label: Callable[..., Labels]
    form: str = "clip-dissect"
    words: Callable[[BaselineTask], tuple[str, ...]] | None = attrgetter("words")

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the method's options."""
        return tuple(inspect.signature(self.label).parameters)[1:]


METHODS: dict[str, Baseline] = {
    "random": Baseline(simple.random_label),
    "initial": Baseline(simple.initial_label),
    "best-word": Baseline(simple.best_word),
    "invert": Baseline(invert.label, "invert", attrgetter("captions")),
    "clip-dissect": Baseline(clip_dissect.label),
    "describe-and-dissect": Baseline(describe_and_dissect.label, words=None),
}


def label_units(method: str, task: BaselineTask, **options: Any) -> Labels:
    """Label the units of a task by a method, in their order.

    Args:
        method: key of ``METHODS``.
        options: the method's; those that are None have their defaults, which are the authors'.

    Raises:
        UsageError: there is no such method, or it has no such option.
        DrainedError: a stop was requested; what was measured is cached.
        LineError: see the method.
    """
    given = check_options(method, options)
    return METHODS[method].label(task, **given)


def check_options(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given; the method has each of them.

    Raises:
        UsageError: there is no such method, or it has no such option.
    """
    if method not in METHODS:
        raise UsageError(f"there is no baseline {method!r:.40}", choices(method, METHODS))
    given = {name: value for name, value in options.items() if value is not None}
    known = METHODS[method].options
    for name in given:
        if name not in known:
            others = ", ".join(f"--{option}" for option in known) or "none"
            raise UsageError(f"{method} has no option --{name}", f"its options: {others}")
    return given


def label_vocabulary(method: str, task: BaselineTask, labels: Labels) -> LabelVocabulary:
    """Return the vocabulary that a method's labels of a task were chosen from."""
    if method == "initial":
        return vocabulary_of_run(task.components.runs.run(labels.source), task.components.store)
    words = METHODS[method].words
    by_unit = {unit: tuple(names) for unit, names in task.excluded.items()}
    return LabelVocabulary(
        words(task) if words else None, task.components.settings.exclude, by_unit, open=words is None
    )


def write_labels(labels: Labels, path: Path, choice: LabelVocabulary) -> None:
    """Write labels in the format of their method, and their vocabulary beside them.

    Raises:
        UsageError: the file cannot be written.
    """
    if isinstance(labels, describe_and_dissect.RankedLabels):
        describe_and_dissect.write_csv(labels, path)
    else:
        form = next(
            (method.form for name, method in METHODS.items() if labels.method.startswith(name)), "clip-dissect"
        )
        write_csv(labels, path, form)
    write_vocabulary(choice, path)


def default_path(store: Path, labels: Labels) -> Path:
    """Return the path of a method's labels in a store, in CoSy's layout."""
    vocabulary_of_run = [labels.source] if labels.source != labels.method else []
    return Path(
        store, "explanations", labels.method, *vocabulary_of_run, f"{file_stem(labels.model, labels.layer)}.csv"
    )
