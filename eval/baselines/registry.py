"""The baselines by name: what each is, how it is called, and the form of its files."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.eval.baselines import clip_dissect, describe_and_dissect, invert, simple
from line_neurons.eval.baselines.task import BaselineTask
from line_neurons.eval.labels.formats import Labels, write_csv
from line_neurons.eval.labels.names import file_stem
from line_neurons.eval.labels.vocabulary import LabelVocabulary, vocabulary_of_run, write_vocabulary


@dataclass(frozen=True)
class Baseline:
    """A baseline.

    Args:
        label: labels the units of a task; its keyword arguments are the method's own options.
        form: key of ``labels.WRITE_FORMATS`` for its files.
        words: the words that it chooses from; None: a language model names whatever it likes.
    """

    label: Callable[..., Labels]
    form: str = "clip-dissect"
    words: Callable[[BaselineTask], tuple[str, ...]] | None = attrgetter("words")

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the method's own options."""
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
    """The labels that a method gives the units of a task, one each, in their order.

    Args:
        method: key of ``METHODS``.
        task: what is labelled.
        options: the method's own; those that are None are left at the defaults, which are the authors'.

    Raises:
        UsageError: there is no such method, or it has no such option.
        DrainedError: it was asked to stop; what was measured is kept.
        LineError: see the method.
    """
    given = check_options(method, options)
    return METHODS[method].label(task, **given)


def check_options(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, which the method has.

    Raises:
        UsageError: there is no such method, or it has no such option.
    """
    if method not in METHODS:
        raise UsageError(f"there is no baseline {method!r:.40}", f"use {', '.join(METHODS)}")
    given = {name: value for name, value in options.items() if value is not None}
    known = METHODS[method].options
    for name in given:
        if name not in known:
            others = ", ".join(f"--{one}" for one in known) or "none"
            raise UsageError(f"{method} has no option --{name}", f"its options: {others}")
    return given


def label_vocabulary(method: str, task: BaselineTask, labels: Labels) -> LabelVocabulary:
    """What the labels that a method gave the units of a task could be chosen from."""
    if method == "initial":
        return vocabulary_of_run(task.components.runs.run(labels.source), task.components.store)
    words = METHODS[method].words
    by_unit = {unit: tuple(names) for unit, names in task.excluded.items()}
    return LabelVocabulary(
        words(task) if words else None, task.components.settings.exclude, by_unit, open=words is None
    )


def write_labels(labels: Labels, path: Path, choice: LabelVocabulary) -> None:
    """Write labels in the form of the method that gave them, and beside them what they could be chosen from.

    Raises:
        UsageError: the file cannot be written.
    """
    if isinstance(labels, describe_and_dissect.RankedLabels):
        describe_and_dissect.write_csv(labels, path)
    else:
        form = next((one.form for name, one in METHODS.items() if labels.method.startswith(name)), "clip-dissect")
        write_csv(labels, path, form)
    write_vocabulary(choice, path)


def default_path(store: Path, labels: Labels) -> Path:
    """Where a store keeps the labels of a method, as CoSy lays out what it evaluates."""
    vocabulary_of_run = [labels.source] if labels.source != labels.method else []
    return Path(
        store, "explanations", labels.method, *vocabulary_of_run, f"{file_stem(labels.model, labels.layer)}.csv"
    )
