"""The files of a bundle: a zip file with a run for another machine.

``manifest.json`` names every other file with its SHA-256; tables are JSON lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from line_neurons.agent.steering import SteeringKind

SCHEMA = "line-neurons/bundle/1"
MANIFEST, PROVENANCE, RUN = "manifest.json", "provenance.json", "run.json"
UNITS, STEPS, EVENTS, WISHES = "units.jsonl", "steps.jsonl", "events.jsonl", "wishes.jsonl"
CHECKPOINTS, WRITES = "checkpoints.jsonl", "writes.jsonl"
IMAGES, VECTORS, NUMBERS, CONTROLS = "pictures.jsonl", "activations.jsonl", "activations.f32", "controls.jsonl"

TABLES = (UNITS, STEPS, EVENTS, WISHES, CHECKPOINTS, WRITES, IMAGES, VECTORS, CONTROLS)
"""Files that are read line by line."""

SEARCH = (RUN, UNITS, STEPS, EVENTS, WISHES, CHECKPOINTS, WRITES)
"""Files that identify a run's state: two bundles that agree in them are of the same run at the same moment."""

NAMED = re.compile(r"images/([0-9a-f]{64})\.png|controls/([0-9a-f]{64})\.npz")
"""Names of the other files: images by the hash of their content, control activations by that of their key."""

NOT_CARRIED = ("imported", "own code vouched for")
"""Kinds of events that concern one store only."""


def image_name(image: str) -> str:
    """Return the name of an image's file."""
    return f"images/{image}.png"


def control_name(digest: str) -> str:
    """Return the name of a file of control activations."""
    return f"controls/{digest}.npz"


@dataclass(frozen=True)
class File:
    """Hash and size of a file in the manifest."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The manifest.

    Args:
        schema: ``SCHEMA``.
        line_neurons: version of the program that wrote the bundle.
        run: id of the run where it was exported.
        lost_images: number of images of its histories that the store no longer had.
        lost_threads: number of units whose checkpoints could not be read; they start again.
        files: every other file by name.
    """

    schema: str
    line_neurons: str
    run: str
    lost_images: int
    lost_threads: int
    files: dict[str, File]


@dataclass(frozen=True)
class Event:
    """An event of the runner; see ``RunStore.add_event``."""

    unit: int | None
    kind: str
    created: float
    detail: dict[str, Any]


@dataclass(frozen=True)
class CommandRow:
    """A steering command with its unit; see ``steering_queue.SteeringCommand``."""

    id: int
    unit: int
    kind: SteeringKind
    concept: str
    by: str
    created: float
    taken: float | None
    outcome: str
    step: int | None
    attempt: int | None
    node: str | None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a unit as LangGraph stores it; ``data`` is in base64, of the kind ``type``."""

    unit: int
    id: str
    parent: str | None
    type: str
    data: str
    metadata: str


@dataclass(frozen=True)
class Write:
    """A node's write after a checkpoint, as LangGraph stores it."""

    unit: int
    id: str
    task: str
    path: str
    idx: int
    channel: str
    type: str
    data: str


@dataclass(frozen=True)
class Image:
    """The record of a generated image: ``request`` and ``account`` are JSON as in the cache."""

    generator: str
    prompt: str
    seed: int
    image: str
    size: int
    request: str
    account: str


@dataclass(frozen=True)
class Vector:
    """The image of the next ``units`` numbers of ``activations.f32``, little-endian float32."""

    image: str
    units: int


@dataclass(frozen=True)
class ControlRow:
    """Control activations: ``classes`` and ``skipped`` are JSON as in the cache."""

    key: str
    classes: str
    skipped: str
