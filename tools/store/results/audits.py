"""Results of audits in a store's ``evaluations.db``, a feature of a class a row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from line_neurons.agent.errors import DamagedError
from line_neurons.agent.text import storable_text
from line_neurons.tools.store.results.evaluations import Evaluations
from line_neurons.tools.store.results.values import finite, read_numbers, read_records, read_rows, stored_fields
from line_neurons.tools.store.sqlite import translate_errors


@dataclass(frozen=True, order=True)
class Audit:
    """What was audited, and how; audits that differ in anything are kept apart.

    ``target`` and the fields in ``_id`` are fingerprints.

    Args:
        source: the run with the features' labels.
        model: spec of the classifier, with the version of its weights.
        editor: name of the editor; empty if nothing was edited.
        how: kinds of edit, separated by commas.
        count: edited images of each feature and class.
    """

    source: str
    model: str
    layer: str
    features: str
    editor: str
    verifier: str
    how: str
    count: int
    seed: int
    target: str = ""
    editor_id: str = ""
    verifier_id: str = ""
    control_id: str = ""


@dataclass(frozen=True)
class AuditedFeature:
    """A feature of a class with its numbers, by name; nan is None.

    Args:
        feature: unit of the features layer.
        label: the label that was audited; empty if the feature has none.
        numbers: by name; see ``eval.audit.runner``.
    """

    index: int
    feature: int
    label: str
    numbers: Mapping[str, Any]


class AuditResults:
    """Audits in the database ``evaluations.db`` of a store."""

    def __init__(self, evaluations: Evaluations) -> None:
        self._evaluations = evaluations

    def put(self, audit: Audit, row: AuditedFeature) -> None:
        """Keep a feature of a class in place of an earlier one."""
        with self._evaluations.changed("audits", stored_fields(audit)) as (_, key):
            self._evaluations.database.table("audited_features").upsert(
                {
                    "audit": key, "class": row.index, "feature": row.feature, "label": storable_text(row.label),
                    "numbers": json.dumps(finite(row.numbers)),
                },
                pk=("audit", "class", "feature"),
            )  # fmt: skip

    def features(self, audit: Audit) -> dict[tuple[int, int], AuditedFeature]:
        """Return what was found of features, by class and feature.

        Raises:
            DamagedError: a row holds an impossible value.
        """
        with translate_errors(self._evaluations.path), self._evaluations.lock:
            db = self._evaluations.database.conn
            rows = [
                row
                for key, _, _ in read_records(db, "audits", Audit, stored_fields(audit))
                for row in read_rows(db, "audited_features", audit=key)
            ]
        return {(found.index, found.feature): found for found in map(_feature, rows)}


def _feature(row: Mapping[str, Any]) -> AuditedFeature:
    try:
        return AuditedFeature(
            int(row["class"]), int(row["feature"]), str(row["label"]), read_numbers(row["numbers"])
        )
    except (TypeError, ValueError) as error:
        raise DamagedError(
            f"what evaluations.db holds of the audit of feature {row['feature']!r:.40} is damaged",
            "audit it again",
        ) from error
