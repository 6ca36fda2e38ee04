"""INVERT (Bykov et al., 2023): the concept, or formula of concepts, that a unit separates best by AUC."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.concepts import class_concept
from line_neurons.agent.errors import UsageError
from line_neurons.eval.baselines.task import BaselineTask
from line_neurons.eval.labels.imagenet import imagenet_table
from line_neurons.eval.labels.labels import Label, Labels
from line_neurons.eval.labels.wordnet import WordNet
from line_neurons.tools.label_marks import constant_mark

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations

    Members = NDArray[np.bool_]


@dataclass(frozen=True)
class InvertSettings:
    """Limits of the search.

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
class ScoredFormula:
    """A formula and how well a unit separates it.

    Args:
        formula: in words, with AND, OR and NOT; read from left to right.
        auc: of the unit's activation on the images that it holds for against all others, in [0, 1].
        share: share of the images that it holds for.
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


def search_formulas(
    activations: Activations,
    members: Members,
    concepts: Sequence[str],
    allowed: NDArray[np.bool_] | None = None,
    settings: InvertSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[ScoredFormula]]:
    """Return the best formulas of each unit, best first; of equal ones the shorter, then the one found first.

    A formula that holds for the same images as another is the same formula, and the beam keeps it once.

    Args:
        activations: [n_images, n_units], all finite.
        members: whether each image is one of each concept, [n_images, n_concepts].
        allowed: bool [n_units, n_concepts], the concepts that a unit's formulas may contain; None: all.
        settings: length, beam and shares.
        progress: reports units as ``(done, total)``.

    Returns:
        at most ``beam`` formulas for each unit; none where no formula has an allowed share.
    """
    settings = settings or InvertSettings()
    ranks = doubled_ranks(activations)
    search = _Search(members.astype(np.float64), tuple(concepts), settings)
    sums = ranks.T @ search.members
    found = []
    for unit in range(activations.shape[1]):
        fits = np.ones(len(concepts), bool) if allowed is None else allowed[unit]
        formulas = search.of_unit(ranks[:, unit], sums[unit], fits)
        found.append(
            [
                ScoredFormula(formula.text, formula.length, formula.auc, float(formula.holds.mean()))
                for formula in formulas
            ]
        )
        if progress:
            progress(unit + 1, activations.shape[1])
    return found


class _Search:
    """A beam search over formulas; every sum over images is part of a matrix product."""

    def __init__(self, members: NDArray[np.float64], concepts: tuple[str, ...], settings: InvertSettings) -> None:
        self.members = members
        self._concepts = concepts
        self._settings = settings
        self._sizes = members.sum(0)
        self._images = len(members)

    def of_unit(
        self, ranks: NDArray[np.float64], sums: NDArray[np.float64], allowed: NDArray[np.bool_]
    ) -> list[_Formula]:
        """Return the beam of one unit.

        Args:
            ranks: doubled ranks of the images, [n_images].
            sums: sum of the ranks of each concept's images, [n_concepts].
            allowed: the concepts that formulas may contain, [n_concepts].
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
            held = np.stack([formula.holds for formula in beam]).astype(np.float64)
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
        """Return the best of the known and the new formulas, no two of them for the same images."""
        kept: list[_Formula] = []
        for formula in _merged(known, aucs, build):
            if not any(np.array_equal(formula.holds, other.holds) for other in kept):
                kept.append(formula)
            if len(kept) == self._settings.beam:
                break
        return kept

    def _literal(self, index: int, aucs: NDArray[np.float64]) -> _Formula:
        return _Formula(self._word(index), 1, self._holds(index), float(aucs[index]))

    def _joined(self, one: _Formula, word: str, index: int, auc: float) -> _Formula:
        # NOT binds closest; earlier joins are read first.
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
    """Yield formulas by AUC, the known, shorter ones first among equals; new ones are built when reached."""
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
    task: BaselineTask,
    *,
    length: int = 1,
    beam: int = 3,
    least: float = 0.0,
    most: float = 0.5,
    hypernyms: bool = True,
) -> Labels:
    """Return the best formula for each unit, by its AUC on the probe images.

    Args:
        length: most concepts in a formula.
        beam: formulas kept at each length.
        least: smallest share of the images that a formula may hold for.
        most: largest share.
        hypernyms: also use groups of classes; see ``concepts_of``.

    Raises:
        UsageError: a value does not fit, the images have no classes, or no formula has an allowed share.
    """
    if not (1 <= length <= 10 and beam >= 1 and 0 <= least <= most <= 1):
        raise UsageError(
            f"formulas of {length} concepts, a beam of {beam}, shares of {least:g} to {most:g}: not possible",
            "lengths are 1 to 10, beams at least 1, and shares in [0, 1]",
        )
    concepts, members = concepts_of(task, hypernyms=hypernyms)
    settings = InvertSettings(length, beam, least, most)
    progress = task.progress_for("formulas")
    found = search_formulas(task.activations, members, concepts, task.allowed(concepts), settings, progress)
    labels, without, tied = [], [], []
    for place, (unit, formulas) in enumerate(zip(task.units, found, strict=True)):
        # Every formula would have AUC .5, and the order of the concepts would decide.
        if constant_mark(task.activations[:, place], "probe images"):
            without.append((unit, "its activation is the same on all probe images"))
            continue
        if not formulas:
            raise UsageError(
                f"no concept that unit {unit} may have holds for {least:.2%} to {most:.2%} of the probe images",
                "allow other shares, or name other images with --control",
            )
        labels.append(Label(unit, formulas[0].formula, formulas[0].auc))
        if any((formula.auc, formula.length) == (formulas[0].auc, formulas[0].length) for formula in formulas[1:]):
            tied.append(unit)
    return task.as_labels("invert" if length == 1 else f"invert-{length}", labels, without, tied)


def concepts_of(task: BaselineTask, *, hypernyms: bool) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """Return the concepts of the probe images, and whether each image is one of them.

    Args:
        hypernyms: also groups of classes: those of the image bank, for other sets WordNet's hypernyms.

    Returns:
        the names, classes first, and bool [n_images, n_concepts].

    Raises:
        UsageError: the images have no classes.
        MissingPartError: WordNet is needed and missing.
    """
    captions = task.captions
    classes: dict[str, set[int]] = defaultdict(set)
    for index, caption in enumerate(captions):
        if caption:
            classes[caption].add(index)
    if hypernyms:
        groups: dict[str, set[int]] = defaultdict(set)
        for index, wider in _wider(task).items():
            for name in wider:
                groups[name].add(index)
        for name, own in sorted(groups.items()):
            # A group of one class adds nothing to the class; a class may be a group of others too.
            if name in classes or len(own) > 1:
                classes[name] |= own
    labels = task.control.labels
    members = np.stack([np.isin(labels, sorted(own)) for own in classes.values()], 1)
    return tuple(classes), members


def _wider(task: BaselineTask) -> Mapping[int, set[str]]:
    """Return the groups of each class, by its index."""
    if task.components.settings.control == "bank":
        broader: dict[str, set[str]] = defaultdict(set)
        for entry in task.components.image_bank.select("search"):
            broader[entry.caption].update(entry.broader)
        return {index: broader[name] for index, name in enumerate(task.control.classes)}
    words = WordNet(task.components.assets / "wordnet")
    known = {one.name: one.synset for one in imagenet_table()}
    found = {}
    for index, (name, caption) in enumerate(zip(task.control.classes, task.captions, strict=True)):
        synset = known.get(name) or next(iter(words.senses(caption)), None)
        above = words.hypernyms(synset) if synset is not None else ()
        found[index] = {class_concept(words.lemmas[hypernym][0]) for hypernym in above}
    return found


def doubled_ranks(activations: Activations) -> NDArray[np.float64]:
    """Return twice the rank of each image for each unit, from 2 on; ties share their mean rank.

    Args:
        activations: [n_images, n_units], all finite.

    Returns:
        float64 [n_images, n_units] of whole numbers; their sums are exact.
    """
    ranks = np.empty(activations.shape, np.float64)
    for unit, column in enumerate(activations.T):
        ordered = np.sort(column)
        ranks[:, unit] = np.searchsorted(ordered, column, "left") + np.searchsorted(ordered, column, "right") + 1
    return ranks


def auc_of_sums(sums: NDArray[np.float64], sizes: NDArray[np.float64], images: int) -> NDArray[np.float64]:
    """Compute the AUC from the sums of doubled ranks of a concept's images; NaN where all or none have it.

    Args:
        sums: sums of doubled ranks, of any shape.
        sizes: number of images with the concept, in a shape that fits.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found: NDArray[np.float64] = (sums - sizes * (sizes + 1)) / (2 * sizes * (images - sizes))
    return found
