"""Find the facets of a run's units: groups of the images that excite a unit most, each with its own label.

No image is generated and nothing is measured where the cache has the vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Control
from line_neurons.graphs.loop import scoring
from line_neurons.tools.facets.control_vectors import ControlVectors
from line_neurons.tools.facets.scores import clarity, monosemanticity, published_weights, strong_weights
from line_neurons.tools.facets.splits import FEWEST_SOURCES, Sources, split_sources, strongest_sources
from line_neurons.tools.facets.vectors import mean_vector
from line_neurons.tools.store.results.facets import Facet, UnitFacets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Progress
    from line_neurons.graphs.loop.state import Deps
    from line_neurons.tools.facets.vectors import Vectors
    from line_neurons.tools.store.records import Run, Trial, Unit

_CONCEPTS_AT_ONCE = 64
_FEWEST_IMAGES = 12
_CANDIDATES = 100
"""Concepts, the strongest first, that may label a facet."""
GOOD = 0.8
"""AUC from which on the label of a facet counts."""


@dataclass(frozen=True)
class _Concept:
    """A concept that the run scored, with the unit and step that scored it first."""

    text: str
    images: tuple[str, ...]
    origin: str
    unit: int
    step: int


class RunFacets:
    """What the facets of all units of a run share.

    The sources are the classes of the control set; without these, the concepts that the run scored.

    Args:
        deps: what the nodes work with.
        run: the run; the caller holds its lease.

    Raises:
        UsageError: there are fewer than 12 images in all.
    """

    def __init__(self, deps: Deps, run: Run) -> None:
        self._deps, self._run = deps, run
        self._concepts = list(_scored_concepts(deps.runs.trials(run.id)))
        control = deps.control_vectors()
        self._has_control = control is not None
        self._by_concepts = control is None or not control.known
        self._space = self._of_concepts() if control is None or self._by_concepts else control
        if len(self._space.control.labels) < _FEWEST_IMAGES:
            raise UsageError(
                f"run {run.id} has {len(self._space.control.labels)} images, and facets need {_FEWEST_IMAGES}",
                "give the run a control set, or let it score more concepts",
            )

    @property
    def told(self) -> str:
        """Where the sources come from, where that is not the control set; else empty."""
        return "the control set has no classes: sources are the concepts that the run scored" * self._by_concepts

    def _of_concepts(self) -> ControlVectors:
        rows = [scoring.whole_activations(self._deps, concept.images) for concept in self._concepts]
        if not rows:
            raise UsageError(f"run {self._run.id} has scored no concept yet", f"line resume {self._run.id}")
        labels = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
        names = tuple(concept.text for concept in self._concepts)
        return ControlVectors(Control(names, labels, np.concatenate(rows)))

    @cached_property
    def _means(self) -> tuple[NDArray[np.float32], Vectors]:
        """Mean activations of the concepts, and their mean vectors with all units, [n_concepts, n_units] each."""
        means, vectors = [], []
        for start in range(0, len(self._concepts), _CONCEPTS_AT_ONCE):
            part = self._concepts[start : start + _CONCEPTS_AT_ONCE]
            every = scoring.whole_activations(self._deps, [image for concept in part for image in concept.images])
            for concept in part:
                own, every = every[: len(concept.images)], every[len(concept.images) :]
                means.append(own.mean(0))
                vectors.append(mean_vector(self._space.layer.of(own)))
        return np.stack(means), np.stack(vectors)

    def of_unit(self, unit: Unit) -> UnitFacets:
        """Find the facets of a unit whose search has ended."""
        if unit.status != "finished" or unit.label is None:
            return UnitFacets(self._run.id, unit.unit, f"it has no label: {unit.status}", {})
        space = self._space
        sources = strongest_sources(space.means[:, unit.unit])
        rows = sum(len(space.rows[space.known[place]]) for place in sources.indices)
        if len(sources.indices) < FEWEST_SOURCES or rows < _FEWEST_IMAGES:
            told = f"too few to tell: {len(sources.indices)} sources, {rows} images"
            return UnitFacets(self._run.id, unit.unit, told, self._measures(unit.unit))
        vectors = np.stack([space.of_class(space.known[place], unit.unit) for place in sources.indices])
        split = split_sources(vectors, sources.weights, space.single_class_limit)
        facets = self._labelled(unit, sources, vectors, split.facets)
        numbers: dict[str, float | int | None] = {
            "facets": sum(facet.label is not None and (facet.auc or 0.0) >= GOOD for facet in facets),
            "groups": len(facets),
            "polysemanticity": split.polysemanticity,
            "limit": _finite(space.single_class_limit),
            "clarity": _finite(clarity(vectors)),
            **self._measures(unit.unit),
            "max_auc": max((facet.auc for facet in facets if facet.auc is not None), default=None),
            "max_mad": max((facet.mad for facet in facets if facet.mad is not None), default=None),
            "covered": sum(facet.share for facet in facets if facet.label is not None),
            "sources": len(sources.indices),
            "images": rows,
        }
        return UnitFacets(self._run.id, unit.unit, "", numbers, facets)

    def _measures(self, unit: int) -> dict[str, float | int | None]:
        """Return MS as published and of strong activations, over all reference images."""
        activations = self._space.activations
        column = activations[:, unit].astype(np.float64)
        found = {}
        for name, weights in (("ms", published_weights(column)), ("ms2", strong_weights(column))):
            seen = np.flatnonzero(weights > 0)
            vectors = self._space.layer.of(activations[seen], unit)
            found[name] = _finite(monosemanticity(weights[seen], vectors))
        return dict(found)

    def _labelled(
        self, unit: Unit, sources: Sources, vectors: Vectors, facets: Sequence[Sequence[int]]
    ) -> tuple[Facet, ...]:
        """Give each facet the best concept of which the images lie within it; the unit's label to its own."""
        weights = sources.weights
        centres = np.stack([_centre(vectors[list(places)], weights[list(places)]) for places in facets])
        least = [
            float(np.median(vectors[list(places)] @ centre))
            for places, centre in zip(facets, centres, strict=True)
        ]
        means, every = self._means
        order = np.argsort(-means[:, unit.unit], kind="stable")[:_CANDIDATES]
        candidates = every[order].copy()
        candidates[:, unit.unit] = 0
        lengths = np.linalg.norm(candidates, axis=1, keepdims=True)
        cosines = np.divide(candidates, lengths, out=np.zeros_like(candidates), where=lengths > 0) @ centres.T
        own_vector = mean_vector(
            self._space.layer.of(scoring.whole_activations(self._deps, unit.images), unit.unit)
        )
        own = int(np.argmax(centres @ own_vector))
        chosen: dict[int, tuple[_Concept, float]] = {}
        for place, row in zip(order, cosines, strict=True):
            facet = int(np.argmax(row))
            if facet != own and facet not in chosen and row[facet] >= least[facet]:
                chosen[facet] = self._concepts[place], float(row[facet])
        ranked = [own, *(facet for facet in range(len(facets)) if facet != own)]
        total = float(weights.sum())
        names = [self._space.control.classes[self._space.known[place]] for place in sources.indices]
        found = []
        for number, facet in enumerate(ranked):
            places = list(facets[facet])
            share, from_sources = float(weights[places].sum()) / total, tuple(names[place] for place in places)
            if facet == own:
                label = _Concept(str(unit.label), unit.images, unit.origin or "", unit.unit, unit.label_step or 0)
                cosine: float | None = float(centres[own] @ own_vector)
            elif facet in chosen:
                label, cosine = chosen[facet]
            else:
                label, cosine = None, None
            found.append(self._facet(unit, number, label, cosine, share, from_sources))
        return tuple(found)

    def _facet(
        self,
        unit: Unit,
        number: int,
        label: _Concept | None,
        cosine: float | None,
        share: float,
        sources: tuple[str, ...],
    ) -> Facet:
        if label is None:
            return Facet(
                self._run.id, unit.unit, number, None, None, None, None, share, sources, (), None, None, None
            )
        activations = scoring.activate(self._deps, unit.unit, list(label.images))
        compared = {
            name: scoring.score(self._deps, unit.unit, activations, name) if self._has_control else None
            for name in ("auc", "mad")
        }
        own = label.unit == unit.unit
        return Facet(
            self._run.id, unit.unit, number, label.text, scoring.score(self._deps, unit.unit, activations),
            compared["auc"], compared["mad"], share, sources, label.images, cosine,
            (unit.origin if number == 0 else label.origin) if own else "revisit", label.step if own else None,
        )  # fmt: skip


def find_facets(
    deps: Deps, run: Run, units: Sequence[Unit], progress: Progress | None = None
) -> Iterator[UnitFacets]:
    """Yield the facets of units of a run, in order.

    Raises:
        UsageError: the run has too few images.
        StoreError: an image to be measured again is missing.
    """
    shared = RunFacets(deps, run)
    for place, unit in enumerate(units):
        yield shared.of_unit(unit)
        if progress:
            progress(place + 1, len(units))


def _scored_concepts(trials: Iterator[Trial]) -> Iterator[_Concept]:
    """Yield each scored concept once, by its text and images."""
    known: set[tuple[str, tuple[str, ...]]] = set()
    for trial in trials:
        key = (concept_key(trial.concept or ""), trial.images)
        if trial.score is not None and trial.images and key not in known:
            known.add(key)
            yield _Concept(str(trial.concept), trial.images, trial.origin or "", trial.unit, trial.step)


def _centre(vectors: Vectors, weights: NDArray[np.float64]) -> Vectors:
    total = (weights @ vectors).astype(np.float32)
    length = float(np.linalg.norm(total))
    centre: Vectors = total / length if length else total
    return centre


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
