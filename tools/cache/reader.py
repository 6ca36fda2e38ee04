"""Read the cache without changing it: images, how they were made, and activations."""

from __future__ import annotations

import hashlib
import math
import sqlite3
import statistics
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from line_neurons.agent.activations import SparseActivations
from line_neurons.agent.errors import reason_of
from line_neurons.agent.ports import Control, ImageRequest
from line_neurons.tools.array_files import UNREADABLE, read_arrays, shapes_of
from line_neurons.tools.cache.checksums import checksum, vector_error
from line_neurons.tools.cache.image_files import image_path, is_image_id, read_image_file
from line_neurons.tools.cache.vectors import value_bytes
from line_neurons.tools.json_text import loads
from line_neurons.tools.store.sqlite import open_readonly, translate_errors

_SAMPLED = 50
"""Vectors of a layer whose most frequent length tells which are cut."""


@dataclass(frozen=True)
class StoredImage:
    """A cached image.

    Args:
        id: the SHA-256 of its file.
        path: where the file is, or should be.
        content: the PNG file; empty where ``error`` says why there is none.
        error: what is wrong with the image, in words that follow "the image".
        prompt: what it was generated from; empty where the store does not know.
        activation: the unit's activation on it; None where it is not kept, or corrupt.
    """

    id: str
    path: Path
    content: bytes = b""
    error: str = ""
    prompt: str = ""
    seed: int | None = None
    generator: str = ""
    metadata: Mapping[str, Any] | None = None
    activation: float | None = None


def stored_images(store: Path, images: Sequence[str], target: str, layer: str, unit: int) -> list[StoredImage]:
    """Read images in the order of ``images``; missing and corrupt ones have an ``error``.

    Raises:
        StoreError: the cache cannot be read.
    """
    if not (store / "bank.db").is_file():
        return [_image(store, image, None, None) for image in images]
    with _opened(store) as db:
        vectors = _vectors(db)
        return [
            _image(
                store,
                image,
                db.execute(
                    "SELECT prompt, seed, generator, provenance FROM draws WHERE image = ? ORDER BY rowid LIMIT 1",
                    [image],
                ).fetchone(),
                _activation(db.execute(vectors, key).fetchone(), key, unit),
            )
            for image in images
            for key in [(image, target, layer)]
        ]


def stored_control(store: Path, key: str) -> Control | None:
    """Return the control activations kept under a key; None if there are none, or they are corrupt.

    Raises:
        StoreError: the cache cannot be read.
    """
    row = _stored_control_row(store, key)
    return None if row is None else read_control(store, key, row)[0]


def control_row(db: sqlite3.Connection, key: str) -> tuple[Any, Any, Any] | None:
    """Return the row of control activations: classes, skipped, and checksum or None; None if there is none."""
    statement = f"SELECT classes, skipped, {checksum_column(db, 'controls')} FROM controls WHERE key = ?"  # noqa: S608
    row: tuple[Any, Any, Any] | None = db.execute(statement, [key]).fetchone()
    return row


def control_checksum(store: Path, key: str, classes: str, skipped: str) -> bytes:
    """Compute the checksum of the file and the row of control activations.

    Raises:
        OSError: the file cannot be read.
    """
    with control_path(store, key).open("rb") as file:
        return checksum(key, classes, skipped, hashlib.file_digest(file, "sha256").digest())


def read_control(store: Path, key: str, row: tuple[Any, Any, Any]) -> tuple[Control | None, str]:
    """Read control activations with their ``control_row``, unverified if an earlier version wrote no checksum.

    Returns:
        the activations and nothing, or None and what is wrong with them, in words that follow "they".
    """
    try:
        if row[2] is not None and row[2] != control_checksum(store, key, *map(str, row[:2])):
            return None, "are damaged: their content has changed"
        classes, skipped = (tuple(map(str, loads(str(column)))) for column in row[:2])
        labels, values = control_arrays(control_path(store, key))
    except FileNotFoundError:
        return None, "have gone"
    except (*UNREADABLE, TypeError, KeyError) as error:
        return None, f"are damaged: {reason_of(error)}"
    if len(values.shape) != 2 or labels.shape != values.shape[:1] or labels.dtype.kind not in "iu":
        return None, f"are damaged: labels {list(labels.shape)}, activations {list(values.shape)}"
    # A part of a control set knows the names of its classes from the whole.
    if classes and labels.size and not -1 <= labels.min() <= labels.max() < len(classes):
        return None, f"have labels from {labels.min()} to {labels.max()}, and {len(classes)} classes"
    return Control(classes, labels, values, skipped), ""


def control_arrays(file: Path | BinaryIO) -> tuple[Any, Any]:
    """Read labels and activations of a file of control activations, dense or sparse.

    Raises:
        UNREADABLE: it is no such file.
        KeyError: an array is missing.
    """
    import numpy as np

    arrays = read_arrays(file, ("labels", "activations", "values", "images", "starts", "rows"))
    if "activations" in arrays:
        return arrays["labels"], arrays["activations"]
    values, images, starts, rows = (arrays[name] for name in ("values", "images", "starts", "rows"))
    count, total = len(starts) - 1 if starts.ndim == 1 else -1, int(rows)
    fits = (
        count >= 0 and values.shape == images.shape == (int(starts[-1]),) and not starts[0]
        and (np.diff(starts) >= 0).all() and (not len(images) or int(images.max()) < total)
        and values.dtype == np.float32 and images.dtype.kind == "u" and starts.dtype.kind == "i"
    )  # fmt: skip
    if not fits:
        raise ValueError(f"its {len(values)} values do not fit {total} images")
    return arrays["labels"], SparseActivations(values, images, starts, total)


def control_shapes(path: Path) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Return the shapes of labels and activations of a file; errors as for ``control_arrays``."""
    shapes = shapes_of(path, ("labels", "activations", "starts"))
    if "activations" in shapes:
        rows, width = shapes["activations"]
    else:
        rows, width = shapes["labels"][0], shapes["starts"][0] - 1
    return shapes["labels"], (rows, width)


def layer_width(store: Path, target: str, layer: str) -> int:
    """Return the number of units that most kept activations of a layer have; 0 if none are kept.

    Raises:
        StoreError: the cache cannot be read.
    """
    if not (store / "bank.db").is_file():
        return 0
    with _opened(store) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'activations'").fetchone():
            return 0
        return stored_width(db, target, layer)


def stored_width(db: sqlite3.Connection, target: str, layer: str) -> int:
    """Return the number of units that most kept vectors of a layer have; 0 if there are none."""
    statement = (
        f"SELECT coalesce({units_column(db)}, length(vector) / 4) FROM activations"  # noqa: S608
        " WHERE target = ? AND layer = ? LIMIT ?"
    )
    sizes = [size or 0 for (size,) in db.execute(statement, (target, layer, _SAMPLED))]
    return statistics.mode(sizes) if sizes else 0


def control_counts(store: Path, layer: str, fingerprints: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many images of a run's control set were measured and could not be read; zeros if unknown.

    Raises:
        StoreError: the cache cannot be read.
    """
    names = [fingerprints.get("target"), layer, fingerprints.get("control")]
    if not all(isinstance(name, str) for name in names):
        return 0, 0
    key = control_key(*map(str, names))
    row = _stored_control_row(store, key)
    try:
        skipped = len(loads(row[1])) if row else 0
        if not skipped:
            return 0, 0
        return shapes_of(control_path(store, key), ("labels",))["labels"][0], skipped
    except (*UNREADABLE, TypeError, LookupError):
        return 0, 0


def control_key(target: str, layer: str, control: str) -> str:
    """Return the key of the activations of a layer on a control set, from the fingerprints of both."""
    return "\n".join((target, layer, control))


def control_path(store: Path, key: str) -> Path:
    """Return where control activations are kept under a key."""
    return store / "controls" / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"


def control_classes(store: Path, target: str, layer: str, control: str) -> tuple[str, ...] | None:
    """Return the class names of a control set that was measured; None where it was not, or has none.

    Raises:
        StoreError: the cache cannot be read.
    """
    row = _stored_control_row(store, control_key(target, layer, control))
    try:
        names = loads(row[0]) if row else None
    except (ValueError, TypeError):
        return None
    return tuple(map(str, names)) or None if isinstance(names, list) else None


def stored_activations(
    store: Path, images: Sequence[str], target: str, layer: str, unit: int
) -> list[float | None]:
    """Return a unit's activation on each of some images, without the images; see ``stored_images``."""
    found = unit_activations(store, target, layer, [(image, unit) for image in images])
    return [found.get((image, unit)) for image in images]


def unit_activations(
    store: Path, target: str, layer: str, wanted: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], float]:
    """Return activations by image and unit; those that are not kept, or corrupt, are left out.

    The vector of an image is read and verified once, however many units are wanted.

    Raises:
        StoreError: the cache cannot be read.
    """
    units: dict[str, set[int]] = {}
    for image, unit in wanted:
        units.setdefault(image, set()).add(unit)
    if not units or not (store / "bank.db").is_file():
        return {}
    found = {}
    with _opened(store) as db:
        vectors = _vectors(db)
        for image, wanted_units in units.items():
            key = (image, target, layer)
            vector = _whole_vector(db.execute(vectors, key).fetchone(), key)
            if vector is None:
                continue
            for unit in wanted_units:
                if (value := finite_float32(value_bytes(*vector, unit))) is not None:
                    found[image, unit] = value
    return found


def strongest_images(
    store: Path, target: str, layer: str, unit: int, count: int, generator: str | None = None
) -> list[str]:
    """Return the images with a unit's highest activations, of all that a layer was measured on, highest first.

    Every unit of a layer is measured on each image, so images of other units' concepts are among them. With
    ``generator`` only those count that this generator made for searches: no edited ones, for instance.

    Raises:
        StoreError: the cache cannot be read.
    """
    if not (store / "bank.db").is_file():
        return []
    statement, values = "SELECT image FROM activations WHERE target = ? AND layer = ?", [target, layer]
    if generator is not None:
        statement += (
            " AND image IN (SELECT image FROM draws WHERE generator = ?"
            " AND json_extract(request, '$.angle') != '')"
        )
        values.append(generator)
    with _opened(store) as db:
        rows = db.execute(statement, values).fetchall()
    measured = unit_activations(store, target, layer, [(image, unit) for (image,) in rows])
    # Ties: by name, which is a hash.
    return [image for (image, _), _ in sorted(measured.items(), key=lambda one: (-one[1], one[0]))[:count]]


def image_requests(store: Path, concept: str, generator: str, limit: int) -> list[ImageRequest]:
    """Return the requests of the first images that a generator made of a concept for searches, in that order.

    Raises:
        StoreError: the cache cannot be read.
    """
    if not (store / "bank.db").is_file():
        return []
    statement = (
        "SELECT request FROM draws WHERE generator = ? AND json_extract(request, '$.concept') = ?"
        " AND json_extract(request, '$.angle') != '' GROUP BY image ORDER BY min(rowid) LIMIT ?"
    )
    with _opened(store) as db:
        rows = db.execute(statement, [generator, concept, limit]).fetchall()
    return [ImageRequest(**loads(request)) for (request,) in rows]


def _stored_control_row(store: Path, key: str) -> tuple[Any, Any, Any] | None:
    if not (store / "bank.db").is_file():
        return None
    with _opened(store) as db:
        return control_row(db, key)


@contextmanager
def _opened(store: Path) -> Iterator[sqlite3.Connection]:
    path = store / "bank.db"
    with translate_errors(path), closing(open_readonly(path)) as db:
        yield db


def checksum_column(db: sqlite3.Connection, table: str) -> str:
    """Return what to select for a checksum, which a cache of an earlier version lacks."""
    column = db.execute("SELECT 1 FROM pragma_table_info(?) WHERE name = 'checksum'", [table]).fetchone()
    return "checksum" if column else "NULL"


def units_column(db: sqlite3.Connection) -> str:
    """Return what to select for the units of sparse vectors, which a cache of an earlier version lacks."""
    column = db.execute("SELECT 1 FROM pragma_table_info('activations') WHERE name = 'units'").fetchone()
    return "units" if column else "NULL"


def _vectors(db: sqlite3.Connection) -> str:
    return (
        f"SELECT vector, {checksum_column(db, 'activations')}, {units_column(db)} FROM activations"  # noqa: S608
        " WHERE image = ? AND target = ? AND layer = ? AND typeof(vector) = 'blob'"
    )


_VectorRow = tuple[bytes, "bytes | None", "int | None"]
"""A vector, its checksum, and the number of all units of a sparse one."""


def _activation(row: _VectorRow | None, key: tuple[str, str, str], unit: int) -> float | None:
    """Return a unit's activation from a row of ``_vectors``; None of none, and of a corrupt one."""
    vector = _whole_vector(row, key)
    return None if vector is None else finite_float32(value_bytes(*vector, unit))


def _whole_vector(row: _VectorRow | None, key: tuple[str, str, str]) -> tuple[bytes, int | None] | None:
    """Return vector and units of a row of ``_vectors``; None of none, and of a corrupt one."""
    if row is None:
        return None
    vector, kept, units = row
    return None if vector_error(*key, vector, kept, None, units) else (vector, units)


def _image(store: Path, image: str, row: Any, activation: float | None) -> StoredImage:
    if not is_image_id(image):
        return StoredImage(image, store, error="has an id that no image has")
    path = image_path(store, image)
    content, error = read_image_file(store, image)
    prompt, seed, generator, provenance = row or ("", None, "", None)
    return StoredImage(
        image,
        path,
        content,
        error,
        str(prompt),
        seed if isinstance(seed, int) else None,
        str(generator),
        _metadata(provenance),
        activation,
    )


def _metadata(text: object) -> Mapping[str, Any] | None:
    try:
        metadata = loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return metadata if isinstance(metadata, dict) else None


def finite_float32(four: object) -> float | None:
    """Decode the four bytes of an activation; None for other bytes and for a value that is not finite."""
    if not isinstance(four, bytes) or len(four) != 4:
        return None
    value: float = struct.unpack("<f", four)[0]
    return value if math.isfinite(value) else None
