"""What excites units most, in a store's ``evaluations.db``: a set of images of a unit a row."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import DamagedError
from line_neurons.agent.text import storable_text
from line_neurons.tools.json_text import loads
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

LINE, BEST, NATURAL, RAW, ROBUST = "line", "line best", "natural", "am raw", "am robust"
OWN_SETS = (LINE, BEST, NATURAL, RAW, ROBUST)
"""Names of the sets, in the order in which they are shown; those of other tools follow."""


@dataclass(frozen=True, order=True)
class VisualEvaluation:
    """What sets of images were measured with; evaluations that differ in anything are kept apart.

    Args:
        source: id of the run.
        model: spec of the target, with the version of its weights.
        side: of the canvas on which every image is measured, in pixels.
        count: images of each set.
        seed: of the images that are found by gradients, and of the sample of the control set.
        target: fingerprint of the target's layer.
        control_id: fingerprint of the control set; ``none`` without one.
        second: the second network's name; empty without one.
        second_id: its fingerprint.
        verifier_id: fingerprint of the verifier; empty without one.
        encoder_id: fingerprint of the image-text encoder; empty without one.
    """

    source: str
    model: str
    layer: str
    side: int
    count: int
    seed: int
    target: str = ""
    control_id: str = ""
    second: str = ""
    second_id: str = ""
    verifier_id: str = ""
    encoder_id: str = ""


@dataclass(frozen=True)
class SetImage:
    """An image of a set.

    Args:
        shaken: mean activation over the fixed views of it.
    """

    image: str
    name: str
    activation: float = math.nan
    shaken: float = math.nan


@dataclass(frozen=True)
class ImageSet:
    """A set of images of a unit, with its measures.

    Args:
        name: of the set, such as ``line`` or ``am raw``.
        images: the images; none where ``missing`` says why.
        numbers: the measures by name; nan is None.
        missing: why there are no images; empty if there are.
    """

    unit: int
    label: str
    name: str
    images: tuple[SetImage, ...]
    numbers: Mapping[str, Any]
    missing: str = ""


@dataclass(frozen=True)
class VisualResult:
    """An evaluation with its sets, in the order of evaluation; ``when`` is seconds since the epoch."""

    evaluation: VisualEvaluation
    sets: tuple[ImageSet, ...]
    when: float


_REMEDY = "evaluate it again with `line eval visual`"


class VisualResults:
    """Sets of images in the database ``evaluations.db`` of a store."""

    def __init__(self, evaluations: Evaluations) -> None:
        self._evaluations = evaluations

    def put(self, evaluation: VisualEvaluation, found: ImageSet) -> None:
        """Keep a set in place of an earlier one of the same unit and name."""
        row = {
            "unit": found.unit,
            "name": storable_text(found.name),
            "label": storable_text(found.label),
            "missing": storable_text(found.missing),
            "images": json.dumps([finite(asdict(image)) for image in found.images]),
            "numbers": json.dumps(finite(found.numbers)),
        }
        with self._evaluations.changed("visual_evaluations", stored_fields(evaluation)) as (_, key):
            self._evaluations.database.table("visual_sets").upsert(
                {"evaluation": key, **row}, pk=("evaluation", "unit", "name")
            )

    def sets(self, evaluation: VisualEvaluation, unit: int) -> dict[str, ImageSet]:
        """Return the sets of a unit by name.

        Raises:
            DamagedError: a row holds an impossible value.
        """
        with translate_errors(self._evaluations.path), self._evaluations.lock:
            found = _read(self._evaluations.database.conn, stored_fields(evaluation), unit)
        return {one.name: one for result in found for one in result.sets}


def stored_sets(store: Path, source: str, unit: int) -> list[VisualResult]:
    """Return the sets of one unit of a run in a store, newest first, without changing the store.

    Raises:
        StoreError: the database cannot be read, or holds an impossible value.
    """
    with opened_results(store, "visual_sets") as db:
        found = _read(db, {"source": source}, unit) if db else []
    return [result for result in found if result.sets]


def _read(db: sqlite3.Connection, where: Mapping[str, Any], unit: int) -> list[VisualResult]:
    return [
        VisualResult(evaluation, tuple(map(_set, read_rows(db, "visual_sets", evaluation=key, unit=unit))), when)
        for key, evaluation, when in read_records(db, "visual_evaluations", VisualEvaluation, where)
    ]


def _set(row: Mapping[str, Any]) -> ImageSet:
    try:
        shown = tuple(
            SetImage(str(one["image"]), str(one["name"]), _number(one["activation"]), _number(one["shaken"]))
            for one in loads(row["images"])
        )
        numbers = read_numbers(row["numbers"])
        return ImageSet(int(row["unit"]), str(row["label"]), str(row["name"]), shown, numbers, str(row["missing"]))
    except (TypeError, ValueError, KeyError) as error:
        raise DamagedError(
            f"what evaluations.db holds of the images of unit {row['unit']!r:.40} is damaged", _REMEDY
        ) from error


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
