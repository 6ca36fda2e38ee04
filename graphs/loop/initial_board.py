"""Candidates for a unit's first board, from the control set, a word list, the cache or the language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, groupby
from random import Random
from typing import Any

from line_neurons.agent.concepts import class_concept, concept_key, distinct, find_duplicate
from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Prompt
from line_neurons.agent.prompts import initial_prompt
from line_neurons.agent.scoreboard import draw_others
from line_neurons.agent.seeds import derive_rng, derive_seed
from line_neurons.agent.setting_groups.guidance import FROM_CONTROL_SET
from line_neurons.graphs.loop import scoring
from line_neurons.graphs.loop.found_images import OtherImages
from line_neurons.graphs.loop.prompting import request_proposal
from line_neurons.graphs.loop.state import Deps
from line_neurons.graphs.loop.strong_images import named_concepts
from line_neurons.tools.control_sets.class_scores import by_score, rank_classes
from line_neurons.tools.target_specs import short_spec, unversioned_spec

# Concepts measured at once, so that not all of a large store are in memory.
_CONCEPTS_AT_ONCE = 64


@dataclass(frozen=True)
class Candidate:
    """A concept that may come on the first board, or a refused reply.

    Args:
        origin: ``predefined``, or ``proposed`` by the language model.
        refused: why the reply was refused; empty for a candidate.
        request: the request to the language model and its reply, by column of the history.
        detail: what else the history records of it.
    """

    concept: str
    origin: str = "predefined"
    refused: str = ""
    request: Mapping[str, Any] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)


Candidates = tuple[Iterator[Candidate], Iterator[Candidate]]
"""Those for the best places, in order; then those for all places that are left, in random order."""


def candidates(
    deps: Deps,
    unit: int,
    restart: int = 0,
    tried: Sequence[str] = (),
    found: Sequence[str] = (),
    images: OtherImages | None = None,
) -> Candidates:
    """Choose candidates for a board (paper, section 3.2, with ``init`` of the settings).

    After a restart by words none of the concepts ``tried`` by earlier searches comes on the board again, and
    nothing that shares a word with a best concept ``found`` by them. After one by ``images`` the best concepts
    that they scored and that have none of these come first, then the others by their scores; ``tried`` are
    then the banned ones.

    Raises:
        UsageError: the initial vocabulary is empty.
    """
    settings = deps.settings
    barred = {concept_key(name) for name in tried} | (images.control_classes() if images else set())
    excluded = barred | {concept_key(name) for name in (*settings.exclude, *settings.exclude_for.get(unit, ()))}
    others = images.others() if images else {}
    known = {word: score for word, score in others.items() if concept_key(word) not in excluded}

    def fits(concept: str) -> bool:
        if concept_key(concept) in excluded:
            return False
        return images is not None or all(distinct(concept, label) for label in found)

    # The first board's seeds do not depend on the restart, so that it is the same with and without restarts.
    again = (restart,) if restart else ()
    if settings.init == "model":
        named = _proposed(deps, again)
        fitting = (candidate for candidate in named if candidate.refused or fits(candidate.concept))
        return map(Candidate, known), fitting
    scored = _RANKINGS[settings.init](deps, unit)
    if settings.init == "images" and not scored:
        return chain(map(Candidate, known), _from_images(deps, unit, again, fits)), iter(())
    words = list(scored)
    keys = {concept_key(word) for word in known}
    ranked = [word for word in words if fits(word) and concept_key(word) not in keys]
    if not ranked and not known:
        raise UsageError("the initial vocabulary is empty", "name a larger one, or exclude less")
    rng = derive_rng("initial board", settings.seed, unit, *again)
    pool = _random_pool(words, settings.random_pool, settings.seed)
    if settings.init == "vocabulary":
        return map(Candidate, known), map(Candidate, draw_others(ranked, 0, rng, pool))
    best = _with_shuffled_ties(ranked, scored, derive_rng("ties", settings.seed, unit, *again))
    # The others keep their order, so that no draw depends on how ties among the best came out.
    top = set(best[: settings.top])
    rest = [*best[: settings.top], *(word for word in ranked if word not in top)]
    drawn = draw_others(rest, settings.top, rng, pool) if settings.random else []
    if known:
        first, *further = known
        best = [first, *by_score({word: scored[word] for word in best} | {word: known[word] for word in further})]
    strongest: Iterator[Candidate] = map(Candidate, best)
    if settings.init == "images":
        # Where the language model names too few, the best classes follow, as ever.
        first_known = map(Candidate, list(known)[:1])
        strongest = chain(first_known, _from_images(deps, unit, again, fits), strongest)
    return strongest, map(Candidate, drawn)


def _from_images(
    deps: Deps, unit: int, again: tuple[int, ...], fits: Callable[[str], bool]
) -> Iterator[Candidate]:
    for found in named_concepts(deps, unit, again, fits):
        detail = {"images": found.images} if found.images else {}
        yield Candidate(found.concept, "proposed", found.refused, found.request, detail)


def _with_shuffled_ties(ranked: Sequence[str], scored: Mapping[str, float], rng: Random) -> list[str]:
    """Sort words by score, those of the same score in random order."""
    order: list[str] = []
    for _, same in groupby(ranked, key=scored.__getitem__):
        words = list(same)
        rng.shuffle(words)
        order += words
    return order


def _random_pool(words: Sequence[str], size: int, seed: int) -> set[str]:
    """Draw the words that all units of a run take their random ones from first."""
    return set(derive_rng("random pool", seed).sample(sorted(words), min(size, len(words))))


def vocabulary(deps: Deps) -> set[str]:
    """Return the keys of the initial vocabulary; a label that is not among them was discovered."""
    control = deps.control() if deps.settings.init in FROM_CONTROL_SET else None
    return {concept_key(class_concept(name)) for name in (control.classes if control else deps.vocabulary)}


def _control_classes(deps: Deps, unit: int) -> dict[str, float]:
    control = deps.control()
    return rank_classes(control, unit, deps.settings.scorer) if control else {}


def _words(deps: Deps, unit: int) -> dict[str, float]:
    return dict.fromkeys(deps.vocabulary, 0.0)


def _cached_concepts(deps: Deps, unit: int) -> dict[str, float]:
    """Score the cache's concepts on the images that it has of them."""
    fingerprint, count = deps.generator.fingerprint, deps.settings.images
    # As many of each as when the run began, so that images of later runs do not change the ranking.
    images = {word: deps.cache.images_of(word, fingerprint, count) for word in deps.vocabulary}
    words = list(deps.vocabulary)
    scored = {}
    for start in range(0, len(words), _CONCEPTS_AT_ONCE):
        part = words[start : start + _CONCEPTS_AT_ONCE]
        values = iter(scoring.activate(deps, unit, [image for word in part for image in images[word]]))
        for word in part:
            scored[word] = scoring.score(deps, unit, [next(values) for _ in images[word]])
    return by_score(scored)


_RANKINGS: dict[str, Callable[[Deps, int], dict[str, float]]] = {
    "control": _control_classes,
    "images": _control_classes,
    "vocabulary": _words,
    "cache": _cached_concepts,
}


def _proposed(deps: Deps, again: tuple[int, ...]) -> Iterator[Candidate]:
    """Let the language model name concepts from the layer's context: the same for all units of the layer.

    ``again`` holds the restart, if it is one: other seeds name other concepts, again the same for all units.
    """
    settings = deps.settings
    units = next(info.units for info in deps.target.layers() if info.path == deps.layer)
    named: list[str] = list(settings.exclude)
    # Bounded, as a generator may draw none of the concepts.
    for index in range(5 * settings.capacity):
        refused: list[str] = []
        for attempt in range(settings.retries + 1):
            prompt = initial_prompt(unversioned_spec(short_spec(deps.model)), deps.layer, units, named, refused)
            candidate = _request_candidate(deps, prompt, named, (index, attempt, *again))
            yield candidate
            if not candidate.refused:
                named.append(candidate.concept)
                break
            refused.append(candidate.refused)
        else:
            return


def _request_candidate(deps: Deps, prompt: Prompt, named: Sequence[str], request: tuple[int, ...]) -> Candidate:
    """Send a request, which is identified by its index, the attempt and the restart, if it is one."""
    seed = derive_seed("ask initial", deps.settings.seed, *request)
    reply = asdict(request_proposal(deps, prompt, seed, attempt=request[1]))
    concept, refused, _ = (reply.pop(name) for name in ("concept", "refusal", "named"))
    known = None if refused else find_duplicate(concept, named)
    return Candidate(concept, "proposed", f'"{known}" was named already.' if known else refused, reply)
