"""Every unit against every concept: the best for each unit, and the best that shares no word with its label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from line_neurons.agent.concepts import concept_key, concept_words
from line_neurons.agent.errors import BackendError, StoreError
from line_neurons.graphs.loop.state import Deps
from line_neurons.tools.scorers import layer_scorer, needs_control
from line_neurons.tools.targets.lookup import layer_fingerprint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations, Progress
    from line_neurons.tools.scorers import LayerScorer

    Table = NDArray[np.float64]

# Whole-layer vectors in memory at once: 4 MB of 2,048 units.
_IMAGES_AT_ONCE = 512


class Concept(NamedTuple):
    """A concept with the ids of its images; in other images it counts as another."""

    text: str
    images: tuple[str, ...]


class Best(NamedTuple):
    """The best concept for a place.

    Args:
        concept: the concept.
        score: its score.
        tied: a concept of another text has the same score.
    """

    concept: Concept
    score: float
    tied: bool


Recorded = Mapping[Concept, Sequence[tuple[int, float]]]


def best_and_second(
    deps: Deps,
    concepts: Sequence[Concept],
    units: Sequence[int],
    own: Sequence[tuple[str, float]],
    recorded: Recorded,
    progress: Progress | None = None,
    forbidden: Mapping[str, Sequence[int]] | None = None,
) -> tuple[list[Best | None], list[Best | None]]:
    """The best concept for each unit with the run's scorer, of equal ones the first, and the second best.

    What shares no word with the label is only known with the label, so all concepts are scored twice; keeping
    every score would take memory for units times concepts.

    Args:
        deps: the graph's parts.
        concepts: the concepts, each with equally many images, in the order that settles ties.
        units: indices of units; one may come several times.
        own: for each of ``units`` the best concept of its own search, and its score.
        recorded: for each concept the scores known before, as (place in ``units``, score); these count.
        progress: told of the concepts compared.
        forbidden: places in ``units`` by the key of a concept that must not be their label.

    Returns:
        For each of ``units`` the best concept: its own, unless another one scores higher; and the best of the
        concepts that share no word with it, None if there is none. The first is None where every concept is
        forbidden.

    Raises:
        LostImageError: an image that has to be measured anew has gone, and cannot be drawn anew.
        BackendError: the target failed, or an activation is not finite.
    """

    def told(part: int) -> Progress | None:
        return (lambda done, total: progress(part * total + done, 2 * total)) if progress else None

    def tables(part: int) -> Iterator[tuple[int, Table]]:
        return _allowed(concepts, forbidden or {}, _tables(deps, concepts, units, recorded, told(part)))

    best = _best(concepts, tables(0), len(units))
    naming: dict[str, list[int]] = defaultdict(list)
    for place, (found, (text, score)) in enumerate(zip(best, own, strict=True)):
        for word in concept_words(found.concept.text if found and found.score > score else text):
            naming[word].append(place)
    others = _without(concepts, naming, tables(1))
    return best, _best(concepts, others, len(units))


def _tables(
    deps: Deps, concepts: Sequence[Concept], units: Sequence[int], recorded: Recorded, progress: Progress | None
) -> Iterator[tuple[int, Table]]:
    """Scores of some concepts at a time, float64 [concepts, units], with the index of the first concept."""
    import numpy as np

    columns = np.asarray(units)
    score = _scorer(deps, columns)
    at_once = max(1, _IMAGES_AT_ONCE // len(concepts[0].images))
    for start in range(0, len(concepts), at_once):
        part = concepts[start : start + at_once]
        vectors = _vectors(deps, [image for concept in part for image in concept.images])
        table = score(vectors[:, columns].reshape(len(part), -1, len(units)))
        # A vector that was lost and measured anew may differ in the last digits from what the search saw.
        for row, concept in enumerate(part):
            for place, value in recorded.get(concept, ()):
                table[row, place] = value
        yield start, table
        if progress:
            progress(start + len(part), len(concepts))


def _scorer(deps: Deps, units: NDArray[np.int64]) -> LayerScorer:
    import numpy as np

    name = deps.settings.scorer
    control = deps.control() if needs_control(name) else None
    compared = control.activations[:, units] if control else np.empty((0, len(units)), np.float32)
    try:
        score = layer_scorer(name, compared)
    except ValueError as error:
        raise BackendError(f"layer {deps.layer} cannot be scored: {error}") from error

    def explained(activations: Activations) -> Table:
        try:
            return score(activations)
        except ValueError as error:
            raise BackendError(f"layer {deps.layer} cannot be scored: {error}") from error

    return explained


def _vectors(deps: Deps, images: Sequence[str]) -> Activations:
    """Activations of all units of the layer on the images; what the bank has lost is measured anew."""
    try:
        return deps.cache.vectors(images, layer_fingerprint(deps.target, deps.layer), deps.layer)
    except StoreError:
        return deps.cache.activations(images, deps.target, deps.layer, generator=deps.generator)


def _best(concepts: Sequence[Concept], tables: Iterator[tuple[int, Table]], places: int) -> list[Best | None]:
    """Each place's best concept with its score, the first of equals; None where every score is minus infinity."""
    import numpy as np

    numbers: dict[str, int] = {}
    # Concepts that count as the same have one number.
    same = np.array([numbers.setdefault(concept_key(one.text), len(numbers)) for one in concepts])
    scores, which, everyone = np.full(places, -np.inf), np.full(places, -1), np.arange(places)
    tied = np.zeros(places, bool)
    for start, table in tables:
        rows = table.argmax(0)
        values = table[rows, everyone]
        better = values > scores
        scores[better], which[better], tied[better] = values[better], rows[better] + start, False
        others = same[start : start + len(table), None] != same[which][None]
        tied |= (which >= 0) & ((table == scores) & others).any(0)
    return [
        Best(concepts[index], float(score), bool(equal)) if index >= 0 else None
        for index, score, equal in zip(which, scores, tied, strict=True)
    ]


def _allowed(
    concepts: Sequence[Concept], forbidden: Mapping[str, Sequence[int]], tables: Iterator[tuple[int, Table]]
) -> Iterator[tuple[int, Table]]:
    """The tables with minus infinity where a concept must not be a place's label."""
    for start, table in tables:
        if forbidden:
            for row, concept in enumerate(concepts[start : start + len(table)]):
                table[row, forbidden.get(concept_key(concept.text), [])] = float("-inf")
        yield start, table


def _without(
    concepts: Sequence[Concept], naming: Mapping[str, list[int]], tables: Iterator[tuple[int, Table]]
) -> Iterator[tuple[int, Table]]:
    """The tables with minus infinity where a concept shares a word with a place's label.

    Args:
        concepts: all concepts.
        naming: for each word the places whose label has it.
        tables: scores of concepts by place.
    """
    for start, table in tables:
        for row, concept in enumerate(concepts[start : start + len(table)]):
            for word in concept_words(concept.text) & naming.keys():
                table[row, naming[word]] = float("-inf")
        yield start, table
