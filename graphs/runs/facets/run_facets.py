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
from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.graphs.loop import scoring
from line_neurons.graphs.runs.cross_scores import ImagedConcept
from line_neurons.graphs.runs.facets.space import FacetSpace
from line_neurons.tools.facets.divided_unit import FEWEST_IMAGES, DividedUnit, divide
from line_neurons.tools.facets.scores import (
    clarity,
    polysemanticity_interval,
    published_weights,
    strong_weights,
)
from line_neurons.tools.scorers import layer_scorer, needs_control
from line_neurons.tools.store.results.facets import Facet, UnitFacets, put_facets
from line_neurons.tools.store.steering_queue import banned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Progress
    from line_neurons.graphs.loop.state import Deps
    from line_neurons.tools.facets.vectors import Vectors
    from line_neurons.tools.store.records import Run, Trial, Unit


@dataclass(frozen=True)
class RunConcept:
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
        run: the run; the caller holds its lease.
        space: how images are compared; None: in the layer.

    Raises:
        UsageError: there are fewer than 12 images in all.
    """

    def __init__(self, deps: Deps, run: Run, units: Sequence[Unit], space: FacetSpace | None = None) -> None:
        self._deps, self._run, self._compared = deps, run, space or FacetSpace(deps)
        self._places = {unit.unit: place for place, unit in enumerate(units)}
        self._concepts = list(scored_concepts(deps.runs.trials(run.id)))
        self._imaged = [ImagedConcept(concept.text, concept.images) for concept in self._concepts]
        self._keys = [concept_key(concept.text) for concept in self._concepts]
        self._banned = {
            unit: {concept_key(name) for name in names} for unit, names in banned(deps.runs, run.id).items()
        }
        self._has_control = deps.control_vectors() is not None
        if not self._concepts:
            raise UsageError(f"run {run.id} has scored no concept yet", f"line resume {run.id}")
        control = self._compared.control()
        self._by_concepts = control is None
        self._space = self._compared.sources(self._imaged) if control is None else control
        if len(self._space.control.labels) < FEWEST_IMAGES:
            raise UsageError(
                f"run {run.id} has {len(self._space.control.labels)} images, and facets need {FEWEST_IMAGES}",
                "give the run a control set, or let it score more concepts",
            )

    @property
    def told(self) -> str:
        """Where the sources come from, where that is not the control set; else empty."""
        return "the control set has no classes: sources are the concepts that the run scored" * self._by_concepts

    @cached_property
    def _vectors(self) -> Vectors:
        """Mean vectors of the concepts with all units, [n_concepts, d]."""
        return self._compared.vectors(self._space, self._imaged)

    @cached_property
    def _scores(self) -> NDArray[np.float64]:
        """Score the concepts for the units with the run's scorer, [n_concepts, n_units]."""
        columns, name = list(self._places), self._deps.settings.scorer
        control = self._deps.control() if needs_control(name) else None
        compared = control.columns(columns) if control else np.empty((0, len(columns)), np.float32)
        try:
            score = layer_scorer(name, compared)
            found = [
                score(scoring.whole_activations(self._deps, concept.images)[None, :, columns])[0]
                for concept in self._concepts
            ]
        except ValueError as error:
            raise BackendError(f"layer {self._run.layer} cannot be scored: {error}") from error
        return np.stack(found)

    def of_unit(self, unit: Unit) -> UnitFacets:
        """Find the facets of a unit whose search has ended."""
        if unit.status != "finished" or unit.label is None:
            return UnitFacets(self._run.id, unit.unit, f"it has no label: {unit.status}", {})
        space = self._space
        divided = divide(space, unit.unit)
        if isinstance(divided, str):
            return UnitFacets(self._run.id, unit.unit, divided, self._measures(unit.unit))
        facets = self._labelled(unit, divided)
        split, weights = divided.split, divided.sources.weights
        low, high = polysemanticity_interval(divided.vectors, weights, split.first)
        numbers: dict[str, float | int | None] = {
            "facets": sum(facet.is_good for facet in facets),
            "groups": len(facets),
            "polysemanticity": split.polysemanticity,
            "polysemanticity_low": _finite(low),
            "polysemanticity_high": _finite(high),
            "limit": _finite(space.single_class_limit),
            "clarity": _finite(clarity(divided.vectors)),
            **self._measures(unit.unit),
            "max_auc": max((facet.auc for facet in facets if facet.auc is not None), default=None),
            "max_mad": max((facet.mad for facet in facets if facet.mad is not None), default=None),
            "covered": sum(facet.share for facet in facets if facet.label is not None),
            "sources": len(divided.names),
            "images": divided.images,
        }
        return UnitFacets(self._run.id, unit.unit, self.told, numbers, facets)

    @cached_property
    def _ms(self) -> dict[str, NDArray[np.float64]]:
        """MS of the units as published and of strong activations, each with the bounds of its interval."""
        columns = list(self._places)
        activations = self._space.control.columns(columns).astype(np.float64)
        found: dict[str, NDArray[np.float64]] = {}
        for name, weigh in (("ms", published_weights), ("ms2", strong_weights)):
            ms = self._space.monosemanticity(weigh(activations), columns)
            found |= {name: ms.value, f"{name}_low": ms.low, f"{name}_high": ms.high}
        return found

    def _measures(self, unit: int) -> dict[str, float | int | None]:
        """Return MS of a unit over all reference images."""
        return {name: _finite(values[self._places[unit]]) for name, values in self._ms.items()}

    def _labelled(self, unit: Unit, divided: DividedUnit) -> tuple[Facet, ...]:
        """Give each facet the best concept of which the images lie within it; the unit's label to its own."""
        label_cosines = self._cosines_of_label(unit, divided)
        own = int(np.argmax(label_cosines))
        cosines = self._space.cosines(self._vectors, divided.centres, unit.unit)
        within = (cosines.argmax(1)[:, None] == np.arange(len(divided.least))) & (cosines >= divided.least)
        forbidden = self._banned.get(unit.unit, set())
        if forbidden:
            within[[key in forbidden for key in self._keys]] = False
        scores = self._scores[:, self._places[unit.unit]]
        found: list[Facet] = []
        for facet in [own, *(other for other in range(len(divided.least)) if other != own)]:
            label: RunConcept | None = None
            cosine: float | None = None
            if facet == own:
                label = RunConcept(
                    str(unit.label), unit.images, unit.origin or "", unit.unit, unit.label_step or 0
                )
                cosine = float(label_cosines[own])
            elif within[:, facet].any():
                best = int(np.argmax(np.where(within[:, facet], scores, -np.inf)))
                label, cosine = self._concepts[best], float(cosines[best, facet])
            found.append(self._facet(unit, len(found), divided, facet, label, cosine))
        return tuple(found)

    def _cosines_of_label(self, unit: Unit, divided: DividedUnit) -> NDArray[np.float64]:
        """Return the cosines of the images of a unit's label with the centres of its facets, [n_facets]."""
        vectors = self._compared.vectors(self._space, [ImagedConcept(str(unit.label), unit.images)])
        found: NDArray[np.float64] = self._space.cosines(vectors, divided.centres, unit.unit)[0]
        return found

    def _facet(
        self,
        unit: Unit,
        number: int,
        divided: DividedUnit,
        facet: int,
        label: RunConcept | None,
        cosine: float | None,
    ) -> Facet:
        share, sources = divided.share(facet), divided.names_of(facet)
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
    deps: Deps,
    run: Run,
    units: Sequence[Unit],
    progress: Progress | None = None,
    space: FacetSpace | None = None,
) -> Iterator[UnitFacets]:
    """Yield the facets of units of a run, in order.

    Raises:
        UsageError: the run has too few images.
        StoreError: an image to be measured again is missing.
    """
    shared = RunFacets(deps, run, units, space)
    for place, unit in enumerate(units):
        yield shared.of_unit(unit)
        if progress:
            progress(place + 1, len(units))


def store_facets(
    deps: Deps,
    run: Run,
    units: Sequence[Unit],
    progress: Progress | None = None,
    space: FacetSpace | None = None,
) -> list[UnitFacets]:
    """Find the facets of units of a run, and store them in place of earlier ones; errors as of ``find_facets``."""
    found = list(find_facets(deps, run, units, progress, space))
    put_facets(deps.runs, found)
    return found


def scored_concepts(trials: Iterator[Trial]) -> Iterator[RunConcept]:
    """Yield each scored concept once, by its text and images."""
    known: set[tuple[str, tuple[str, ...]]] = set()
    for trial in trials:
        key = (concept_key(trial.concept or ""), trial.images)
        if trial.score is not None and trial.images and key not in known:
            known.add(key)
            yield RunConcept(str(trial.concept), trial.images, trial.origin or "", trial.unit, trial.step)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
