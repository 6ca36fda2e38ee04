"""Every unit against every concept: the best for each unit, and the best that shares no word with its label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from line_neurons.agent.concepts import concept_key, concept_words
from line_neurons.agent.errors import BackendError, StoreError
from line_neurons.graphs.loop.state import Deps
from line_neurons.tools.scorers import layer_scorer, needs_control
from line_neurons.tools.targets.base import layer_fingerprint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations, Progress
    from line_neurons.tools.scorers import LayerScorer

    Table = NDArray[np.float64]

# Whole-layer vectors in memory at once: 4 MB of 2,048 units.
_IMAGES_AT_ONCE = 512


class ImagedConcept(NamedTuple):
    """A concept with the ids of its images; with different images it counts as a different concept."""

    text: str
    images: tuple[str, ...]


class Best(NamedTuple):
    """The best concept for a unit.

    Args:
        tied: a concept with a different text has the same score.
    """

    concept: ImagedConcept
    score: float
    tied: bool


RecordedScores = Mapping[ImagedConcept, Sequence[tuple[int, float]]]


def best_and_second(
    deps: Deps,
    concepts: Sequence[ImagedConcept],
    units: Sequence[int],
    own: Sequence[tuple[str, float]],
    recorded: RecordedScores,
    progress: Progress | None = None,
    forbidden: Mapping[str, Sequence[int]] | None = None,
) -> tuple[list[Best | None], list[Best | None]]:
    """Find the best concept for each unit with the run's scorer, of equal ones the first, and the second best.

    Which concepts share no word with the label is known only with the label, so all are scored twice; keeping all
    scores would take memory for units times concepts.

    Args:
        concepts: the concepts, each with equally many images, in the order that settles ties.
        units: indices of units; one may occur several times.
        own: for each of ``units`` the best concept of its own search, and its score.
        recorded: for each concept the recorded scores, as (place in ``units``, score); these take precedence.
        progress: called with the number of concepts compared.
        forbidden: places in ``units`` by the key of a concept that is banned there.

    Returns:
        For each of ``units`` the best concept, and the best of those that share no word with the label, which is
        the unit's own best unless another scores higher. None where every concept is excluded.

    Raises:
        LostImageError: an image to be measured again is missing, and cannot be generated again.
        BackendError: the target failed, or an activation is not finite.
    """

    def half(part: int) -> Progress | None:
        return (lambda done, total: progress(part * total + done, 2 * total)) if progress else None

    def tables(part: int) -> Iterator[tuple[int, Table]]:
        return _without_banned(concepts, forbidden or {}, _tables(deps, concepts, units, recorded, half(part)))

    best = _best(concepts, tables(0), len(units))
    naming: dict[str, list[int]] = defaultdict(list)
    for place, (candidate, (text, score)) in enumerate(zip(best, own, strict=True)):
        for word in concept_words(candidate.concept.text if candidate and candidate.score > score else text):
            naming[word].append(place)
    others = _without_shared_words(concepts, naming, tables(1))
    return best, _best(concepts, others, len(units))


def _tables(
    deps: Deps,
    concepts: Sequence[ImagedConcept],
    units: Sequence[int],
    recorded: RecordedScores,
    progress: Progress | None,
) -> Iterator[tuple[int, Table]]:
    """Score some concepts at a time: yields the index of the first, and float64 [concepts, units]."""
    import numpy as np

    columns = np.asarray(units)
    score = _scorer(deps, columns)
    at_once = max(1, _IMAGES_AT_ONCE // len(concepts[0].images))
    for start in range(0, len(concepts), at_once):
        part = concepts[start : start + at_once]
        vectors = _vectors(deps, [image for concept in part for image in concept.images])
        table = score(vectors[:, columns].reshape(len(part), -1, len(units)))
        # A vector that was measured again may differ in the last digits from what the search saw.
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
    compared = control.columns([int(unit) for unit in units]) if control else np.empty((0, len(units)), np.float32)
    try:
        score = layer_scorer(name, compared)
    except ValueError as error:
        raise BackendError(f"layer {deps.layer} cannot be scored: {error}") from error

    def scored(activations: Activations) -> Table:
        try:
            return score(activations)
        except ValueError as error:
            raise BackendError(f"layer {deps.layer} cannot be scored: {error}") from error

    return scored


def _vectors(deps: Deps, images: Sequence[str]) -> Activations:
    """Return the activations of all units of the layer; what the cache has lost is measured again."""
    try:
        return deps.cache.vectors(images, layer_fingerprint(deps.target, deps.layer), deps.layer)
    except StoreError:
        return deps.cache.activations(images, deps.target, deps.layer, generator=deps.generator)


def _best(
    concepts: Sequence[ImagedConcept], tables: Iterator[tuple[int, Table]], places: int
) -> list[Best | None]:
    """Find each place's best concept, the first of equals; None where every score is minus infinity."""
    import numpy as np

    numbers: dict[str, int] = {}
    # Concepts that count as the same have one number.
    same = np.array([numbers.setdefault(concept_key(concept.text), len(numbers)) for concept in concepts])
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


def _without_banned(
    concepts: Sequence[ImagedConcept], forbidden: Mapping[str, Sequence[int]], tables: Iterator[tuple[int, Table]]
) -> Iterator[tuple[int, Table]]:
    """Yield the tables with minus infinity where a concept is banned at a place."""
    for start, table in tables:
        if forbidden:
            for row, concept in enumerate(concepts[start : start + len(table)]):
                table[row, forbidden.get(concept_key(concept.text), [])] = float("-inf")
        yield start, table


def _without_shared_words(
    concepts: Sequence[ImagedConcept], naming: Mapping[str, list[int]], tables: Iterator[tuple[int, Table]]
) -> Iterator[tuple[int, Table]]:
    """Yield the tables with minus infinity where a concept shares a word with a place's label.

    ``naming`` are, for each word, the places with a label that has it.
    """
    for start, table in tables:
        for row, concept in enumerate(concepts[start : start + len(table)]):
            for word in concept_words(concept.text) & naming.keys():
                table[row, naming[word]] = float("-inf")
        yield start, table
