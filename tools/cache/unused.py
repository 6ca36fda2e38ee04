"""Find and remove cached images and activations that no run or evaluation of the store refers to."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from line_neurons.tools.cache.database import CacheDatabase
from line_neurons.tools.cache.image_files import image_path, is_image_id
from line_neurons.tools.cache.reader import control_path
from line_neurons.tools.json_text import loads
from line_neurons.tools.store.paths import own_files
from line_neurons.tools.store.removal.references import References
from line_neurons.tools.store.sqlite import open_readonly, translate_errors

_AT_ONCE = 10_000


@dataclass
class Unused:
    """Cached content that nothing refers to.

    Args:
        images: ids of images, with or without a row.
        vectors: row numbers of activations.
        controls: keys of control activations.
    """

    images: list[str] = field(default_factory=list)
    image_bytes: int = 0
    vectors: list[int] = field(default_factory=list)
    vector_bytes: int = 0
    controls: list[str] = field(default_factory=list)
    control_bytes: int = 0
    rows: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        """All of it, in bytes."""
        return self.image_bytes + self.vector_bytes + self.control_bytes


def image_sizes(store: Path, images: Collection[str]) -> tuple[int, int]:
    """Return how many of some images have a file, and the size of these in bytes."""
    sizes = [size for image in images if (size := _size(image_path(store, image) if is_image_id(image) else None))]
    return len(sizes), sum(sizes)


def find_unused(store: Path, known: References) -> Unused:
    """Find what nothing refers to in a cache.

    Raises:
        StoreError: the cache cannot be read.
    """
    path, found = store / "bank.db", Unused()
    if not path.is_file():
        return found
    with translate_errors(path), closing(open_readonly(path)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        kept = _find_images(store, db, known, found) if "draws" in tables else set()
        if "activations" in tables:
            layers = _find_vectors(db, known, kept, found)
            # Embeddings of baselines are kept in the same table, and are of no target.
            for (key,) in db.execute("SELECT key FROM controls"):
                target, layer, control = [*str(key).split("\n"), "", "", ""][:3]
                if (target, layer) in layers and (target, layer, control) not in known.controls:
                    found.controls.append(str(key))
                    found.control_bytes += _size(control_path(store, str(key)))
    return found


def _find_images(store: Path, db: sqlite3.Connection, known: References, found: Unused) -> set[str]:
    """Find images that nothing refers to; return the ids of the others."""
    rows: list[tuple[int, str]] = []
    kept = set(known.images)
    statement = "SELECT rowid, image, generator, request, provenance FROM draws"
    for row, image, generator, request, provenance in db.execute(statement):
        if (
            image in known.images
            or (str(generator), _concept(request)) in known.evaluated
            or not known.images.isdisjoint(_replaced(provenance))
        ):
            kept.add(str(image))
        else:
            rows.append((row, str(image)))
    found.rows = [row for row, image in rows if image not in kept]
    files = {path.stem: path for path in own_files(store, "images")}
    found.images = [image for image in files if image not in kept]
    found.image_bytes = sum(_size(files[image]) for image in found.images)
    return kept


def _find_vectors(
    db: sqlite3.Connection, known: References, kept: Collection[str], found: Unused
) -> set[tuple[str, str]]:
    """Find activations that nothing refers to; return the targets and layers of all."""
    layers: set[tuple[str, str]] = set()
    statement = "SELECT rowid, image, target, layer, length(vector) FROM activations"
    for row, image, target, layer, length in db.execute(statement):
        layers.add((str(target), str(layer)))
        if image not in kept or (target, layer) not in known.layers:
            found.vectors.append(row)
            found.vector_bytes += length or 0
    return layers


def remove_unused(store: Path, unused: Unused) -> None:
    """Remove what ``find_unused`` found, while no process uses the store.

    Rows of images go before their files, and files of control activations before their rows: after a kill, the
    same call finds the rest.

    Raises:
        StoreError: the cache cannot be written.
    """
    if not (store / "bank.db").is_file():
        return
    with closing(CacheDatabase(store)) as folder, folder.mapped():
        for key in unused.controls:
            control_path(store, key).unlink(missing_ok=True)
        with folder.transaction() as db:
            for table, column, values in (
                ("activations", "rowid", unused.vectors),
                ("controls", "key", unused.controls),
                ("draws", "rowid", unused.rows),
            ):
                for start in range(0, len(values), _AT_ONCE):
                    chosen = json.dumps(values[start : start + _AT_ONCE])
                    statement = f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))"  # noqa: S608
                    db.execute(statement, [chosen])
        for image in unused.images:
            with suppress(OSError):
                image_path(store, image).unlink(missing_ok=True)


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path else 0
    except OSError:
        return 0


def _concept(request: object) -> str:
    try:
        concept = loads(request)["concept"] if isinstance(request, str) else ""
    except (ValueError, TypeError, KeyError):
        return ""
    return str(concept)


def _replaced(provenance: object) -> list[str]:
    """Return the ids of lost images that an image replaces; histories may name them."""
    if not isinstance(provenance, str) or '"replaces"' not in provenance:
        return []
    try:
        replaced = loads(provenance)["replaces"]
    except (ValueError, TypeError, KeyError):
        return []
    return list(map(str, replaced)) if isinstance(replaced, dict) else []
