"""Candidates for a unit's first board: from the control set, a word list, the store, or the language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from random import Random
from typing import Any

from line_neurons.agent.concepts import class_concept, concept_key, distinct, find_duplicate
from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control, Prompt
from line_neurons.agent.prompts import initial_prompt
from line_neurons.agent.scoreboard import draw_others
from line_neurons.agent.seeds import derive_rng, derive_seed
from line_neurons.graphs.loop import scoring
from line_neurons.graphs.loop.prompting import request_proposal
from line_neurons.graphs.loop.state import Deps
from line_neurons.tools.scorers import scorer_of
from line_neurons.tools.targets.registry import short_spec
from line_neurons.tools.targets.weights.versions import base_of

# Concepts whose images are measured in one go, so that not all of a large store are in memory at once.
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


def candidates(
    deps: Deps, unit: int, restart: int = 0, tried: Sequence[str] = (), found: Sequence[str] = ()
) -> Candidates:
    """Candidates for a board, best first and others (paper, section 3.2, with ``init`` of the settings).

    Args:
        deps: the graph's parts.
        unit: index of the unit.
        restart: how often the unit's search began anew.
        tried: concepts of its earlier searches; none of them comes on the board again.
        found: what these searches ended with; nothing that shares a word with it comes on the board.

    Raises:
        UsageError: the initial vocabulary is empty.
    """
    settings = deps.settings
    left_out = {concept_key(one) for one in (*settings.exclude, *settings.exclude_for.get(unit, ()), *tried)}

    def fits(concept: str) -> bool:
        return concept_key(concept) not in left_out and all(distinct(concept, label) for label in found)

    # A first board's seeds have no part for the restart, so that it is the same with and without restarts.
    again = (restart,) if restart else ()
    if settings.init == "model":
        named = _proposed(deps, again)
        return iter(()), (one for one in named if one.refused or fits(one.concept))
    scored = _RANKED[settings.init](deps, unit)
    words = list(scored)
    ranked = [word for word in words if fits(word)]
    if not ranked:
        raise UsageError("the initial vocabulary is empty", "name a larger one, or exclude less")
    rng = derive_rng("initial board", settings.seed, unit, *again)
    pool = _pool(words, settings.random_pool, settings.seed)
    if settings.init == "vocabulary":
        return iter(()), map(Candidate, draw_others(ranked, 0, rng, pool))
    best = _without_alphabet(ranked, scored, derive_rng("ties", settings.seed, unit, *again))
    # What is not among the best keeps its order, so that no draw depends on how ties among them came out.
    top = set(best[: settings.top])
    rest = [*best[: settings.top], *(word for word in ranked if word not in top)]
    others = draw_others(rest, settings.top, rng, pool) if settings.random else []
    return map(Candidate, best), map(Candidate, others)


def _without_alphabet(ranked: Sequence[str], scored: Mapping[str, float], rng: Random) -> list[str]:
    """Words by their score, those of the same score in random order."""
    drawn: list[str] = []
    for _, same in groupby(ranked, key=scored.__getitem__):
        words = list(same)
        rng.shuffle(words)
        drawn += words
    return drawn


def _pool(words: Sequence[str], size: int, seed: int) -> set[str]:
    """The words that all units of a run draw their random ones from first."""
    return set(derive_rng("random pool", seed).sample(sorted(words), min(size, len(words))))


def vocabulary(deps: Deps) -> set[str]:
    """Keys of the concepts that the search began with; a label that is not among them was discovered."""
    control = deps.control() if deps.settings.init == "control" else None
    return {concept_key(class_concept(name)) for name in (control.classes if control else deps.vocabulary)}


def rank_classes(control: Control, unit: int, scorer: str) -> dict[str, float]:
    """Names of the control classes as concepts with the unit's score, best first; ties by name.

    AUC and MAD compare each class with the control images of all other classes.
    """
    column, ranking = control.activations[:, unit], scorer_of(scorer)
    scored: dict[str, float] = {}
    for index, name in enumerate(control.classes):
        own = control.labels == index
        concept = class_concept(name)
        if not own.any() or not concept:
            continue
        value = ranking.one(column[own], column[~own] if ranking.needs_control else column)
        scored[concept] = max(value, scored.get(concept, value))
    return _by_score(scored)


def _by_score(scored: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(scored.items(), key=lambda pair: (-pair[1], pair[0])))


def _control_classes(deps: Deps, unit: int) -> dict[str, float]:
    control = deps.control()
    return rank_classes(control, unit, deps.settings.scorer) if control else {}


def _words(deps: Deps, unit: int) -> dict[str, float]:
    return dict.fromkeys(deps.vocabulary, 0.0)


def _kept_concepts(deps: Deps, unit: int) -> dict[str, float]:
    """The store's concepts by the unit's score on the images that it has of them."""
    fingerprint, count = deps.generator.fingerprint, deps.settings.images
    # Each has as many since before the run began, so that images of later runs don't change the ranking.
    images = {word: deps.cache.images_of(word, fingerprint, count) for word in deps.vocabulary}
    words = list(deps.vocabulary)
    scored = {}
    for start in range(0, len(words), _CONCEPTS_AT_ONCE):
        part = words[start : start + _CONCEPTS_AT_ONCE]
        values = iter(scoring.activate(deps, unit, [image for word in part for image in images[word]]))
        for word in part:
            scored[word] = scoring.score(deps, unit, [next(values) for _ in images[word]])
    return _by_score(scored)


_RANKED: dict[str, Callable[[Deps, int], dict[str, float]]] = {
    "control": _control_classes,
    "vocabulary": _words,
    "cache": _kept_concepts,
}


def _proposed(deps: Deps, again: tuple[int, ...]) -> Iterator[Candidate]:
    """Concepts that the language model names from the layer's context: the same ones for all units of a layer.

    ``again`` is the restart, if it is one: it asks for others with other seeds, again the same for all units.
    """
    settings = deps.settings
    units = next(info.units for info in deps.target.layers() if info.path == deps.layer)
    named: list[str] = list(settings.exclude)
    # A generator that can image none of the answers must not keep the model talking for ever.
    for index in range(5 * settings.capacity):
        refused: list[str] = []
        for attempt in range(settings.retries + 1):
            prompt = initial_prompt(base_of(short_spec(deps.model)), deps.layer, units, named, refused)
            answer = _answer(deps, prompt, named, (index, attempt, *again))
            yield answer
            if not answer.refused:
                named.append(answer.concept)
                break
            refused.append(answer.refused)
        else:
            return


def _answer(deps: Deps, prompt: Prompt, named: Sequence[str], request: tuple[int, ...]) -> Candidate:
    """Ask a question, named by its index, the attempt and, after the first board, the restart."""
    seed = derive_seed("ask initial", deps.settings.seed, *request)
    answer = asdict(request_proposal(deps, prompt, seed, attempt=request[1]))
    concept, refused = answer.pop("concept"), answer.pop("refusal")
    known = None if refused else find_duplicate(concept, named)
    return Candidate(concept, "proposed", f'"{known}" was named already.' if known else refused, answer)
