"""The schemas of ``runs.db`` and ``evaluations.db``, as numbered migrations."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from types import ModuleType
from unittest.mock import patch


def _import_without_pandas(
    name: str, package: str | None = None, real: Callable[..., ModuleType] = importlib.import_module
) -> ModuleType:
    if name == "pandas" and name not in sys.modules:
        raise ImportError(name)
    return real(name, package)


# sqlite_utils imports pandas where it is, for a type that no row here has: half a second of each command.
with patch("importlib.import_module", _import_without_pandas):
    from sqlite_utils import Database, Migrations

SCHEMA = Migrations("line-runs")
EVALUATIONS = Migrations("line-evaluations")


@SCHEMA()
def m001_runs_units_steps_events(db: Database) -> None:
    """Create the first schema."""
    db.table("runs").create(
        {"id": str, "model": str, "layer": str, "seed": int, "status": str, "created": float, "finished": float,
         "command": str, "settings": str, "fingerprints": str, "versions": str, "error": str},
        pk="id", not_null={"id", "model", "layer", "seed", "status", "created"},
    )  # fmt: skip
    db.table("units").create(
        {"run": str, "unit": int, "position": int, "name": str, "status": str, "label": str, "score": float,
         "origin": str, "label_step": int, "discovered": int, "initial_label": str, "initial_score": float,
         "auc": float, "mad": float, "seconds": float, "error": str},
        pk=("run", "unit"), not_null={"status", "position"}, foreign_keys=[("run", "runs", "id")],
    )  # fmt: skip
    db.table("steps").create(
        {"run": str, "unit": int, "step": int, "attempt": int, "kind": str, "outcome": str, "concept": str,
         "score": float, "reasoning": str, "reply": str, "origin": str, "images": str, "board": str,
         "removed": str, "seed": int, "temperature": float, "seconds": float, "detail": str, "created": float},
        pk=("run", "unit", "step", "attempt"), not_null={"kind", "outcome"},
        foreign_keys=[("run", "runs", "id")],
    )  # fmt: skip
    db.table("events").create(
        {"id": int, "run": str, "unit": int, "kind": str, "created": float, "detail": str},
        pk="id", not_null={"run", "kind", "created"}, foreign_keys=[("run", "runs", "id")],
    )  # fmt: skip
    db.table("events").create_index(["run", "id"])


@SCHEMA()
def m002_vocabulary_and_model_of_each_step(db: Database) -> None:
    """Add the words that an initial board was sampled from; the language model of each step."""
    db.table("runs").add_column("vocabulary", str)
    db.table("steps").add_column("model", str)


@SCHEMA()
def m003_evidence_of_each_label(db: Database) -> None:
    """Add a label's images, the second-best distinct concept, and what a revisit changed."""
    units = db.table("units")
    columns = {"images": str, "second_label": str, "second_score": float, "steps": int, "found_by": int,
               "found_in": str, "search_label": str, "search_score": float}  # fmt: skip
    for column, kind in columns.items():
        units.add_column(column, kind)


@SCHEMA()
def m004_leases(db: Database) -> None:
    """Add who works on a run and on its units in progress; see ``leases``."""
    db.table("leases").create(
        {"thread": str, "run": str, "unit": int, "token": str, "process": int, "host": str, "boot": str,
         "began": float, "beats": int, "beat": float, "stop": str},
        pk="thread", not_null={"run", "token", "process", "host", "boot", "began", "beats", "beat"},
        foreign_keys=[("run", "runs", "id")],
    )  # fmt: skip
    db.table("leases").create_index(["token"])


@SCHEMA()
def m005_one_setting_for_the_pooling(db: Database) -> None:
    """Merge the two settings that the first version recorded for the pooling."""
    # What is no JSON is left to who reads it.
    recorded = "CASE WHEN json_valid(settings) THEN json_type(settings, '$.pooling') END IS NOT NULL"
    for run in list(db.table("runs").rows_where(recorded, select="id, settings")):
        settings = json.loads(run["settings"])
        pooling, tokens = settings.pop("pooling"), settings.pop("tokens", "cls")
        settings["pool"] = "max" if pooling == "max" else "mean-tokens" if tokens == "mean" else "auto"
        db.table("runs").update(run["id"], {"settings": json.dumps(settings)})


@SCHEMA()
def m006_what_goes_on(db: Database) -> None:
    """Add activities of units in progress; steering commands, forks, and the prompt that each step sent.

    See ``activity`` and ``steering_queue``.
    """
    leases = db.table("leases")
    columns = {"node": str, "kind": str, "step": int, "steps": int, "attempt": int, "concept": str, "best": str,
               "best_score": float, "since": float, "drawn": int, "reused": int, "measured": int}  # fmt: skip
    for column, kind in columns.items():
        leases.add_column(column, kind)
    db.table("wishes").create(
        {"id": int, "run": str, "unit": int, "kind": str, "concept": str, "by": str, "created": float,
         "taken": float, "step": int, "attempt": int, "node": str, "outcome": str},
        pk="id", not_null={"run", "unit", "kind", "concept", "by", "created"},
        foreign_keys=[("run", "runs", "id")],
    )  # fmt: skip
    db.table("wishes").create_index(["run", "unit", "taken"])
    for column, kind in {"forked_from": str, "forked_unit": int, "forked_step": int}.items():
        db.table("runs").add_column(column, kind)
    db.table("steps").add_column("prompt", str)


@SCHEMA()
def m007_what_is_wrong_with_a_label(db: Database) -> None:
    """Add what speaks against a unit's label; index the outcomes of steps."""
    units = db.table("units")
    for column, kind in {"note": str, "auc_low": float, "auc_high": float, "density": float}.items():
        units.add_column(column, kind)
    db.table("steps").create_index(["run", "unit", "kind", "outcome", "origin"], "steps_outcomes")


@SCHEMA()
def m008_facets(db: Database) -> None:
    """Add the facets of units, and the numbers of each unit; see ``facets``."""
    db.table("unit_facets").create(
        {"run": str, "unit": int, "told": str, "numbers": str},
        pk=("run", "unit"), foreign_keys=[("run", "runs", "id")], not_null={"told", "numbers"},
    )  # fmt: skip
    db.table("facets").create(
        {"run": str, "unit": int, "facet": int, "label": str, "score": float, "auc": float, "mad": float,
         "share": float, "sources": str, "images": str, "cosine": float, "origin": str, "step": int},
        pk=("run", "unit", "facet"), foreign_keys=[("run", "runs", "id")],
        not_null={"share", "sources", "images"},
    )  # fmt: skip


@EVALUATIONS()
def m001_evaluations(db: Database) -> None:
    """Create the first schema of evaluations."""
    identity = {
        **dict.fromkeys(("method", "source", "model", "layer", "images", "control", "mode"), str),
        **dict.fromkeys(("seed", "count"), int),
        **dict.fromkeys(("target", "images_id", "control_id"), str),
    }
    evaluations = db.table("evaluations").create({"id": int, **identity, "updated": float}, pk="id")
    evaluations.create_index(list(identity), unique=True)
    db.table("judged").create(
        {"evaluation": int, "unit": int, "concept": str, "auc": float, "u1": float, "p": float, "mad": float,
         "n": int, "missing": str},
        pk=("evaluation", "unit"), foreign_keys=[("evaluation", "evaluations", "id")],
        not_null={"concept", "n", "missing"},
    )  # fmt: skip
    db.execute("PRAGMA user_version = 1")


@EVALUATIONS()
def m002_edits(db: Database) -> None:
    """Add edits of images, an arm a row, and the numbers of each unit; see ``edits``."""
    identity = {
        **dict.fromkeys(("method", "source", "model", "layer", "editor", "verifier", "subjects", "how"), str),
        **dict.fromkeys(("count", "seed"), int),
        **dict.fromkeys(("target", "editor_id", "verifier_id", "control_id"), str),
    }
    evaluations = db.table("edit_evaluations").create({"id": int, **identity, "updated": float}, pk="id")
    evaluations.create_index(list(identity), unique=True)
    db.table("edits").create(
        {"evaluation": int, "unit": int, "place": int, "arm": str, "source": str, "name": str, "kind": str,
         "concept": str, "other": str, "image": str, "activation": float, "share": float, "psnr": float,
         "shift": float, "scale": float, "verdict": str, "before": float, "after": float, "detail": str},
        pk=("evaluation", "unit", "place", "arm"), foreign_keys=[("evaluation", "edit_evaluations", "id")],
    )  # fmt: skip
    db.table("edited_units").create(
        {"evaluation": int, "unit": int, "label": str, "numbers": str},
        pk=("evaluation", "unit"), foreign_keys=[("evaluation", "edit_evaluations", "id")],
        not_null={"label", "numbers"},
    )  # fmt: skip
    db.execute("PRAGMA user_version = 2")


@EVALUATIONS()
def m003_several_labels_of_a_unit(db: Database) -> None:
    """Keep the scores of each label of a unit; those that are there are of its first."""
    db.execute("ALTER TABLE judged RENAME TO judged_of_units")
    db.table("judged").create(
        {"evaluation": int, "unit": int, "concept": str, "auc": float, "u1": float, "p": float, "mad": float,
         "n": int, "missing": str, "facet": int},
        pk=("evaluation", "unit", "facet"), foreign_keys=[("evaluation", "evaluations", "id")],
        not_null={"concept", "n", "missing"},
    )  # fmt: skip
    db.execute(
        "INSERT INTO judged (evaluation, unit, concept, auc, u1, p, mad, n, missing, facet)"
        " SELECT evaluation, unit, concept, auc, u1, p, mad, n, missing, 0 FROM judged_of_units ORDER BY rowid"
    )
    db.execute("DROP TABLE judged_of_units")
    db.execute("PRAGMA user_version = 3")


@EVALUATIONS()
def m004_visual(db: Database) -> None:
    """Add sets of images of units, a set a row; see ``results.visual``."""
    identity = {
        **dict.fromkeys(("source", "model", "layer"), str),
        **dict.fromkeys(("side", "count", "seed"), int),
        **dict.fromkeys(("target", "control_id", "second", "second_id", "verifier_id", "encoder_id"), str),
    }
    evaluations = db.table("visual_evaluations").create({"id": int, **identity, "updated": float}, pk="id")
    evaluations.create_index(list(identity), unique=True)
    db.table("visual_sets").create(
        {"evaluation": int, "unit": int, "name": str, "label": str, "images": str, "numbers": str, "missing": str},
        pk=("evaluation", "unit", "name"), foreign_keys=[("evaluation", "visual_evaluations", "id")],
        not_null={"label", "images", "numbers", "missing"},
    )  # fmt: skip
    db.execute("PRAGMA user_version = 4")


@EVALUATIONS()
def m005_audits(db: Database) -> None:
    """Add audits of classes, a feature a row; see ``audits``."""
    identity = {
        **dict.fromkeys(("source", "model", "layer", "features", "editor", "verifier", "how"), str),
        **dict.fromkeys(("count", "seed"), int),
        **dict.fromkeys(("target", "editor_id", "verifier_id", "control_id"), str),
    }
    audits = db.table("audits").create({"id": int, **identity, "updated": float}, pk="id")
    audits.create_index(list(identity), unique=True)
    db.table("audited_features").create(
        {"audit": int, "class": int, "feature": int, "label": str, "numbers": str},
        pk=("audit", "class", "feature"), foreign_keys=[("audit", "audits", "id")],
        not_null={"label", "numbers"},
    )  # fmt: skip
    db.execute("PRAGMA user_version = 5")
