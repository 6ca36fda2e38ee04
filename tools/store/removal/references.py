"""What the runs and evaluations of a store refer to in its cache; all else can be made again when needed."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from line_neurons.tools.label_marks import DONE
from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.removal.runs import images_of_runs
from line_neurons.tools.store.runs import RunStore, has_runs
from line_neurons.tools.store.sqlite import translate_errors
from line_neurons.tools.target_specs import canonical_fingerprint

_IMAGE_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_LAYERS = (
    "SELECT json_extract(fingerprints, '$.target'), layer, json_extract(fingerprints, '$.control') FROM runs"
    " WHERE json_valid(fingerprints)"
)
_EVALUATED = (
    "SELECT DISTINCT images_id, concept FROM evaluations JOIN judged ON judged.evaluation = evaluations.id"
)

_SHOWN = (
    "SELECT DISTINCT json_extract(value, '$.image') FROM visual_sets, json_each(visual_sets.images)"
    " WHERE json_valid(visual_sets.images)"
)


@dataclass(frozen=True)
class References:
    """What a store's runs and evaluations refer to.

    Args:
        images: ids of images, of histories, labels and checkpoints.
        layers: fingerprint of a target, and layer.
        controls: fingerprint of a target, layer, and fingerprint of a control set.
        evaluated: fingerprint of a source of images, and concept, of evaluated labels.
    """

    images: frozenset[str]
    layers: frozenset[tuple[str, str]]
    controls: frozenset[tuple[str, str, str]]
    evaluated: frozenset[tuple[str, str]]


def references(store: Path) -> References:
    """Collect what the runs and evaluations of a store refer to.

    Raises:
        StoreError: a database cannot be read.
    """
    images: set[str] = set()
    rows: list[tuple[Any, ...]] = []
    if has_runs(store):
        with closing(RunStore(store, read_only=True)) as runs:
            images |= images_of_runs(runs, [], others=True) | _images_of_checkpoints(store, runs)
            rows += runs.rows(_LAYERS)
    rows += _rows(store, "evaluations", "SELECT target, layer, control_id FROM evaluations")
    rows += _rows(
        store, "evaluations", "SELECT target, layer, control_id FROM edit_evaluations", "edit_evaluations"
    )
    rows += _rows(
        store, "evaluations", "SELECT target, layer, control_id FROM visual_evaluations", "visual_evaluations"
    )
    images |= {str(image) for (image,) in _rows(store, "evaluations", "SELECT DISTINCT image FROM edits", "edits")}
    images |= {str(image) for (image,) in _rows(store, "evaluations", _SHOWN, "visual_sets")}
    evaluated = [(str(source), str(concept)) for source, concept in _rows(store, "evaluations", _EVALUATED)]
    # Fingerprints of earlier versions have another form, under which activations were kept then.
    known = {
        (fingerprint, str(layer), str(control))
        for target, layer, control in rows
        for fingerprint in (str(target), canonical_fingerprint(str(target)))
    }
    return References(
        frozenset(images),
        frozenset((target, layer) for target, layer, _ in known),
        frozenset(known),
        frozenset(evaluated),
    )


def _images_of_checkpoints(store: Path, runs: RunStore) -> set[str]:
    """Return the ids in the checkpoints of units that have not ended: their histories may not have them yet."""
    marks = ", ".join("?" * len(DONE))
    statement = f"SELECT run, unit FROM units WHERE status NOT IN ({marks})"  # noqa: S608
    threads = [f"{run}/{unit}" for run, unit in runs.rows(statement, *DONE)]
    path = store / "checkpoints.db"
    found: set[str] = set()
    if not threads or not path.is_file():
        return found
    with translate_errors(path), closing(databases.open_readonly(path)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        for table, column in (("checkpoints", "checkpoint"), ("writes", "value")):
            for thread in threads if table in tables else ():
                statement = f"SELECT {column} FROM {table} WHERE thread_id = ?"  # noqa: S608
                for (blob,) in db.execute(statement, [thread]):
                    content = blob if isinstance(blob, bytes) else str(blob).encode()
                    found.update(match.decode() for match in _IMAGE_ID.findall(content))
    return found


def _rows(store: Path, name: str, statement: str, table: str = "") -> list[tuple[Any, ...]]:
    """Return rows of a database; none if it or its table, by default of its own name, is not there."""
    path = store / f"{name}.db"
    if not path.is_file():
        return []
    with translate_errors(path), closing(databases.open_readonly(path)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [table or name]).fetchone():
            return []
        return db.execute(statement).fetchall()
