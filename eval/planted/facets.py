"""Whether the facets of planted units are their classes: ``python -m`` this module.

Two things are counted of units for the larger of two classes: how many split, and of these, for how many two
facets have labels of one class each. A label is of the class of which its images have the larger logit, each
logit standardised over the control set; strictly, if it is also above that of 95 % of the control images.

Other pairs than the planted ones show whether a choice was made for these units: ``--pairs`` draws pairs of the
classes of single units, and computes what a unit for the larger of the two would have been, from the same images.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from line_neurons.agent.activations import columns_of
from line_neurons.agent.ports import Control
from line_neurons.agent.seeds import derive_rng
from line_neurons.eval.reports.statistics import wilson_interval
from line_neurons.graphs.loop.scoring import whole_activations
from line_neurons.graphs.runs.facets.run_facets import find_facets, scored_concepts
from line_neurons.graphs.runs.facets.space import FacetSpace
from line_neurons.graphs.runs.reopening import reopen
from line_neurons.tools.facets.control_vectors import ControlVectors
from line_neurons.tools.facets.vectors import mean_vector
from line_neurons.tools.store.records import Unit
from line_neurons.tools.store.runs import default_store, open_store
from line_neurons.tools.targets.planted.truth import NETWORK, planted_units
from line_neurons.tools.targets.registry import open_network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations
    from line_neurons.graphs.loop.state import Deps
    from line_neurons.graphs.runs.cross_scores import ImagedConcept
    from line_neurons.tools.facets.vectors import Vectors
    from line_neurons.tools.store.records import Run
    from line_neurons.tools.store.results.facets import UnitFacets
    from line_neurons.tools.targets.planted.truth import PlantedUnit

_LEVEL = 0.95


@dataclass(frozen=True)
class Pair:
    """A unit for the larger of two classes, with the columns of their standardised activations."""

    unit: int
    first: int
    second: int


class _PairCache:
    """The cache of activations, with further units for pairs of units."""

    def __init__(self, cache: Any, pairs: Sequence[Pair]) -> None:
        self._cache, self._pairs = cache, pairs

    def activations(
        self, images: Sequence[str], *arguments: Any, unit: int | None = None, **more: Any
    ) -> Activations:
        rows = with_pairs(self._cache.activations(images, *arguments, **more), self._pairs)
        return rows if unit is None else rows[:, [unit]]


def with_pairs(rows: Activations, pairs: Sequence[Pair]) -> Activations:
    """Append the larger activation of each pair to activations [n, n_units]."""
    larger = [np.maximum(rows[:, pair.first], rows[:, pair.second]) for pair in pairs]
    return np.concatenate([rows, np.stack(larger, axis=1)], axis=1)


@dataclass(frozen=True)
class _FeatureSpace(FacetSpace):
    """The features of the network alone: planted units would tell what their neighbours are."""

    first: int = 0

    def control(self) -> ControlVectors:
        control = self.deps.control()
        assert control is not None
        features = control.dense()[:, self.first : self.first + 1280]
        space = ControlVectors(control, features)
        space.__dict__["single_class_limit"] = ControlVectors(
            Control(control.classes, control.labels, features)
        ).single_class_limit
        return space

    def vectors(self, space: ControlVectors, concepts: Sequence[ImagedConcept]) -> Vectors:
        rows = (whole_activations(self.deps, concept.images) for concept in concepts)
        return np.stack([mean_vector(space.layer.of(own[:, self.first : self.first + 1280])) for own in rows])


def _pairs(truth: Sequence[PlantedUnit], units: int, count: int, seed: int) -> list[Pair]:
    """Draw pairs of single units, as further units of the layer."""
    singles = [unit.unit for unit in truth if unit.kind == "single"]
    drawn = derive_rng("pairs of single units", seed).sample(list(combinations(singles, 2)), count)
    return [Pair(units + place, *pair) for place, pair in enumerate(drawn)]


def pair_facets(
    deps: Deps, run: Run, truth: Sequence[PlantedUnit], count: int, seed: int
) -> Iterator[tuple[Pair, UnitFacets]]:
    """Yield the facets of units for drawn pairs, each with the best concept of the run as its label."""
    control = deps.control()
    assert control is not None
    pairs = _pairs(truth, control.units, count, seed)
    wider = Control(control.classes, control.labels, with_pairs(control.dense(), pairs))
    extended = replace(
        deps,
        cache=cast("Any", _PairCache(deps.cache, pairs)),
        control=lambda: wider,
        control_vectors=lambda: ControlVectors(wider),
    )
    concepts = list(scored_concepts(deps.runs.trials(run.id)))
    means = np.stack([whole_activations(extended, concept.images).mean(0) for concept in concepts])
    units = []
    for pair in pairs:
        best = concepts[int(np.argmax(means[:, pair.unit]))]
        units.append(
            Unit(
                run.id,
                pair.unit,
                pair.unit,
                status="finished",
                label=best.text,
                images=best.images,
                origin="revisit",
            )
        )
    space = _FeatureSpace(extended, first=len(truth))
    yield from zip(pairs, find_facets(extended, run, units, space=space), strict=True)


def sides(deps: Deps, found: UnitFacets, logits: Any, levels: NDArray[np.floating]) -> tuple[set[int], set[int]]:
    """Return the classes, 0 and 1, that labels of a unit's facets are of; then strictly.

    Args:
        logits: returns the standardised logits of two classes [n, 2] from activations.
        levels: of each class, the logit that 95 % of the control images stay below.
    """
    plain, strict = set[int](), set[int]()
    for facet in found.facets:
        if facet.label is not None:
            means = logits(whole_activations(deps, facet.images)).mean(0)
            side = int(np.argmax(means))
            plain.add(side)
            strict |= {side} if means[side] > levels[side] else set()
    return plain, strict


def _class_logits(assets: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights [1000, 1280] and biases of MobileNetV2's logits."""
    network: Any = open_network("torchvision:mobilenet_v2@IMAGENET1K_V1", assets=assets).build()
    layer = network.classifier[1]
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def _told(name: str, count: int, of: int) -> str:
    low, high = wilson_interval(count, of) if of else (0.0, 1.0)
    return f"{name}: {count} of {of} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Count, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    with_store = open_store(options.store or default_store())
    run = with_store.run(options.run)
    with_store.close()
    components = reopen(run, options.store, None, None, {"llm": "random", "vocabulary": None})
    deps, truth = components.deps(run.layer, run.vocabulary or ()), planted_units(NETWORK)
    control = deps.control()
    assert control is not None
    weights, biases = _class_logits(components.assets)
    units = [unit for unit in components.runs.units(run.id) if unit.unit < len(truth)]
    kinds: dict[str, list[tuple[UnitFacets, set[int], set[int]]]] = {}
    for found in find_facets(deps, run, units):
        unit = truth[found.unit]
        if len(unit.classes) == 2:
            rows = [one.index for one in unit.classes]
            means, scales = (np.array([getattr(one, name) for one in unit.classes]) for name in ("mean", "sd"))

            def logits(
                activations: Activations, rows: Any = rows, means: Any = means, scales: Any = scales
            ) -> Any:
                plain = activations[:, len(truth) :] @ weights[rows].T + biases[rows]
                return (plain - means) / scales

            named = sides(deps, found, logits, np.quantile(logits(control.dense()), _LEVEL, axis=0))
        else:
            named = (set(), set())
        kinds.setdefault(unit.kind, []).append((found, *named))
    for kind, of_kind in kinds.items():
        _print(kind, of_kind)
    if options.pairs:
        drawn = []
        for pair, found in pair_facets(deps, run, truth, options.pairs, options.seed):
            columns = [pair.first, pair.second]

            def of_pair(activations: Activations, columns: Any = columns) -> Any:
                return activations[:, columns]

            levels = np.quantile(columns_of(control.activations, columns), _LEVEL, axis=0)
            drawn.append((found, *sides(deps, found, of_pair, levels)))
        _print(f"other pairs, seed {options.seed}", drawn)


def _print(kind: str, found: Sequence[tuple[UnitFacets, set[int], set[int]]]) -> None:
    split = [one for one in found if len(one[0].facets) > 1]
    print(_told(f"{kind}: split", len(split), len(found)))
    if any(plain for _, plain, _ in found):
        print("  " + _told("one class each", sum(len(plain) == 2 for _, plain, _ in split), len(split)))
        print(
            "  " + _told("one class each, strictly", sum(len(strict) == 2 for _, _, strict in split), len(split))
        )
        for one, plain, strict in split:
            if len(strict) < 2:
                labels = "; ".join(f"{facet.label} ({', '.join(facet.sources[:3])})" for facet in one.facets)
                print(f"    {one.unit}: {sorted(plain)} {sorted(strict)}: {labels}")


if __name__ == "__main__":
    main()
