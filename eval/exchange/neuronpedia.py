"""Write a run's units in the shape of Neuronpedia's features: explanations, scores and top activations as JSON.

The fields are called as in the records Neuron, Explanation, ExplanationScore and Activation of the database schema
that Neuronpedia publishes, for its API and exports. What they have no field for stands under ``line``. It was
not tried with their server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from line_neurons.eval.exchange.snapshot import ImageOrigin, Snapshot
from line_neurons.tools.store.records import Step, Unit

SCHEMA = "line-neurons/neuronpedia-like/1"
TOP = 20
"""Images of a unit, those with its highest activations."""

_SCORES = ("auc", "mad")


def write_features(taken: Snapshot, file: BinaryIO, about: Mapping[str, Any]) -> int:
    """Write one JSON object whose ``features`` are the run's units, one at a time.

    Args:
        taken: the run.
        file: where to write.
        about: where the run comes from.

    Returns:
        how many units there are.

    Raises:
        StoreError: the store cannot be read.
    """
    head = {"schema": SCHEMA, "run": taken.run.id, "provenance": dict(about)}
    file.write(json.dumps(head)[:-1].encode() + b', "features": [')
    count = 0
    for feature in _features(taken):
        file.write((b",\n" if count else b"\n") + json.dumps(feature).encode())
        count += 1
    file.write(b"\n]}\n")
    return count


def _features(taken: Snapshot) -> Iterator[dict[str, Any]]:
    run = taken.run
    for unit in taken.units():
        place = {"modelId": run.target_name, "layer": run.layer, "index": str(unit.unit)}
        activations = _activations(taken, unit, place)
        yield {
            **place,
            "maxActApprox": activations[0]["maxValue"] if activations else None,
            "explanations": [_explanation(taken, unit, place)] if unit.label else [],
            "activations": activations,
            "line": {"name": unit.name, "status": unit.status, "error": unit.error, "note": unit.note},
        }


def _explanation(taken: Snapshot, unit: Unit, place: Mapping[str, str]) -> dict[str, Any]:
    run = taken.run
    values = {
        str(run.settings.get("scorer", "mean")): unit.score,
        **{name: getattr(unit, name) for name in _SCORES},
    }
    return {
        **place,
        "description": unit.label,
        "typeName": "line",
        "explanationModelName": run.fingerprints.get("language_model"),
        "scores": [
            {"explanationScoreTypeName": f"line_{name}", "value": value, "explanationScoreModelName": "line"}
            for name, value in values.items()
            if value is not None
        ],
    }


def _activations(taken: Snapshot, unit: Unit, place: Mapping[str, str]) -> list[dict[str, Any]]:
    shown: dict[str, Step] = {}
    for step in taken.runs.steps(taken.run.id, unit.unit):
        for image in step.images:
            shown.setdefault(image, step)
    known = taken.drawn(list(shown), unit.unit)
    measured = [(one.activation, image, one) for image, one in known.items() if one.activation is not None]
    measured.sort(key=lambda row: (-row[0], row[1]))
    return [_activation(value, image, one, shown[image], place) for value, image, one in measured[:TOP]]


def _activation(
    value: float, image: str, one: ImageOrigin, step: Step, place: Mapping[str, str]
) -> dict[str, Any]:
    return {
        **place,
        # An image stands for a text of one token.
        "tokens": [image],
        "values": [value],
        "maxValue": value,
        "minValue": value,
        "maxValueTokenIndex": 0,
        "dataSource": one.generator,
        "line": {"picture": image, "concept": step.concept, "prompt": one.prompt, "seed": one.seed},
    }
