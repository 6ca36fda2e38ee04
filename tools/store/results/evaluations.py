"""Results of evaluations in a store's ``evaluations.db``, for tables."""

from __future__ import annotations

import math
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import DamagedError
from line_neurons.agent.text import storable_text
from line_neurons.tools.store.migrations import migrate_schema, refuse_newer
from line_neurons.tools.store.results.values import read_records, read_rows, stored_fields
from line_neurons.tools.store.sqlite import connect, transaction, translate_errors
from line_neurons.tools.target_specs import canonical_fingerprint, display_spec

_VERSION = 5


@dataclass(frozen=True)
class CosyScore:
    """CoSy's numbers of one label.

    Args:
        auc: area under the ROC curve of the images of the concept against the control images, in [0, 1].
        u1: Mann and Whitney's U of the control images: how many pairs they win, ties one half.
        p: two-sided p-value of that U.
        mad: difference of the means in standard deviations of the control.
        n: images of the concept.
        missing: why there are no numbers (all are NaN then): the concept is not drawable. Empty if there are.
        facet: which of several labels of the unit, from 0.
    """

    unit: int
    concept: str
    auc: float
    u1: float
    p: float
    mad: float
    n: int = 0
    missing: str = ""
    facet: int = 0


@dataclass(frozen=True, order=True)
class Evaluation:
    """What was evaluated, and with what; evaluations that differ in anything are kept apart.

    ``target`` and the fields in ``_id`` are fingerprints.

    Args:
        source: the run or file that they are from.
        model: spec of the target, with the version of its weights.
        images: where the concepts' images come from, as the user names it.
        control: the control set, as the user names it.
        mode: ``fixed`` or ``strict``.
        count: images of each concept; 0 if a folder decides.
    """

    method: str
    source: str
    model: str
    layer: str
    images: str
    control: str
    mode: str
    seed: int
    count: int
    target: str = ""
    images_id: str = ""
    control_id: str = ""

    @property
    def image_source(self) -> str:
        """Where the images come from and, of a text-to-image model, how they are generated."""
        options = re.findall(r"\b(steps|guidance|size|dtype)=(\S+)", self.images_id)
        how = ", ".join(f"{name} {value}" for name, value in options)
        return f"{self.images} ({how})" if how and self.images_id.startswith("diffusers:") else self.images

    @property
    def setting(self) -> Evaluation:
        """What comparable numbers have in common, as an evaluation of no method."""
        return replace(self, method="", source="")


@dataclass(frozen=True)
class Result:
    """An evaluation with its scores, in the order of evaluation; ``when`` is seconds since the epoch."""

    evaluation: Evaluation
    scores: tuple[CosyScore, ...]
    when: float

    @property
    def first_labels(self) -> Result:
        """The scores of the first label of each unit."""
        return replace(self, scores=tuple(score for score in self.scores if score.facet == 0))


_NUMBERS = ("auc", "u1", "p", "mad")


class Evaluations:
    """The database ``evaluations.db`` of a store; may be used from several threads and processes.

    Attributes:
        path: of the file.
        lock: to be held while ``database`` is used.
        database: the database.

    Raises:
        StoreError: the folder cannot be used, or a newer version made the database.
    """

    def __init__(self, root: Path) -> None:
        from sqlite_utils import Database

        from line_neurons.tools.store.schema import EVALUATIONS

        self.path = root / "evaluations.db"
        self.lock = threading.RLock()
        with translate_errors(self.path):
            root.mkdir(parents=True, exist_ok=True)

            def check(db: sqlite3.Connection) -> None:
                refuse_newer(db, self.path, _VERSION)

            self.database = Database(connect(self.path, check, check_same_thread=False))
            migrate_schema(EVALUATIONS, self.database, self.path, check)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def put(self, evaluation: Evaluation, scores: Sequence[CosyScore]) -> None:
        """Keep the scores of some units, all or nothing, in place of earlier ones of this evaluation."""
        rows = [
            {
                **asdict(one),
                "concept": storable_text(one.concept),
                **{name: None if math.isnan(value := getattr(one, name)) else value for name in _NUMBERS},
            }
            for one in scores
        ]
        with self.changed("evaluations", stored_fields(evaluation)) as (_, key):
            named = [{"evaluation": key, **row} for row in rows]
            self.database.table("judged").upsert_all(named, pk=("evaluation", "unit", "facet"))

    @contextmanager
    def changed(self, table: str, identity: Mapping[str, str | int]) -> Iterator[tuple[sqlite3.Connection, int]]:
        """Give the database and the key of an evaluation, new or not, in a transaction that dates it now.

        Args:
            identity: the values that tell them apart.
        """
        where = " AND ".join(f'"{name}" = :{name}' for name in identity)
        with self.lock, translate_errors(self.path), transaction(self.database.conn) as db:
            now = {**identity, "updated": time.time()}
            self.database.table(table).insert(now, ignore=True)
            db.execute(f"UPDATE {table} SET updated = :updated WHERE {where}", now)  # noqa: S608
            (key,) = db.execute(f"SELECT id FROM {table} WHERE {where}", identity).fetchone()  # noqa: S608
            yield db, int(key)

    def results(self, **where: str | int) -> list[Result]:
        """Return the results of evaluations with some values of their fields, newest first.

        Raises:
            DamagedError: a row holds an impossible value.
        """
        with translate_errors(self.path), self.lock:
            db = self.database.conn
            return [
                Result(_updated(evaluation), tuple(map(_score, read_rows(db, "judged", evaluation=key))), when)
                for key, evaluation, when in read_records(db, "evaluations", Evaluation, where)
            ]


def _updated(evaluation: Evaluation) -> Evaluation:
    """Return an evaluation as it is recorded now: earlier versions left out the version of the weights."""
    target = canonical_fingerprint(str(evaluation.target))
    return replace(evaluation, model=display_spec(evaluation.model, target), target=target)


def _score(row: dict[str, Any]) -> CosyScore:
    try:
        numbers = {name: math.nan if row[name] is None else float(row[name]) for name in _NUMBERS}
        return CosyScore(
            int(row["unit"]),
            str(row["concept"]),
            **numbers,
            n=int(row["n"]),
            missing=str(row["missing"]),
            facet=int(row["facet"]),
        )
    except (TypeError, ValueError) as error:
        raise DamagedError(
            f"what evaluations.db holds of unit {row['unit']!r:.40} is damaged", "evaluate it again"
        ) from error
