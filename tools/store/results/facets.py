"""The facets of units in a store: what `line facets` found, in place of what it found before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from line_neurons.tools.store.runs import RunStore

GOOD = 0.8
"""AUC from which on the label of a facet counts."""


@dataclass(frozen=True)
class Facet:
    """A group of the images that excite a unit most.

    Args:
        facet: its number, 0 for the one of the unit's label.
        label: the best concept with images like these; None if no scored concept has such.
        auc: of its images against the control set; None without one.
        mad: the same as mean activation difference.
        share: its part of the weight of the strongest sources, in [0, 1].
        sources: names of its sources, strongest first.
        images: ids of the label's images.
        cosine: of the label's mean vector with the facet's centre.
        origin: how the label was found.
        step: the step of the search that scored it; None if another unit's search did.
    """

    run: str
    unit: int
    facet: int
    label: str | None
    score: float | None
    auc: float | None
    mad: float | None
    share: float
    sources: tuple[str, ...]
    images: tuple[str, ...]
    cosine: float | None
    origin: str | None
    step: int | None

    @property
    def is_good(self) -> bool:
        """Whether it has a label, with an AUC of .8 or more where there is a control set."""
        return self.label is not None and (self.auc is None or self.auc >= GOOD)


@dataclass(frozen=True)
class UnitFacets:
    """The facets of a unit, with its numbers.

    Args:
        told: why there is one facet at most, or what cannot be told; empty otherwise.
        numbers: by name; see ``docs/facets.md``.
        facets: its facets, at least one unless nothing can be told.
    """

    run: str
    unit: int
    told: str
    numbers: dict[str, float | int | None]
    facets: tuple[Facet, ...] = field(default=())

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of its facets, the unit's first."""
        return tuple(facet.label for facet in self.facets if facet.label is not None)

    @property
    def columns(self) -> dict[str, Any]:
        """The values of the columns that tables of units have of its facets."""
        second, third = (*self.labels[1:3], None, None)[:2]
        numbers = {name: self.numbers.get(name) for name in ("facets", "polysemanticity", "ms")}
        return {**numbers, "label_2": second, "label_3": third}


def put_facets(store: RunStore, found: Sequence[UnitFacets]) -> None:
    """Write the facets of units in place of earlier ones, all or nothing."""
    with store.atomic(*{unit.run for unit in found}) as db:
        for unit in found:
            for table in ("facets", "unit_facets"):
                db.execute(f"DELETE FROM {table} WHERE run = ? AND unit = ?", (unit.run, unit.unit))  # noqa: S608
            db.execute(
                "INSERT INTO unit_facets (run, unit, told, numbers) VALUES (?, ?, ?, ?)",
                (unit.run, unit.unit, unit.told, json.dumps(unit.numbers)),
            )
            for facet in unit.facets:
                row = asdict(facet) | {name: json.dumps(getattr(facet, name)) for name in ("sources", "images")}
                names = ", ".join(row)
                places = ", ".join(f":{name}" for name in row)
                db.execute(f"INSERT INTO facets ({names}) VALUES ({places})", row)  # noqa: S608


def facets_of(store: RunStore, run: str) -> dict[int, UnitFacets]:
    """Return the facets of a run's units, by unit; empty where none were looked for."""
    found: dict[int, list[Facet]] = {}
    columns = list(Facet.__dataclass_fields__)
    statement = f"SELECT {', '.join(columns)} FROM facets WHERE run = ? ORDER BY unit, facet"  # noqa: S608
    for row in store.rows(statement, run, needs="facets.facet"):
        values: dict[str, Any] = dict(zip(columns, row, strict=True))
        values |= {name: tuple(json.loads(values[name])) for name in ("sources", "images")}
        found.setdefault(int(values["unit"]), []).append(Facet(**values))
    rows = store.rows(
        "SELECT unit, told, numbers FROM unit_facets WHERE run = ? ORDER BY unit", run, needs="unit_facets.told"
    )
    return {
        int(unit): UnitFacets(run, int(unit), str(told), json.loads(numbers), tuple(found.get(int(unit), ())))
        for unit, told, numbers in rows
    }
