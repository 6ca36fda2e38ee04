"""Cache of images and whole-layer activations, shared by all units and runs of a store.

An image depends on the generator, the prompt and the seed, never on the unit, and one forward pass gives all units
of a layer: so both are kept for every run, and several processes may share them.
"""

from __future__ import annotations

import json
import logging
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from line_neurons.agent.activations import SparseActivations, compact
from line_neurons.agent.errors import LostImageError, StoreError
from line_neurons.agent.ports import Control, Generator, Progress, Target
from line_neurons.tools.cache.checksums import vector_checksum, vector_error
from line_neurons.tools.cache.database import CacheDatabase
from line_neurons.tools.cache.events import CacheEvent, CacheEvents
from line_neurons.tools.cache.image_cache import CacheStats, ImageCache
from line_neurons.tools.cache.reader import control_checksum, control_path, control_row, read_control, stored_width
from line_neurons.tools.cache.single_flight import KeyClaims
from line_neurons.tools.cache.validation import activate
from line_neurons.tools.cache.vectors import StoredVector, encode_vector
from line_neurons.tools.json_text import loads
from line_neurons.tools.targets.base import layer_fingerprint

if TYPE_CHECKING:
    from sqlite3 import Connection

    from line_neurons.agent.ports import Activations, ImageData, Measured

__all__ = ["Cache", "CacheStats"]

logger = logging.getLogger(__name__)

_Measurement = tuple[str, str, str]
"""Image, target and layer of a vector."""

_AT_ONCE = 500
# How often images that disappear meanwhile are generated again.
_MAX_REGENERATIONS = 3


PUT_VECTOR = (
    "INSERT OR IGNORE INTO activations (image, target, layer, vector, checksum, units) VALUES (?, ?, ?, ?, ?, ?)"
)
"""Keeps what ``vector_row`` gives; a vector that is there already stays."""


def vector_row(
    image: str, target: str, layer: str, row: Activations
) -> tuple[str, str, str, bytes, bytes, int | None]:
    """Return the values of ``PUT_VECTOR`` for the activations of a layer on an image, float32 [n_units]."""
    vector, units = encode_vector(row)
    return image, target, layer, vector, vector_checksum(image, target, layer, vector, units), units


class VectorCache:
    """The activation vectors of a cache; may be used from several threads and processes."""

    def __init__(self, folder: CacheDatabase, stats: CacheStats, events: CacheEvents) -> None:
        self._folder = folder
        self._stats = stats
        self._events = events
        self._widths: dict[tuple[str, str], int] = {}

    def read(self, image_ids: Sequence[str], target: str, layer: str) -> dict[str, StoredVector]:
        """Return the whole vectors by image; corrupt ones are removed and reported."""
        unique = list(dict.fromkeys(image_ids))
        found: dict[str, tuple[bytes | None, bytes | None, int | None]] = {}
        for start in range(0, len(unique), _AT_ONCE):
            part = json.dumps(unique[start : start + _AT_ONCE])
            with self._folder.mapped(), self._folder.lock:
                rows = self._folder.db.execute(
                    "SELECT image, CASE typeof(vector) WHEN 'blob' THEN vector END, checksum, units"
                    " FROM activations WHERE target = ? AND layer = ?"
                    " AND image IN (SELECT value FROM json_each(?))",
                    (target, layer, part),
                )
                found.update((image, (vector, kept, units)) for image, vector, kept, units in rows)
        width = self._width(target, layer) if found else 0
        whole: dict[str, StoredVector] = {}
        for image, (vector, kept, units) in found.items():
            fault = vector_error(image, target, layer, vector, kept, width, units)
            if fault or vector is None:
                self._drop(image, target, layer, vector, fault)
            else:
                whole[image] = StoredVector(vector, units)
        return whole

    def put(
        self, image_ids: Sequence[str], targets: Mapping[str, str], measured: Mapping[str, Activations]
    ) -> None:
        """Keep activations, float32 [n_images, n_units] for each layer; a vector that is there already stays."""
        with self._folder.transaction() as db:
            self._widths |= {(targets[layer], layer): rows.shape[1] for layer, rows in measured.items()}
            db.executemany(
                PUT_VECTOR,
                [
                    vector_row(image, targets[layer], layer, row)
                    for layer, rows in measured.items()
                    for image, row in zip(image_ids, rows, strict=True)
                ],
            )

    def put_measured(self, db: Connection, measured: Mapping[str, Measured]) -> None:
        """Keep the activations of images, by id, in an open transaction; a vector that is there already stays."""
        found = [
            (image, target, layer, row)
            for image, rows in measured.items()
            for (target, layer), row in rows.items()
        ]
        self._widths |= {(target, layer): len(row) for _, target, layer, row in found}
        db.executemany(
            PUT_VECTOR,
            [vector_row(image, target, layer, row) for image, target, layer, row in found],
        )

    def _width(self, target: str, layer: str) -> int:
        """Return the number of units of a layer: as it was measured, or as most of the kept vectors have it."""
        known = self._widths.get((target, layer))
        if known is None:
            with self._folder.mapped(), self._folder.lock:
                known = self._widths[target, layer] = stored_width(self._folder.db, target, layer)
        return known

    def _drop(self, image: str, target: str, layer: str, vector: bytes | None, fault: str) -> None:
        with self._folder.transaction() as db:
            # Unless another process has computed it again meanwhile.
            dropped = db.execute(
                "DELETE FROM activations WHERE image = ? AND target = ? AND layer = ?"
                " AND (typeof(vector) != 'blob' OR vector = ?)",
                (image, target, layer, vector),
            ).rowcount
            self._stats.recomputed += dropped
        if dropped:
            text = f"the activations of image {image[:12]} at {layer} {fault}; they are computed again"
            detail = {"picture": image, "layer": layer, "reason": fault}
            self._events.report(CacheEvent("vector measured anew", text, detail))


class Cache(ImageCache):
    """A store's images, and whole-layer activations on them and, under ``controls/``, on control sets.

    Threads that need the same image measured share one forward pass.

    Raises:
        StoreError: the folder cannot be written, or a newer version of the program made it.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._vectors = VectorCache(self._folder, self.stats, self.events)
        self._measuring = KeyClaims[_Measurement](self._lock)
        # Large, so they are shared as long as somebody uses them and no longer.
        self._controls = weakref.WeakValueDictionary[str, Control]()
        self._control_files = threading.Lock()

    def activations(
        self,
        image_ids: Sequence[str],
        target: Target,
        layer: str,
        progress: Progress | None = None,
        *,
        also: Sequence[str] = (),
        generator: Generator | None = None,
        unit: int | None = None,
    ) -> Activations:
        """Return activations of all units of ``layer`` on images; missing ones are computed in one call.

        An image that was not measured and whose file is missing or corrupt is generated again; a corrupt vector is
        computed again.

        Args:
            also: other layers, whose activations are kept too where an image has to go through the target.
            generator: made the images; None if lost ones are not to be generated again.
            unit: return this unit alone.

        Returns:
            float32 [n_images, n_units], or [n_images, 1] of one unit, in the order of ``image_ids``, all finite.

        Raises:
            LostImageError: an image is missing or corrupt, and cannot be generated again.
            StoreError: the cache cannot be read or written.
            UsageError: see ``Target.activate``.
            BackendError: see ``validation.activate``.
        """
        if not image_ids:
            return target.activate([], [layer])[layer]
        now = list(image_ids)
        for _ in range(_MAX_REGENERATIONS if generator else 0):
            try:
                return self._activations(now, target, layer, progress, also, unit)
            except LostImageError as lost:
                assert generator is not None
                regenerated = self._regenerate(lost.images, generator)
                now = [regenerated.get(image, image) for image in now]
        return self._activations(now, target, layer, progress, also, unit)

    def _activations(
        self,
        image_ids: Sequence[str],
        target: Target,
        layer: str,
        progress: Progress | None,
        also: Sequence[str],
        unit: int | None,
    ) -> Activations:
        import numpy as np

        layers = list(dict.fromkeys([layer, *also]))
        keys = {path: layer_fingerprint(target, path) for path in layers}
        fingerprint = keys[layer]
        vectors = self._vectors.read(image_ids, fingerprint, layer)
        measured = 0
        while missing := [image for image in dict.fromkeys(image_ids) if image not in vectors]:
            with self._lock:
                vectors |= self._vectors.read(missing, fingerprint, layer)
                missing = [image for image in missing if image not in vectors]
                claim = self._measuring.take((image, keys[path], path) for path in layers for image in missing)
            with claim:
                mine = [image for image, _, path in claim.mine if path == layer]
                if mine:
                    self._measure(mine, target, layers, progress)
                    # Another process may have been first; every reader sees the same stored vector.
                    vectors = self._vectors.read(image_ids, fingerprint, layer)
                    measured += len(mine)
            claim.wait_for_others()
        with self._lock:
            self.stats.saved += len(image_ids) - measured
        if unit is not None:
            return np.array([[vectors[image].value(unit)] for image in image_ids], np.float32)
        return np.stack([vectors[image].row() for image in image_ids])

    def _keep_measured(self, db: Connection, measured: Mapping[str, Measured]) -> None:
        self._vectors.put_measured(db, measured)
        self.stats.forwarded += len(measured)
        # Their first look-up, which follows, spares no pass.
        self.stats.saved -= len(measured)

    def vectors(self, image_ids: Sequence[str], target: str, layer: str) -> Activations:
        """Return activations that are kept already, without the vision model.

        Returns:
            float32 [n_images, n_units], in the order of ``image_ids``; [0, 0] if there are none.

        Raises:
            StoreError: an image has not been measured, or the cache cannot be read.
        """
        import numpy as np

        rows = np.empty((0, 0), np.float32)
        for start in range(0, len(image_ids), _AT_ONCE):
            part = image_ids[start : start + _AT_ONCE]
            found = self._vectors.read(part, target, layer)
            for image in part:
                if image not in found:
                    raise StoreError(
                        f"image {image[:12]} has not been measured at {layer}", "run it again, which measures it"
                    )
            read = np.stack([found[image].row() for image in part])
            if not start:
                rows = np.empty((len(image_ids), read.shape[1]), np.float32)
            rows[start : start + len(part)] = read
        return rows

    def _measure(
        self, image_ids: Sequence[str], target: Target, layers: Sequence[str], progress: Progress | None
    ) -> None:
        """Pass images through a target and keep their vectors.

        Raises:
            LostImageError: images cannot be read; it has the ids of all of them.
        """
        images: list[ImageData] = []
        lost: list[LostImageError] = []
        for image in image_ids:
            try:
                images.append(self._image(image))
            except LostImageError as error:
                lost.append(error)
        if lost:
            every = tuple(image for error in lost for image in error.images)
            raise LostImageError(lost[0].message, lost[0].remedy, every)
        named = [f"image {image[:12]}" for image in image_ids]
        measured = activate(target, images, named, layers, progress)
        self._vectors.put(image_ids, {layer: layer_fingerprint(target, layer) for layer in measured}, measured)
        with self._lock:
            self.stats.forwarded += len(image_ids)
            for image in image_ids:
                self._forget(image)

    def control(self, key: str, units: int | None = None) -> Control | None:
        """Return the control activations kept under ``key``, of a layer with ``units`` units.

        There are none, with a warning, where they are missing, corrupt or of another number of units.
        """
        # One thread reads the file, others then find what it read.
        with self._control_files:
            control = self._controls.get(key)
            if control is None:
                control = self._read_control(key, units)
                if control is not None:
                    self._controls[key] = control
            return control

    def _read_control(self, key: str, units: int | None) -> Control | None:
        with self._folder.mapped(), self._folder.lock:
            row = control_row(self._folder.db, key)
        if row is None:
            return None
        control, fault = read_control(self.root, key, row)
        width = control.units if control and len(control.labels) else units
        if units not in {None, width}:
            control, fault = None, f"are of {width} units, and the layer has {units}"
        if control is None:
            logger.warning("control activations %s; they are computed again", fault)
        return control

    def put_control(self, key: str, control: Control) -> None:
        """Keep control activations under ``key``.

        Raises:
            StoreError: the cache cannot be written.
        """
        import numpy as np

        def write(file: BinaryIO) -> None:
            kept = compact(control.activations)
            arrays: dict[str, Any] = {"activations": kept}
            if isinstance(kept, SparseActivations):
                arrays = {
                    "values": kept.values, "images": kept.images, "starts": kept.starts,
                    "rows": np.array(kept.rows),
                }  # fmt: skip
            np.savez(file, labels=control.labels, **arrays)

        with self._control_files:
            self._controls.pop(key, None)
            self._folder.write(control_path(self.root, key), write)
            put_control_row(self._folder, key, json.dumps(control.classes), json.dumps(control.skipped))

    def control_keys(self, prefix: str) -> list[str]:
        """Return the keys with a prefix under which control activations are kept."""
        query = "SELECT json_group_array(key) FROM controls WHERE substr(key, 1, ?) = ?"
        return list(loads(self._folder.one(query, (len(prefix), prefix))[0]))

    def drop_controls(self, keys: Iterable[str]) -> None:
        """Forget the control activations kept under ``keys``."""
        keys = list(keys)
        with self._control_files, self._folder.mapped():
            for key in keys:
                self._controls.pop(key, None)
                control_path(self.root, key).unlink(missing_ok=True)
            # Rows go last: after a kill they name the files to remove.
            with self._folder.transaction() as db:
                db.executemany("DELETE FROM controls WHERE key = ?", [(key,) for key in keys])


def put_control_row(folder: CacheDatabase, key: str, classes: str, skipped: str) -> None:
    """Write the row of control activations whose file exists: ``classes`` and ``skipped`` are JSON."""
    with folder.mapped():
        kept = control_checksum(folder.root, key, classes, skipped)
    with folder.transaction() as db:
        db.execute(
            "INSERT OR REPLACE INTO controls (key, classes, skipped, checksum) VALUES (?, ?, ?, ?)",
            (key, classes, skipped, kept),
        )
