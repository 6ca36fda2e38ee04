"""Write a run's units in the shape of Neuronpedia's features: explanations, scores and top activations as JSON.

Field names follow the records Neuron, Explanation, ExplanationScore and Activation of Neuronpedia's published
database schema. Values without such a field are under ``line``. It was not tried with their server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from line_neurons.eval.exchange.snapshot import ImageOrigin, Snapshot
from line_neurons.tools.label_marks import note_with_doubts
from line_neurons.tools.run_problems import recorded_doubts
from line_neurons.tools.store.records import Step, Unit
from line_neurons.tools.store.results.facets import UnitFacets, facets_of

SCHEMA = "line-neurons/neuronpedia-like/1"
TOP = 20
"""Number of images of a unit, those with its highest activations."""

_SCORES = ("auc", "mad")


def write_features(snapshot: Snapshot, file: BinaryIO, provenance: Mapping[str, Any]) -> int:
    """Write one JSON object whose ``features`` are the run's units, and return their number.

    Raises:
        StoreError: the store cannot be read.
    """
    head = {"schema": SCHEMA, "run": snapshot.run.id, "provenance": dict(provenance)}
    file.write(json.dumps(head)[:-1].encode() + b', "features": [')
    count = 0
    for feature in _features(snapshot):
        file.write((b",\n" if count else b"\n") + json.dumps(feature).encode())
        count += 1
    file.write(b"\n]}\n")
    return count


def _features(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    run = snapshot.run
    doubts, facets = recorded_doubts(snapshot.runs, run.id), facets_of(snapshot.runs, run.id)
    for unit in snapshot.units():
        place = {"modelId": run.target_name, "layer": run.layer, "index": str(unit.unit)}
        activations = _activations(snapshot, unit, place)
        (spread,) = snapshot.spreads.of_units([unit])
        yield {
            **place,
            "maxActApprox": activations[0]["maxValue"] if activations else None,
            "explanations": list(_explanations(snapshot, unit, facets.get(unit.unit), place)),
            "activations": activations,
            "line": {
                "name": unit.name,
                "status": unit.status,
                "error": unit.error,
                "note": note_with_doubts(unit.note, doubts if unit.label is not None else ()),
                "spread": spread,
            },
        }


def _explanations(
    snapshot: Snapshot, unit: Unit, found: UnitFacets | None, place: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the unit's label, and those of its other facets."""
    if not unit.label:
        return
    yield _explanation(snapshot, unit.label, unit.score, {name: getattr(unit, name) for name in _SCORES}, place)
    for facet in found.facets[1:] if found else ():
        if facet.label is not None:
            yield _explanation(snapshot, facet.label, facet.score, {"auc": facet.auc, "mad": facet.mad}, place)


def _explanation(
    snapshot: Snapshot,
    label: str,
    score: float | None,
    others: Mapping[str, float | None],
    place: Mapping[str, str],
) -> dict[str, Any]:
    run = snapshot.run
    values = {str(run.settings.get("scorer", "mean")): score, **others}
    return {
        **place,
        "description": label,
        "typeName": "line",
        "explanationModelName": run.fingerprints.get("language_model"),
        "scores": [
            {"explanationScoreTypeName": f"line_{name}", "value": value, "explanationScoreModelName": "line"}
            for name, value in values.items()
            if value is not None
        ],
    }


def _activations(snapshot: Snapshot, unit: Unit, place: Mapping[str, str]) -> list[dict[str, Any]]:
    shown: dict[str, Step] = {}
    for step in snapshot.runs.steps(snapshot.run.id, unit.unit):
        for image in step.images:
            shown.setdefault(image, step)
    known = snapshot.image_origins(list(shown), unit.unit)
    measured = [
        (origin.activation, image, origin) for image, origin in known.items() if origin.activation is not None
    ]
    measured.sort(key=lambda row: (-row[0], row[1]))
    return [_activation(value, image, origin, shown[image], place) for value, image, origin in measured[:TOP]]


def _activation(
    value: float, image: str, one: ImageOrigin, step: Step, place: Mapping[str, str]
) -> dict[str, Any]:
    return {
        **place,
        # An image is a text of one token.
        "tokens": [image],
        "values": [value],
        "maxValue": value,
        "minValue": value,
        "maxValueTokenIndex": 0,
        "dataSource": one.generator,
        "line": {"picture": image, "concept": step.concept, "prompt": one.prompt, "seed": one.seed},
    }
