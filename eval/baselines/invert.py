"""INVERT (Bykov et al., 2023): the concept, or formula of concepts, that a unit's activation tells best by AUC."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.errors import UsageError
from line_neurons.eval.baselines.auc import auc_of_sums, doubled_ranks
from line_neurons.eval.baselines.concepts import concepts_of
from line_neurons.eval.baselines.task import Task
from line_neurons.eval.labels.formats import Label, Labels
from line_neurons.tools.label_marks import unvarying

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations

    Members = NDArray[np.bool_]


@dataclass(frozen=True)
class InvertSettings:
    """How formulas are searched.

    Args:
        length: most concepts in a formula, L; 1: single concepts.
        beam: formulas kept at each length, B.
        least: smallest share of the images that a formula may hold for, alpha.
        most: largest share.
    """

    length: int = 1
    beam: int = 3
    least: float = 0.0
    most: float = 0.5


@dataclass(frozen=True)
class Found:
    """A formula and how well a unit tells it.

    Args:
        formula: in words, with AND, OR and NOT; read from left to right.
        length: concepts in it.
        auc: of the unit's activation on the images that it holds for against all others, in [0, 1].
        share: part of the images that it holds for.
    """

    formula: str
    length: int
    auc: float
    share: float


@dataclass(frozen=True)
class _Formula:
    text: str
    length: int
    holds: NDArray[np.bool_]
    auc: float


def explain(
    activations: Activations,
    members: Members,
    concepts: Sequence[str],
    allowed: NDArray[np.bool_] | None = None,
    settings: InvertSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[Found]]:
    """The best formulas of each unit, best first; of equal ones the shorter, then the one found first.

    A formula that holds for the very images of another counts as the same, and the beam keeps it once.

    Args:
        activations: [n_images, n_units], all finite.
        members: whether each image is one of each concept, [n_images, n_concepts].
        concepts: their names.
        allowed: bool [n_units, n_concepts], which concepts a unit's formulas may name; None: all.
        settings: length, beam and shares.
        progress: told of units as ``(done, total)``.

    Returns:
        for each unit at most ``beam`` formulas; none where no formula has a share that is allowed.
    """
    settings = settings or InvertSettings()
    ranks = doubled_ranks(activations)
    search = _Search(members.astype(np.float64), tuple(concepts), settings)
    sums = ranks.T @ search.members
    found = []
    for unit in range(activations.shape[1]):
        fits = np.ones(len(concepts), bool) if allowed is None else allowed[unit]
        formulas = search.of_unit(ranks[:, unit], sums[unit], fits)
        found.append([Found(one.text, one.length, one.auc, float(one.holds.mean())) for one in formulas])
        if progress:
            progress(unit + 1, activations.shape[1])
    return found


class _Search:
    """A beam search over formulas, with every sum over images from a product of matrices."""

    def __init__(self, members: NDArray[np.float64], concepts: tuple[str, ...], settings: InvertSettings) -> None:
        self.members = members
        self._concepts = concepts
        self._settings = settings
        self._sizes = members.sum(0)
        self._images = len(members)

    def of_unit(
        self, ranks: NDArray[np.float64], sums: NDArray[np.float64], allowed: NDArray[np.bool_]
    ) -> list[_Formula]:
        """The beam of one unit.

        Args:
            ranks: doubled ranks of the images, [n_images].
            sums: sum of the ranks of each concept's images, [n_concepts].
            allowed: the concepts that may be named, [n_concepts].
        """
        all_ranks = ranks.sum()
        literal_sums = np.concatenate([sums, all_ranks - sums])
        literal_sizes = np.concatenate([self._sizes, self._images - self._sizes])
        named = np.tile(allowed, 2)
        aucs = self._aucs(literal_sums, literal_sizes, named)
        beam = self._best([], aucs[None], lambda place: self._literal(place[1], aucs))
        for _ in range(2, self._settings.length + 1):
            if not beam:
                break
            held = np.stack([one.holds for one in beam]).astype(np.float64)
            of_beam, beam_sizes = held @ ranks, held.sum(1)
            both, both_sizes = (held * ranks) @ self.members, held @ self.members
            both = np.concatenate([both, of_beam[:, None] - both], 1)
            both_sizes = np.concatenate([both_sizes, beam_sizes[:, None] - both_sizes], 1)
            either = of_beam[:, None] + literal_sums - both
            either_sizes = beam_sizes[:, None] + literal_sizes - both_sizes
            joined = np.concatenate([self._aucs(both, both_sizes, named), self._aucs(either, either_sizes, named)])
            grown = beam

            def join(
                place: tuple[int, int], grown: list[_Formula] = grown, joined: NDArray[np.float64] = joined
            ) -> _Formula:
                word, one = ("AND", place[0]) if place[0] < len(grown) else ("OR", place[0] - len(grown))
                return self._joined(grown[one], word, place[1], float(joined[place]))

            beam = self._best(beam, joined, join)
        return beam

    def _aucs(
        self, sums: NDArray[np.float64], sizes: NDArray[np.float64], named: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        share = sizes / self._images
        fits = named & (sizes > 0) & (sizes < self._images)
        fits = fits & (share >= self._settings.least) & (share <= self._settings.most)
        return np.where(fits, auc_of_sums(sums, sizes, self._images), -np.inf)

    def _best(
        self,
        known: list[_Formula],
        aucs: NDArray[np.float64],
        build: Callable[[tuple[int, int]], _Formula],
    ) -> list[_Formula]:
        """The best of the formulas known and those that have these AUC, no two of them for the same images."""
        kept: list[_Formula] = []
        for one in _merged(known, aucs, build):
            if not any(np.array_equal(one.holds, other.holds) for other in kept):
                kept.append(one)
            if len(kept) == self._settings.beam:
                break
        return kept

    def _literal(self, index: int, aucs: NDArray[np.float64]) -> _Formula:
        return _Formula(self._word(index), 1, self._holds(index), float(aucs[index]))

    def _joined(self, one: _Formula, word: str, index: int, auc: float) -> _Formula:
        # NOT binds closest; whatever else was joined before is read first.
        left = f"({one.text})" if one.length > 1 else one.text
        other = self._holds(index)
        holds = one.holds & other if word == "AND" else one.holds | other
        return _Formula(f"{left} {word} {self._word(index)}", one.length + 1, holds, auc)

    def _word(self, index: int) -> str:
        number = len(self._concepts)
        return self._concepts[index] if index < number else f"NOT {self._concepts[index - number]}"

    def _holds(self, index: int) -> NDArray[np.bool_]:
        number = len(self._concepts)
        own = self.members[:, index % number] > 0
        return own if index < number else ~own


def _merged(
    known: list[_Formula], aucs: NDArray[np.float64], build: Callable[[tuple[int, int]], _Formula]
) -> Iterator[_Formula]:
    """Formulas by AUC, the known ones, which are shorter, first among equals; new ones are built when reached."""
    waiting = sorted(known, key=lambda one: (-one.auc, one.length))
    for place in np.argsort(-aucs, axis=None, kind="stable"):
        row, column = divmod(int(place), aucs.shape[1])
        auc = float(aucs[row, column])
        if auc == -np.inf:
            break
        while waiting and waiting[0].auc >= auc:
            yield waiting.pop(0)
        yield build((row, column))
    yield from waiting


def label(
    task: Task, *, length: int = 1, beam: int = 3, least: float = 0.0, most: float = 0.5, hypernyms: bool = True
) -> Labels:
    """The best formula for each unit, by its AUC on the probe images.

    Args:
        task: units and probe images with classes.
        length: most concepts in a formula.
        beam: formulas kept at each length.
        least: smallest share of the images that a formula may hold for.
        most: largest share.
        hypernyms: also name groups of classes; see ``concepts_of``.

    Raises:
        UsageError: a value does not fit, the images have no classes, or no formula has a share that is allowed.
    """
    if not (1 <= length <= 10 and beam >= 1 and 0 <= least <= most <= 1):
        raise UsageError(
            f"formulas of {length} concepts, a beam of {beam}, shares of {least:g} to {most:g}: not possible",
            "lengths are 1 to 10, beams at least 1, and shares in [0, 1]",
        )
    concepts, members = concepts_of(task, hypernyms=hypernyms)
    settings = InvertSettings(length, beam, least, most)
    told = task.told("formulas")
    found = explain(task.activations, members, concepts, task.allowed(concepts), settings, told)
    labels, without, tied = [], [], []
    for place, (unit, formulas) in enumerate(zip(task.units, found, strict=True)):
        # Every formula has AUC .5 then, and the order of the concepts would decide.
        if unvarying(task.activations[:, place], "probe images"):
            without.append((unit, "its activation is the same on all probe images"))
            continue
        if not formulas:
            raise UsageError(
                f"no concept that unit {unit} may have holds for {least:.2%} to {most:.2%} of the probe images",
                "allow other shares, or name other images with --control",
            )
        labels.append(Label(unit, formulas[0].formula, formulas[0].auc))
        if any((one.auc, one.length) == (formulas[0].auc, formulas[0].length) for one in formulas[1:]):
            tied.append(unit)
    return task.labelled("invert" if length == 1 else f"invert-{length}", labels, without, tied)
