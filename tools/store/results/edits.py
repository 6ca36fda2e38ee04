"""Results of edits in a store's ``evaluations.db``, an image and arm a row."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import DamagedError
from line_neurons.agent.text import storable_text
from line_neurons.tools.store.columns import Kind, Row
from line_neurons.tools.store.results.evaluations import Evaluations
from line_neurons.tools.store.results.values import (
    finite,
    opened_results,
    read_numbers,
    read_records,
    read_rows,
    stored_fields,
)
from line_neurons.tools.store.sqlite import translate_errors


@dataclass(frozen=True, order=True)
class EditEvaluation:
    """What was edited, and how; evaluations that differ in anything are kept apart.

    ``target`` and the fields in ``_id`` are fingerprints.

    Args:
        source: the run or file that they are from.
        model: spec of the target, with the version of its weights.
        subjects: which images were edited: ``label``, ``strongest`` or a folder.
        how: ``remove``, ``replace`` or ``insert``.
        count: images of each unit.
    """

    method: str
    source: str
    model: str
    layer: str
    editor: str
    verifier: str
    subjects: str
    how: str
    count: int
    seed: int
    target: str = ""
    editor_id: str = ""
    verifier_id: str = ""
    control_id: str = ""


@dataclass(frozen=True)
class EditArm:
    """One measured image: an original, or one of its edits.

    Args:
        place: number of the image, from 0.
        arm: ``original``, ``unchanged``, ``concept`` or ``elsewhere``.
        source: SHA-256 of the image before it was brought to the canvas.
        kind: of the edit; empty for the original.
        concept: what was taken out or added.
        other: what took its place.
        image: id of the measured image; empty if there is none.
        activation: the unit's; nan if there is no image.
        psnr: of the rest, in dB.
        shift: of the frame, as a share of the side.
        verdict: of ``checks.VERDICTS``, for the arm ``concept``; else empty.
        detail: why there is no edit, or what an edit was made of.
    """

    unit: int
    place: int
    arm: str
    source: str
    name: str = ""
    kind: str = ""
    concept: str = ""
    other: str = ""
    image: str = ""
    activation: float = math.nan
    share: float = math.nan
    psnr: float = math.nan
    shift: float = math.nan
    scale: float = math.nan
    verdict: str = ""
    before: float = math.nan
    after: float = math.nan
    detail: str = ""


@dataclass(frozen=True)
class EditedUnit:
    """The numbers of one unit, by name; nan is None."""

    unit: int
    label: str
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class EditResult:
    """An evaluation with its units and arms, in the order of evaluation; ``when`` is seconds since the epoch."""

    evaluation: EditEvaluation
    units: tuple[EditedUnit, ...]
    arms: tuple[EditArm, ...]
    when: float


_FIELDS = fields(EditArm)
_NUMBERS = ("activation", "share", "psnr", "shift", "scale", "before", "after")

_KINDS: Mapping[str, Kind] = {"int": "integer", "str": "text", "float": "number"}
_OF_EVALUATION = ("editor", "how", "verifier", "subjects")
EDIT_COLUMNS: Mapping[str, Kind] = {
    **dict.fromkeys(_OF_EVALUATION, "text"),
    **{field.name: _KINDS[str(field.type)] for field in _FIELDS},
}
"""Columns of an edited image and arm in data frames."""


def edit_rows(results: Sequence[EditResult]) -> list[Row]:
    """Return a row of ``EDIT_COLUMNS`` for each edited image and arm."""
    return [
        {**{name: getattr(result.evaluation, name) for name in _OF_EVALUATION}, **asdict(arm)}
        for result in results
        for arm in result.arms
    ]


class EditResults:
    """Edits in the database ``evaluations.db`` of a store."""

    def __init__(self, evaluations: Evaluations) -> None:
        self._evaluations = evaluations

    def put(self, evaluation: EditEvaluation, arms: Sequence[EditArm]) -> None:
        """Keep the arms of images, all or nothing, in place of earlier ones of the same images and units."""
        rows = [stored_fields(arm) for arm in arms]
        with self._changed(evaluation) as (db, key):
            for unit, place in {(arm.unit, arm.place) for arm in arms}:
                db.execute("DELETE FROM edits WHERE evaluation = ? AND unit = ? AND place = ?", (key, unit, place))
            self._evaluations.database.table("edits").insert_all([{"evaluation": key, **row} for row in rows])

    def put_unit(self, evaluation: EditEvaluation, unit: EditedUnit) -> None:
        """Keep the numbers of a unit in place of earlier ones."""
        numbers = json.dumps(finite(unit.numbers))
        row = {"unit": unit.unit, "label": storable_text(unit.label), "numbers": numbers}
        with self._changed(evaluation) as (_, key):
            self._evaluations.database.table("edited_units").upsert(
                {"evaluation": key, **row}, pk=("evaluation", "unit")
            )

    def _changed(self, evaluation: EditEvaluation) -> Any:
        return self._evaluations.changed("edit_evaluations", stored_fields(evaluation))

    def results(self, **where: str | int) -> list[EditResult]:
        """Return the results of evaluations with some values of their fields, newest first.

        Raises:
            DamagedError: a row holds an impossible value.
        """
        with translate_errors(self._evaluations.path), self._evaluations.lock:
            return _read(self._evaluations.database.conn, where)


def stored_edits(store: Path, source: str, unit: int) -> list[EditResult]:
    """Return the edits of one unit of a run in a store, newest first, without changing the store.

    Raises:
        StoreError: the database cannot be read, or holds an impossible value.
    """
    with opened_results(store, "edited_units") as db:
        found = _read(db, {"source": source}, unit=unit) if db else []
    return [result for result in found if result.units or result.arms]


def _read(db: sqlite3.Connection, where: Mapping[str, str | int], **of_unit: int) -> list[EditResult]:
    return [
        EditResult(
            evaluation,
            tuple(map(_unit, read_rows(db, "edited_units", evaluation=key, **of_unit))),
            tuple(map(_arm, read_rows(db, "edits", evaluation=key, **of_unit))),
            when,
        )
        for key, evaluation, when in read_records(db, "edit_evaluations", EditEvaluation, where)
    ]


def _arm(row: Mapping[str, Any]) -> EditArm:
    try:
        values: dict[str, Any] = {
            field.name: math.nan
            if field.name in _NUMBERS and row[field.name] is None
            else {"int": int, "str": str, "float": float}[str(field.type)](row[field.name])
            for field in _FIELDS
        }
        return EditArm(**values)
    except (TypeError, ValueError) as error:
        raise _damaged(row) from error


def _unit(row: Mapping[str, Any]) -> EditedUnit:
    try:
        return EditedUnit(int(row["unit"]), str(row["label"]), read_numbers(row["numbers"]))
    except (TypeError, ValueError) as error:
        raise _damaged(row) from error


def _damaged(row: Mapping[str, Any]) -> DamagedError:
    return DamagedError(
        f"what evaluations.db holds of the edits of unit {row['unit']!r:.40} is damaged", "edit its images again"
    )
