"""Audits in the store: stores of before, damaged rows, and removal with their run."""

import sqlite3
from contextlib import closing

import pytest

from line_neurons.agent.errors import DamagedError
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.removal.runs import AUDIT_MARK, remove_runs
from line_neurons.tools.store.results.audits import Audit, AuditedFeature, AuditResults
from line_neurons.tools.store.results.edits import EditArm, EditEvaluation, EditResults
from line_neurons.tools.store.results.evaluations import Evaluations
from line_neurons.tools.store.runs import RunStore


def audit(source="r-1"):
    return Audit(source, "m", "fc", "pool", "composed", "known", "remove", 12, 0)


def test_a_store_of_the_version_before_gets_the_tables(tmp_path):
    Evaluations(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "evaluations.db")) as db:
        db.executescript(
            "DROP TABLE audited_features; DROP TABLE audits;"
            "DELETE FROM _sqlite_migrations WHERE name LIKE '%audits'; PRAGMA user_version = 4"
        )
    with closing(Evaluations(tmp_path)) as opened:
        results = AuditResults(opened)
        assert results.features(audit()) == {}
        results.put(audit(), AuditedFeature(3, 7, "wheel", {"lean": float("nan"), "rank": 1}))
        results.put(audit(), AuditedFeature(3, 7, "tyre", {"lean": None, "rank": 1}))
        assert results.features(audit()) == {(3, 7): AuditedFeature(3, 7, "tyre", {"lean": None, "rank": 1})}
        assert results.features(audit("r-2")) == {}


def test_a_damaged_row_is_named(tmp_path):
    with closing(Evaluations(tmp_path)) as opened:
        AuditResults(opened).put(audit(), AuditedFeature(3, 7, "wheel", {}))
        opened.database.conn.execute("UPDATE audited_features SET numbers = '[]'")
        with pytest.raises(DamagedError, match="audit of feature 7 is damaged"):
            AuditResults(opened).features(audit())


def test_an_audit_goes_with_its_run_alone(tmp_path):
    runs = RunStore(tmp_path)
    for name in ("r-1", "r-10"):
        runs.add_run(Run(name, "m", "pool", 0, "finished", 0.0, {}, {}, {}), [])
    with closing(Evaluations(tmp_path)) as opened:
        for source in ("r-1", "r-10"):
            AuditResults(opened).put(audit(source), AuditedFeature(3, 7, "wheel", {}))
            place = EditEvaluation(
                "line",
                f"{source}{AUDIT_MARK} feature 7)",
                "m",
                "fc",
                "composed",
                "known",
                "class",
                "remove",
                12,
                0,
            )
            EditResults(opened).put(place, [EditArm(3, 0, "original", "0", image="ab" * 32)])
    remove_runs(runs, ["r-1"])
    with closing(Evaluations(tmp_path)) as opened:
        assert AuditResults(opened).features(audit("r-1")) == {}
        assert len(AuditResults(opened).features(audit("r-10"))) == 1
        assert [found.evaluation.source for found in EditResults(opened).results()] == ["r-10 (audit, feature 7)"]
