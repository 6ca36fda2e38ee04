"""Candidates for a unit's first board: from the control set, a word list, the store, or the language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control, Prompt
from line_neurons.agent.prompts import initial_prompt
from line_neurons.agent.proposal import class_concept, concept_key, find_duplicate
from line_neurons.agent.scoreboard import choose_initial
from line_neurons.agent.seeds import derive_rng, derive_seed
from line_neurons.graphs import scoring
from line_neurons.graphs.asking import ask
from line_neurons.graphs.state import Deps
from line_neurons.tools.scorers import SCORERS
from line_neurons.tools.targets.registry import short_spec

# Concepts whose pictures are measured in one go, so that not all of a large store are in memory at once.
_CONCEPTS_AT_ONCE = 64


@dataclass(frozen=True)
class Candidate:
    """A concept that may come on the first board, or an answer that named none.

    Args:
        concept: the concept; of a refused answer the one that it gave, if any.
        origin: ``predefined``, or ``proposed`` by the language model.
        refused: why the answer was refused; empty for a candidate.
        asked: how the language model was asked and what it said, by column of the history.
    """

    concept: str
    origin: str = "predefined"
    refused: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)


Candidates = tuple[Iterator[Candidate], Iterator[Candidate]]
"""Those for the best places, in order; then those for all places that are left, in random order."""


def candidates(deps: Deps, unit: int) -> Candidates:
    """Candidates for the first board, best first and others (paper, section 3.2, with ``init`` of the settings).

    Raises:
        UsageError: the initial vocabulary is empty.
    """
    settings = deps.settings
    left_out = {concept_key(concept) for concept in (*settings.exclude, *settings.exclude_for.get(unit, ()))}
    if settings.init == "model":
        named = _proposed(deps)
        return iter(()), (one for one in named if one.refused or concept_key(one.concept) not in left_out)
    ranked = [word for word in _RANKED[settings.init](deps, unit) if concept_key(word) not in left_out]
    if not ranked:
        raise UsageError("the initial vocabulary is empty", "name a larger one, or exclude less")
    rng = derive_rng("initial board", settings.seed, unit)
    if settings.init == "vocabulary":
        rng.shuffle(ranked)
        return iter(()), map(Candidate, ranked)
    best, others = choose_initial(ranked, settings.top, settings.random, rng)
    return map(Candidate, best), map(Candidate, others)


def vocabulary(deps: Deps) -> set[str]:
    """Keys of the concepts that the search began with; a label that is not among them was discovered."""
    control = deps.control() if deps.settings.init == "control" else None
    return {concept_key(class_concept(name)) for name in (control.classes if control else deps.vocabulary)}


def rank_classes(control: Control, unit: int, scorer: str) -> list[str]:
    """Names of the control classes as concepts, best score of the unit first; ties by name.

    AUC and MAD compare each class with the control pictures of all other classes.
    """
    column = control.activations[:, unit]
    scored: dict[str, float] = {}
    for index, name in enumerate(control.classes):
        own = control.labels == index
        concept = class_concept(name)
        if not own.any() or not concept:
            continue
        value = SCORERS[scorer](column[own], column[~own] if scorer != "mean" else column)
        scored[concept] = max(value, scored.get(concept, value))
    return _by_score(scored)


def _by_score(scored: Mapping[str, float]) -> list[str]:
    return sorted(scored, key=lambda concept: (-scored[concept], concept))


def _control_classes(deps: Deps, unit: int) -> list[str]:
    control = deps.control()
    return rank_classes(control, unit, deps.settings.scorer) if control else []


def _words(deps: Deps, unit: int) -> list[str]:
    return list(deps.vocabulary)


def _kept_concepts(deps: Deps, unit: int) -> list[str]:
    """The store's concepts by the unit's score on the pictures that it has of them."""
    fingerprint, count = deps.generator.fingerprint, deps.settings.images
    # Each has as many since before the run began, so that pictures of later runs don't change the ranking.
    pictures = {word: deps.bank.pictures_of(word, fingerprint, count) for word in deps.vocabulary}
    words = list(deps.vocabulary)
    scored = {}
    for start in range(0, len(words), _CONCEPTS_AT_ONCE):
        part = words[start : start + _CONCEPTS_AT_ONCE]
        values = iter(scoring.activate(deps, unit, [image for word in part for image in pictures[word]]))
        for word in part:
            scored[word] = scoring.score(deps, unit, [next(values) for _ in pictures[word]])
    return _by_score(scored)


_RANKED: dict[str, Callable[[Deps, int], Sequence[str]]] = {
    "control": _control_classes,
    "vocabulary": _words,
    "bank": _kept_concepts,
}


def _proposed(deps: Deps) -> Iterator[Candidate]:
    """Concepts that the language model names from the layer's context: the same ones for all units of a layer."""
    settings = deps.settings
    units = next(info.units for info in deps.target.layers() if info.path == deps.layer)
    named: list[str] = list(settings.exclude)
    # A generator that can picture none of the answers must not keep the model talking for ever.
    for index in range(5 * settings.capacity):
        refused: list[str] = []
        for attempt in range(settings.retries + 1):
            prompt = initial_prompt(short_spec(deps.model), deps.layer, units, named, refused)
            answer = _answer(deps, prompt, named, index, attempt)
            yield answer
            if not answer.refused:
                named.append(answer.concept)
                break
            refused.append(answer.refused)
        else:
            return


def _answer(deps: Deps, prompt: Prompt, named: Sequence[str], index: int, attempt: int) -> Candidate:
    answer = asdict(ask(deps, prompt, derive_seed("ask initial", deps.settings.seed, index, attempt), attempt))
    concept, refused = answer.pop("concept"), answer.pop("unusable")
    known = None if refused else find_duplicate(concept, named)
    return Candidate(concept, "proposed", f'"{known}" was named already.' if known else refused, answer)
