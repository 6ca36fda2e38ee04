"""Three simple baselines: a random word, the best word of the vocabulary, and LINE with N = 0."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import DrainedError, NotDrawableError, UsageError
from line_neurons.agent.seeds import derive_rng
from line_neurons.agent.setting_groups.guidance import FROM_LANGUAGE_MODEL
from line_neurons.agent.text import shell_line
from line_neurons.eval.baselines.task import BaselineTask
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.graphs.loop import scoring
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import recorded_settings, start, work
from line_neurons.tools.label_marks import UNLABELLED, describe_marks
from line_neurons.tools.scorers import layer_scorer, needs_control
from line_neurons.tools.store.records import Run, Unit

COMMAND = "line eval baseline initial"
"""The recorded command of runs that ``initial_label`` starts."""

_WORDS_AT_ONCE = 32


def random_label(task: BaselineTask) -> Labels:
    """Draw a word for each unit uniformly from the vocabulary; a function of (seed, unit, vocabulary)."""
    words = sorted(task.words)
    seed = task.components.settings.seed

    def drawn(place: int, unit: int) -> Label:
        fits = [word for word, fit in zip(words, allowed[place], strict=True) if fit]
        return Label(unit, derive_rng("random label", seed, unit).choice(fits))

    allowed = task.allowed(words)
    return task.as_labels("random", (drawn(place, unit) for place, unit in enumerate(task.units)))


def best_word(task: BaselineTask) -> Labels:
    """Score every word as LINE scores a concept, and return the best: an upper bound of a search of the words.

    Images and activations are cached; one forward pass serves all units. Words that cannot be generated are
    skipped.

    Raises:
        UsageError: no word can be generated.
        LineError: see ``scoring.generate`` and ``Cache.activations``.
    """
    components, words = task.components, task.words
    deps, progress = components.deps(task.layer), task.progress_for("words")
    columns = list(task.units)
    scorer = components.settings.scorer
    compared = task.control.columns(columns) if needs_control(scorer) else np.empty((0, len(columns)), np.float32)
    score = layer_scorer(scorer, compared)
    scores = np.full((len(columns), len(words)), -np.inf)
    for first in range(0, len(words), _WORDS_AT_ONCE):
        images: dict[int, list[str]] = {}
        for place in range(first, min(first + _WORDS_AT_ONCE, len(words))):
            try:
                images[place] = scoring.generate(deps, words[place])
            except NotDrawableError:
                continue
        if images:
            every = [image for image_ids in images.values() for image in image_ids]
            rows = components.cache.activations(
                every, components.target, task.layer, generator=components.generator
            )
            scores[:, list(images)] = score(rows[:, columns].reshape(len(images), -1, len(columns))).T
        if progress:
            progress(min(first + _WORDS_AT_ONCE, len(words)), len(words))
    imaged = np.flatnonzero(np.isfinite(scores).all(0))
    if not len(imaged):
        raise UsageError("no word of the vocabulary can be generated", "name another --vocabulary")
    return task.best("best-word", scores[:, imaged], [words[place] for place in imaged])


def initial_label(task: BaselineTask) -> Labels:
    """Return the best concept of each unit's initial scoreboard, of the task's run or a new one with N = 0.

    An unfinished run of an earlier call with the same settings and units is resumed.

    Raises:
        UsageError: the run has no initial scoreboard of a unit, or all concepts of each score the same.
        LineError: see ``lifecycle.work``.
        DrainedError: a stop was requested.
    """
    if task.source:
        return _of_run(task, task.source)
    components = _without_iteration(task)
    units = [str(unit) for unit in task.units]
    command = shell_line([COMMAND, *units])
    run = _known(components, task.layer, command) or start(components, task.layer, units, command=command)
    if run.status != "finished":
        run = work(components, run, drain=task.drain)
    if run.status == "interrupted":
        raise DrainedError
    return _of_run(task, run.id)


_NO_ITERATION = {
    "iterations": 0,
    "summary": False,
    "patience": 0,
    "max_iterations": None,
    "restarts": 0,
    "facets": 0,
    "revisit": False,
}


def _without_iteration(task: BaselineTask) -> Components:
    """Return the task's components, without iterations in their settings; opened models are shared."""
    settings = task.components.settings
    excluded = settings.exclude_for | {unit: tuple(words) for unit, words in task.excluded.items()}
    # No request is sent, so no server is needed, unless the language model proposes the initial scoreboard.
    llm = settings.llm if settings.init in FROM_LANGUAGE_MODEL else "random"
    changes = {**_NO_ITERATION, "exclude_for": excluded, "llm": llm}
    shared = {name: part for name, part in task.components.opened().items() if name != "language_model"}
    return replace(task.components, settings=settings.model_copy(update=changes)).with_(**shared)


def _known(components: Components, layer: str, command: str) -> Run | None:
    # As the store returns it, with keys as text.
    settings = json.loads(json.dumps(recorded_settings(components.settings)))
    wanted = (components.spec, layer, command, settings)
    runs = components.runs.runs()
    return next((run for run in runs if (run.model, run.layer, run.command, run.settings) == wanted), None)


def _of_run(task: BaselineTask, run: str) -> Labels:
    units = {unit.unit: unit for unit in task.components.runs.units(run)}
    labels, without, tied = [], [], []
    for unit in task.units:
        found = units.get(unit)
        scores = _first_scores(task, run, unit)
        if found is not None and (why := _unlabelled(found, scores)):
            without.append((unit, why))
            continue
        if found is None or not found.initial_label:
            raise UsageError(
                f"run {run} has no initial scoreboard of unit {unit}", f"line resume {run}, or other --units"
            )
        labels.append(Label(unit, found.initial_label, found.initial_score))
        if sum(score == max(scores.values()) for score in scores.values()) > 1:
            tied.append(unit)
    return replace(task.as_labels("initial", labels, without, tied), source=run)


def _unlabelled(unit: Unit, scores: Mapping[str, float]) -> str:
    """Return why no concept of a unit's initial scoreboard can be its label; empty if one can."""
    if len(scores) > 1 and len(set(scores.values())) == 1:
        return f"all {len(scores)} concepts of the initial scoreboard score the same"
    return describe_marks(unit.marks) if unit.status in UNLABELLED else ""


def _first_scores(task: BaselineTask, run: str, unit: int) -> dict[str, float]:
    """Return the scores of a unit's initial scoreboard, by the key of the concept."""
    return {
        concept_key(trial.concept): trial.score
        for trial in task.components.runs.trials(run, unit)
        if trial.kind == "initial" and trial.step == 0 and trial.concept and trial.score is not None
    }
