"""Facets of a unit in a store, as ``line facets`` leaves them."""

from __future__ import annotations

from contextlib import closing

from line_neurons.tools.store.results.facets import Facet, UnitFacets, put_facets
from line_neurons.tools.store.runs import RunStore

NUMBERS = {
    "facets": 1, "groups": 2, "polysemanticity": 0.94, "polysemanticity_low": 0.81, "polysemanticity_high": 1.02,
    "limit": 0.62, "ms": 0.01,
}  # fmt: skip


def add_facets(store, run, unit, *, label="grass <b>", numbers=None):
    """Record three facets of a unit: of its label, with another label, and without one."""
    with closing(RunStore(store)) as runs:
        record = runs.run(run)
        images = [image for step in runs.steps(record.id, unit) for image in step.images]
        of_label, of_other = tuple(images[:2]), tuple(images[2:4])
        birds, plants = ("barn owl, owl", "eagle"), ("meadow", "lawn", "moss", "fern")
        facets = (
            Facet(record.id, unit, 0, "owl", 9.0, 0.97, 3.0, 0.6, birds, of_label, 0.9, "proposed", 1),
            Facet(record.id, unit, 1, label, 4.0, 0.72, 1.0, 0.3, plants, of_other, 0.8, "revisit", None),
            Facet(record.id, unit, 2, None, None, None, None, 0.1, ("violin", "cello"), (), None, None, None),
        )
        found = UnitFacets(record.id, unit, "", NUMBERS if numbers is None else numbers, facets)
        put_facets(runs, [found])
    return found
