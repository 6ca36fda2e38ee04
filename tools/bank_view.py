"""The pictures of a store, looked at without changing it: files, how they were made, and a unit's activations."""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from line_neurons.agent.ports import Control, ImageRequest
from line_neurons.tools.databases import explained, opened_to_look
from line_neurons.tools.picture_files import is_image_id

# Of a vector of thousands of units four bytes are wanted.
_VECTOR = "SELECT substr(vector, ?, 4) FROM activations WHERE image = ? AND target = ? AND layer = ?"


@dataclass(frozen=True)
class Pictured:
    """A picture as the store has it.

    Args:
        id: the SHA-256 of its file.
        path: where the file is, or should be.
        content: the PNG file; empty where ``trouble`` says why there is none.
        trouble: what is wrong with the picture, in words that follow "the picture".
        prompt: what it was drawn from; empty where the store does not know.
        seed: the seed that it was drawn with.
        generator: the generator's fingerprint.
        account: what the generator says of how it was made.
        activation: the unit's activation on it; None where it is not kept, or not finite.
    """

    id: str
    path: Path
    content: bytes = b""
    trouble: str = ""
    prompt: str = ""
    seed: int | None = None
    generator: str = ""
    account: Mapping[str, Any] | None = None
    activation: float | None = None


def pictures(store: Path, images: Sequence[str], target: str, layer: str, unit: int) -> list[Pictured]:
    """Pictures in the order of ``images``; those that have gone or are damaged say so.

    Args:
        store: the store's folder.
        images: ids of pictures.
        target: fingerprint of the vision model.
        layer: dotted path.
        unit: index of the unit.

    Raises:
        StoreError: the bank cannot be read.
    """
    if not (store / "bank.db").is_file():
        return [_picture(store, image, None, None) for image in images]
    with _looked_at(store) as db:
        return [
            _picture(
                store,
                image,
                db.execute(
                    "SELECT prompt, seed, generator, provenance FROM draws WHERE image = ? ORDER BY rowid LIMIT 1",
                    [image],
                ).fetchone(),
                db.execute(_VECTOR, [4 * unit + 1, image, target, layer]).fetchone(),
            )
            for image in images
        ]


def control(store: Path, key: str) -> Control | None:
    """The control activations that are kept under a key; None if there are none, or their file is damaged.

    Raises:
        StoreError: the bank cannot be read.
    """
    import numpy as np

    if not (store / "bank.db").is_file():
        return None
    with _looked_at(store) as db:
        row = db.execute("SELECT classes, skipped FROM controls WHERE key = ?", [key]).fetchone()
    path = control_path(store, key)
    if row is None:
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            labels, values = arrays["labels"], arrays["activations"]
        classes, skipped = (tuple(map(str, json.loads(column))) for column in row)
    except (OSError, ValueError, TypeError, KeyError, EOFError, RecursionError, zipfile.BadZipFile):
        return None
    if values.ndim != 2 or labels.shape != values.shape[:1]:
        return None
    return Control(classes, labels, values, skipped)


def control_counts(store: Path, layer: str, fingerprints: Mapping[str, Any]) -> tuple[int, int]:
    """How many images of a run's control set were measured, and how many could not be read; zeros if not known.

    Args:
        store: the store's folder.
        layer: dotted path of the run's layer.
        fingerprints: the run's.

    Raises:
        StoreError: the bank cannot be read.
    """
    import numpy as np

    names = [fingerprints.get("target"), layer, fingerprints.get("control")]
    if not all(isinstance(name, str) for name in names) or not (store / "bank.db").is_file():
        return 0, 0
    key = control_key(*map(str, names))
    with _looked_at(store) as db:
        row = db.execute("SELECT skipped FROM controls WHERE key = ?", [key]).fetchone()
    try:
        skipped = len(json.loads(row[0])) if row else 0
        if not skipped:
            return 0, 0
        with np.load(control_path(store, key), allow_pickle=False) as arrays:
            return len(arrays["labels"]), skipped
    except (OSError, ValueError, TypeError, KeyError, EOFError, RecursionError, zipfile.BadZipFile):
        return 0, 0


def control_key(target: str, layer: str, control: str) -> str:
    """What the activations of a layer on a control set are kept under, of the fingerprints of both."""
    return "\n".join((target, layer, control))


def control_path(store: Path, key: str) -> Path:
    """Where control activations are kept under a key."""
    return store / "controls" / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"


def control_classes(store: Path, target: str, layer: str, control: str) -> tuple[str, ...] | None:
    """The names of the classes of a control set that was measured; None where it was not, or has none.

    Args:
        store: the store's folder.
        target: fingerprint of the vision model.
        layer: dotted path.
        control: fingerprint of the control set.

    Raises:
        StoreError: the bank cannot be read.
    """
    if not (store / "bank.db").is_file():
        return None
    with _looked_at(store) as db:
        key = control_key(target, layer, control)
        row = db.execute("SELECT classes FROM controls WHERE key = ?", [key]).fetchone()
    try:
        names = json.loads(row[0]) if row else None
    except (ValueError, TypeError, RecursionError):
        return None
    return tuple(map(str, names)) or None if isinstance(names, list) else None


def activations(store: Path, images: Sequence[str], target: str, layer: str, unit: int) -> list[float | None]:
    """A unit's activation on pictures, in their order, without the pictures; see ``pictures``."""
    if not (store / "bank.db").is_file():
        return [None] * len(images)
    with _looked_at(store) as db:
        found = (db.execute(_VECTOR, [4 * unit + 1, image, target, layer]).fetchone() for image in images)
        return [_number(vector[0]) if vector else None for vector in found]


def requests_of(store: Path, concept: str, generator: str, limit: int) -> list[ImageRequest]:
    """What was asked for the first pictures that a generator drew of a concept for searches, in that order.

    Raises:
        StoreError: the bank cannot be read.
    """
    if not (store / "bank.db").is_file():
        return []
    statement = (
        "SELECT request FROM draws WHERE generator = ? AND json_extract(request, '$.concept') = ?"
        " AND json_extract(request, '$.angle') != '' GROUP BY image ORDER BY min(rowid) LIMIT ?"
    )
    with _looked_at(store) as db:
        rows = db.execute(statement, [generator, concept, limit]).fetchall()
    return [ImageRequest(**json.loads(request)) for (request,) in rows]


@contextmanager
def _looked_at(store: Path) -> Iterator[sqlite3.Connection]:
    path = store / "bank.db"
    with explained(path), closing(opened_to_look(path)) as db:
        yield db


def _picture(store: Path, image: str, drawn: Any, vector: Any) -> Pictured:
    if not is_image_id(image):
        return Pictured(image, store, trouble="has an id that no picture has")
    path = path_of(store, image)
    content, trouble = content_of(store, image)
    prompt, seed, generator, account = drawn or ("", None, "", None)
    return Pictured(
        image,
        path,
        content,
        trouble,
        str(prompt),
        seed if isinstance(seed, int) else None,
        str(generator),
        _account(account),
        _number(vector[0]) if vector else None,
    )


def path_of(store: Path, image: str) -> Path:
    """Where the file of a picture is, or should be."""
    return store / "images" / image[:2] / f"{image}.png"


def content_of(store: Path, image: str) -> tuple[bytes, str]:
    """The PNG file of a picture and, where it is empty, what is wrong with it, in words that follow "the picture".

    Args:
        store: the store's folder.
        image: the picture's id.
    """
    if not is_image_id(image):
        return b"", "has an id that no picture has"
    path = path_of(store, image)
    try:
        # A pipe in its place would be waited for.
        if not path.is_file():
            return b"", "is no file any more" if path.exists() else "has gone"
        content = path.read_bytes()
    except OSError as error:
        return b"", f"cannot be read: {error.strerror}"
    if hashlib.sha256(content).hexdigest() != image:
        return b"", "is damaged: its content has changed"
    return content, ""


def _account(text: object) -> Mapping[str, Any] | None:
    try:
        account = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return account if isinstance(account, dict) else None


def _number(four: object) -> float | None:
    if not isinstance(four, bytes) or len(four) != 4:
        return None
    value: float = struct.unpack("<f", four)[0]
    return value if math.isfinite(value) else None
