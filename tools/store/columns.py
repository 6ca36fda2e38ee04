"""What is told of a unit, and of a step of its search, as the row of a table."""

from __future__ import annotations

from typing import Any, Literal

from line_neurons.tools.store.records import Run, Step, Unit

Kind = Literal["text", "integer", "number", "flag", "texts"]
Row = dict[str, Any]

OUTCOMES = {
    "scored": "",
    "duplicate": "refused: tried already",
    "invalid": "refused: unusable reply",
    "not_drawable": "refused: cannot be generated",
    "withdrawn": "given up for another",
    "stalled": "stalled: no usable proposal",
}
"""How an outcome of a step reads to a user; nothing for one that was scored."""

UNIT_COLUMNS: dict[str, Kind] = {
    "run": "text",
    "model": "text",
    "layer": "text",
    "unit": "integer",
    "name": "text",
    "status": "text",
    "label": "text",
    "score": "number",
    "auc": "number",
    "mad": "number",
    "origin": "text",
    "found_by": "integer",
    "found_in": "text",
    "label_step": "integer",
    "discovered": "flag",
    "margin": "number",
    "initial_label": "text",
    "initial_score": "number",
    "search_label": "text",
    "search_score": "number",
    "second_label": "text",
    "second_score": "number",
    "steps": "integer",
    "images": "texts",
    "seed": "integer",
    "target": "text",
    "generator": "text",
    "language_model": "text",
    "control": "text",
    "seconds": "number",
    "error": "text",
    "note": "text",
    "auc_low": "number",
    "auc_high": "number",
    "density": "number",
}
"""Every column of a unit's row with the kind of its values, in order."""

STEP_COLUMNS: dict[str, Kind] = {
    "run": "text",
    "unit": "integer",
    "step": "integer",
    "attempt": "integer",
    "kind": "text",
    "outcome": "text",
    "concept": "text",
    "score": "number",
    "reasoning": "text",
    "origin": "text",
    "removed": "text",
    "images": "texts",
    "seed": "integer",
    "temperature": "number",
    "seconds": "number",
    "model": "text",
    "prompt": "text",
    "reply": "text",
    "created": "number",
}
"""Every column of a step's row with the kind of its values, in order; see ``Step``."""


def status_of(unit: Unit, *, worked_on: bool) -> str:
    """A unit's state; of a run that nobody works on it is not running, whatever a killed process wrote last."""
    return "interrupted" if unit.status == "running" and not worked_on else unit.status


def unit_row(run: Run, unit: Unit, *, worked_on: bool) -> Row:
    """A unit's row, with all of ``UNIT_COLUMNS``.

    Args:
        run: the unit's run.
        unit: the unit.
        worked_on: a living process works on the run.
    """
    known = {
        "run": run.id,
        "model": run.shown_model,
        "layer": run.layer,
        "seed": run.seed,
        **{part: run.fingerprints.get(part) for part in ("target", "generator", "language_model", "control")},
        "status": status_of(unit, worked_on=worked_on),
    }
    return {name: known[name] if name in known else getattr(unit, name) for name in UNIT_COLUMNS}


def step_row(step: Step) -> Row:
    """A step's row, with all of ``STEP_COLUMNS``."""
    return {name: getattr(step, name) for name in STEP_COLUMNS}
