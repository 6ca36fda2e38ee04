"""Whole-layer activations in a concept bank: a vector for each image, target and layer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from line_neurons.tools.cache.checksums import vector_checksum, vector_fault
from line_neurons.tools.cache.database import CacheDatabase
from line_neurons.tools.cache.events import CacheEvent, CacheEvents
from line_neurons.tools.cache.reader import usual_width

if TYPE_CHECKING:
    from line_neurons.agent.ports import Activations
    from line_neurons.tools.cache.image_cache import CacheStats

PUT_VECTOR = "INSERT OR IGNORE INTO activations (image, target, layer, vector, checksum) VALUES (?, ?, ?, ?, ?)"
"""Keeps what ``vector_row`` gives; where a vector is here already, that one stays."""

_AT_ONCE = 500


def vector_row(image: str, target: str, layer: str, vector: bytes) -> tuple[str, str, str, bytes, bytes]:
    """The values of ``PUT_VECTOR`` for the activations of a layer on an image, little-endian float32."""
    return image, target, layer, vector, vector_checksum(image, target, layer, vector)


class VectorCache:
    """The vectors of a bank, little-endian float32; may be used from several threads and processes.

    Args:
        folder: the bank's folder.
        stats: the bank's, where damaged vectors are counted.
        incidents: told of damaged vectors.
    """

    def __init__(self, folder: CacheDatabase, stats: CacheStats, incidents: CacheEvents) -> None:
        self._folder = folder
        self._stats = stats
        self._incidents = incidents
        self._widths: dict[tuple[str, str], int] = {}

    def read(self, image_ids: Sequence[str], target: str, layer: str) -> dict[str, bytes]:
        """The vectors that are here and whole, by image; damaged ones are removed, and told."""
        unique = list(dict.fromkeys(image_ids))
        found: dict[str, tuple[bytes | None, bytes | None]] = {}
        for start in range(0, len(unique), _AT_ONCE):
            part = json.dumps(unique[start : start + _AT_ONCE])
            with self._folder.mapped(), self._folder.lock:
                rows = self._folder.db.execute(
                    "SELECT image, CASE typeof(vector) WHEN 'blob' THEN vector END, checksum FROM activations"
                    " WHERE target = ? AND layer = ?"
                    " AND image IN (SELECT value FROM json_each(?))",
                    (target, layer, part),
                )
                found.update((image, (vector, kept)) for image, vector, kept in rows)
        width = self._width(target, layer) if found else 0
        whole: dict[str, bytes] = {}
        for image, (vector, kept) in found.items():
            fault = vector_fault(image, target, layer, vector, kept, width)
            if fault or vector is None:
                self._drop(image, target, layer, vector, fault)
            else:
                whole[image] = vector
        return whole

    def put(
        self, image_ids: Sequence[str], targets: Mapping[str, str], measured: Mapping[str, Activations]
    ) -> None:
        """Keep what was measured of images; where a vector is here already, that one stays.

        Args:
            image_ids: ids of the images.
            targets: fingerprint of the vision model for each layer.
            measured: float32 [n_images, n_units] for each layer, all finite.
        """
        with self._folder.transaction() as db:
            self._widths |= {(targets[layer], layer): rows.shape[1] for layer, rows in measured.items()}
            db.executemany(
                PUT_VECTOR,
                [
                    vector_row(image, targets[layer], layer, row.astype("<f4").tobytes())
                    for layer, rows in measured.items()
                    for image, row in zip(image_ids, rows, strict=True)
                ],
            )

    def _width(self, target: str, layer: str) -> int:
        """The number of units of a layer: as it was measured, or as most of the kept vectors have it."""
        known = self._widths.get((target, layer))
        if known is None:
            with self._folder.mapped(), self._folder.lock:
                known = self._widths[target, layer] = usual_width(self._folder.db, target, layer)
        return known

    def _drop(self, image: str, target: str, layer: str, vector: bytes | None, fault: str) -> None:
        with self._folder.transaction() as db:
            # Unless another process has measured it anew meanwhile.
            dropped = db.execute(
                "DELETE FROM activations WHERE image = ? AND target = ? AND layer = ?"
                " AND (typeof(vector) != 'blob' OR vector = ?)",
                (image, target, layer, vector),
            ).rowcount
            self._stats.remeasured += dropped
        if dropped:
            text = f"the activations of image {image[:12]} at {layer} {fault}; they are measured anew"
            detail = {"picture": image, "layer": layer, "reason": fault}
            self._incidents.tell(CacheEvent("vector measured anew", text, detail))
