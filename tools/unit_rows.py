"""The units of a run as a table of them needs them: read often, of a whole layer, while others write."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from line_neurons.agent.proposal import clean_text
from line_neurons.tools.run_store import RunStore

T = TypeVar("T")


class UnitRow(NamedTuple):
    """What a table shows of a unit; see ``run_store.Unit``.

    A value that cannot have been written is left out: ``status`` is then ``damaged``, and ``error`` names it.
    """

    run: str
    unit: int
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


_WHOLE = {"unit", "label_step", "discovered", "steps", "found_by"}
_REAL = {"score", "initial_score", "auc", "mad", "seconds"}
_KINDS = tuple(
    (type(None), int) if name in _WHOLE else (type(None), int, float) if name in _REAL else (type(None), str)
    for name in UnitRow._fields
)


class UnitRows(Generic[T]):
    """Reads a run's units again and again; what is made of a row is made anew where it has changed.

    Args:
        run: id of the run.
        make: what is made of each row.
    """

    def __init__(self, run: str, make: Callable[[UnitRow], T]) -> None:
        self._run = run
        self._make = make
        self._rows: list[tuple[Any, ...]] = []
        self._made: list[T] = []

    def read(self, runs: RunStore, *, worked_on: bool) -> list[T]:
        """What is made of the units, in the order they were asked for in; unchanged ones are the same objects.

        Args:
            runs: the store.
            worked_on: whether a living process holds the run; else no unit is running, whatever was written last.
        """
        columns = {str(name) for (name,) in runs.rows("SELECT name FROM pragma_table_info('units')")}
        # A store that is only looked at may be of an earlier schema.
        chosen = {name: name if name in columns else f"NULL AS {name}" for name in UnitRow._fields}
        chosen["status"] = "CASE WHEN status = 'running' AND NOT ? THEN 'interrupted' ELSE status END"
        statement = (
            f"SELECT {', '.join(chosen.values())} FROM units"  # noqa: S608
            " WHERE run = ? AND typeof(unit) = 'integer' ORDER BY position"
        )
        rows = runs.rows(statement, worked_on, self._run)
        if len(rows) == len(self._rows):
            made = [
                kept if row == before else self._make(_checked(row))
                for row, before, kept in zip(rows, self._rows, self._made, strict=True)
            ]
        else:
            made = [self._make(_checked(row)) for row in rows]
        self._rows, self._made = rows, made
        return made


def _checked(row: tuple[Any, ...]) -> UnitRow:
    wrong = {
        name: value
        for name, value, kinds in zip(UnitRow._fields, row, _KINDS, strict=True)
        if type(value) not in kinds or (type(value) is float and not math.isfinite(value))
    }
    if not wrong:
        return UnitRow(*row)
    said = ", ".join(f"{name}: {clean_text(repr(value), 40)}" for name, value in wrong.items())
    known: dict[str, Any] = dict(zip(UnitRow._fields, row, strict=True)) | dict.fromkeys(wrong)
    said = f"its row in runs.db is damaged ({said})"
    return UnitRow(**known | {"status": "damaged", "error": said})
