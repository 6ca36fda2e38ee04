"""Units of a run for tables: read often, of a whole layer, while others write."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import NoneType
from typing import Any, Generic, NamedTuple, TypeVar, get_args, get_type_hints

from line_neurons.agent.text import clean_text
from line_neurons.tools.label_marks import Mark, read_marks
from line_neurons.tools.store.runs import RunStore

T = TypeVar("T")


class UnitRow(NamedTuple):
    """Columns of a unit that a table shows; see ``records.Unit``.

    An impossible value is left out: ``status`` is then ``damaged``, and ``error`` names it.
    """

    run: str
    unit: int
    position: int
    name: str | None
    status: str
    label: str | None
    score: float | None
    origin: str | None
    label_step: int | None
    discovered: int | None
    initial_label: str | None
    initial_score: float | None
    auc: float | None
    mad: float | None
    seconds: float | None
    error: str | None
    steps: int | None
    found_by: int | None
    found_in: str | None
    note: str | None
    facets: int | None = None
    polysemanticity: float | None = None

    @property
    def marks(self) -> tuple[Mark, ...]:
        """What is wrong with the unit or its label."""
        return read_marks(self.note, self.auc)


_TYPES = tuple(
    {*(get_args(declared) or (declared,)), NoneType} | ({int} if float in get_args(declared) else set())
    for declared in get_type_hints(UnitRow).values()
)
"""What SQLite may give for each field: a score may be a whole number."""

_OF_FACETS = (
    "(SELECT json_extract(numbers, '$.{name}') FROM unit_facets"
    " WHERE unit_facets.run = units.run AND unit_facets.unit = units.unit AND json_valid(numbers))"
)
"""A number of a unit's facets, which another table has."""

_CHUNK = 256
"""Units that are read together, where one of them has changed."""


class UnitRows(Generic[T]):
    """Reads a run's units again and again; items are rebuilt where a row may have changed.

    SQLite reads all rows, in its own code, and returns a text for each chunk of units; only rows of chunks with a
    changed text are handed to Python. Fetching 10,000 rows several times a second kept Python's garbage collector
    busy for a fifth of the time.
    """

    def __init__(self, run: str, make: Callable[[UnitRow], T]) -> None:
        self._run = run
        self._make = make
        self._texts: dict[int, bytes] = {}
        self._rows: dict[int, tuple[Any, ...]] = {}
        self._places: dict[int, int] = {}
        self._items: list[T] = []

    def read(self, runs: RunStore, *, worked_on: bool) -> list[T]:
        """Return the items of all units, in their order; unchanged ones are the same objects."""
        known = runs.columns("units")
        columns = {name: name if name in known else "NULL" for name in UnitRow._fields}
        if runs.columns("unit_facets"):
            columns |= {name: _OF_FACETS.format(name=name) for name in ("facets", "polysemanticity")}
        columns["status"] = (
            f"CASE WHEN status = 'running' AND NOT {worked_on:d} THEN 'interrupted' ELSE status END"
        )
        chosen, text = ", ".join(columns.values()), "%s|" * len(columns)
        of_run = "FROM units WHERE run = ? AND typeof(unit) = 'integer' AND unit"
        whole = f"CAST(group_concat(printf('{text}', {chosen})) AS BLOB)"
        digests = f"SELECT unit / {_CHUNK}, {whole} {of_run} >= 0 GROUP BY 1"
        texts: dict[int, bytes] = dict(runs.rows(digests, self._run))
        changed = [chunk for chunk, text in texts.items() if text != self._texts.get(chunk)]
        if not changed and len(texts) == len(self._texts):
            return self._items
        fetch = f"SELECT {chosen} {of_run} BETWEEN ? AND ?"
        rows = {
            row[_UNIT]: row
            for chunk in changed
            for row in runs.rows(fetch, self._run, chunk * _CHUNK, (chunk + 1) * _CHUNK - 1)
        }
        self._texts = texts
        self._update(rows)
        return self._items

    def _update(self, rows: dict[int, tuple[Any, ...]]) -> None:
        items = self._items.copy()
        if not rows.keys() <= self._places.keys():
            in_order = sorted((self._rows | rows).values(), key=_order)
            self._places = {row[_UNIT]: place for place, row in enumerate(in_order)}
            items = [self._make(_checked(row)) for row in in_order]
        else:
            for unit, row in rows.items():
                if row != self._rows[unit]:
                    items[self._places[unit]] = self._make(_checked(row))
        self._rows |= rows
        self._items = items


_UNIT, _POSITION = UnitRow._fields.index("unit"), UnitRow._fields.index("position")


def _order(row: tuple[Any, ...]) -> tuple[int, int]:
    position = row[_POSITION]
    return (position if isinstance(position, int) else 0, row[_UNIT])


def _checked(row: tuple[Any, ...]) -> UnitRow:
    wrong = {
        name: value
        for name, value, types in zip(UnitRow._fields, row, _TYPES, strict=True)
        if type(value) not in types or (type(value) is float and not math.isfinite(value))
    }
    if not wrong:
        return UnitRow(*row)
    values = ", ".join(f"{name}: {clean_text(repr(value), 40)}" for name, value in wrong.items())
    known: dict[str, Any] = dict(zip(UnitRow._fields, row, strict=True)) | dict.fromkeys(wrong)
    error = f"its row in runs.db is damaged ({values})"
    return UnitRow(**known | {"status": "damaged", "error": error})
