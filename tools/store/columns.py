"""Columns of tables of units and steps, and the row of each record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from line_neurons.tools.label_marks import note_with_doubts
from line_neurons.tools.store.records import Run, Step, Unit

Kind = Literal["text", "integer", "number", "flag", "texts"]
Row = dict[str, Any]

OUTCOMES = {
    "scored": "",
    "duplicate": "refused: tried already",
    "invalid": "refused: unusable reply",
    "not_drawable": "refused: cannot be generated",
    "withdrawn": "withdrawn by a user",
    "stalled": "stalled: no usable proposal",
}
"""How an outcome of a step is shown; empty for ``scored``."""

_KINDS: dict[Any, Kind] = {str: "text", int: "integer", float: "number", bool: "flag", tuple: "texts"}


def _columns(types: Mapping[str, Any], names: str) -> dict[str, Kind]:
    def kind(name: str) -> Kind:
        declared = types.get(name, str)
        used = next(one for one in (*get_args(declared), declared) if one is not NoneType)
        return _KINDS[tuple if get_origin(declared) is tuple else used]

    return {name: kind(name) for name in names.split()}


FACET_COLUMNS: dict[str, Kind] = {
    "facets": "integer", "polysemanticity": "number", "ms": "number", "label_2": "text", "label_3": "text",
}  # fmt: skip
"""The columns of a unit's facets, which another table of the store has."""

UNIT_COLUMNS = _columns(
    get_type_hints(Run) | get_type_hints(Unit),
    "run model layer unit name status label score auc mad origin found_by found_in label_step discovered margin"
    " initial_label initial_score search_label search_score second_label second_score steps images seed target"
    " generator language_model control seconds error note auc_low auc_high density",
) | {"margin": "number", "spread": "number", **FACET_COLUMNS}
"""Every column of a unit's row with the kind of its values, in order."""

STEP_COLUMNS = _columns(
    get_type_hints(Step),
    "run unit step attempt kind outcome concept score reasoning origin removed images seed temperature seconds"
    " model prompt reply created",
) | {"spread": "number"}
"""Every column of a step's row with the kind of its values, in order; see ``Step``."""


def status_of(unit: Unit, *, worked_on: bool) -> str:
    """Return a unit's state: without a process at work it is not running, whatever a killed one wrote last."""
    return "interrupted" if unit.status == "running" and not worked_on else unit.status


def unit_row(
    run: Run,
    unit: Unit,
    spread: float | None,
    *,
    worked_on: bool,
    doubts: Sequence[str] = (),
    facets: Mapping[str, Any] | None = None,
) -> Row:
    """Return a unit's row, with all of ``UNIT_COLUMNS``.

    Args:
        spread: the standard error of its score.
        doubts: why the labels of the run may be wrong; they are in the note of each label.
        facets: the columns of its facets; None where they were not found.
    """
    of_run = {
        "run": run.id,
        "model": run.shown_model,
        "layer": run.layer,
        "seed": run.seed,
        "spread": spread,
        **{name: run.fingerprints.get(name) for name in ("target", "generator", "language_model", "control")},
        "status": status_of(unit, worked_on=worked_on),
        "note": note_with_doubts(unit.note, doubts if unit.label is not None else ()),
        **(facets or dict.fromkeys(FACET_COLUMNS)),
    }
    return {name: of_run[name] if name in of_run else getattr(unit, name) for name in UNIT_COLUMNS}


def step_row(step: Step, spread: float | None) -> Row:
    """Return a step's row, with all of ``STEP_COLUMNS``; ``spread`` is the standard error of its score."""
    return {name: spread if name == "spread" else getattr(step, name) for name in STEP_COLUMNS}
