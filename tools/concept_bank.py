"""Pictures and whole-layer activations, kept once for all units and runs.

A picture depends on the generator, the prompt and the seed, never on the unit, and one forward pass gives all
units of a layer: so both are kept for every run, and several processes may share them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
import weakref
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from line_neurons.agent.errors import DamagedError, StoreError
from line_neurons.agent.ports import Control, DrawnImage, Generator, ImageRequest, Progress, Target
from line_neurons.agent.proposal import clean_text
from line_neurons.tools.bank_folder import BankFolder
from line_neurons.tools.single_flight import Claims

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations, Picture

logger = logging.getLogger(__name__)

_Draw = tuple[str, str, int]
"""Generator, prompt and seed of a picture."""
_Measurement = tuple[str, str, str]
"""Picture, target and layer of a vector."""

_ID = re.compile(r"[0-9a-f]{64}")
_AT_ONCE = 500
# Pixels of pictures just drawn wait here for their forward pass: twenty of 1,024 x 1,024.
_PIXEL_BYTES = 64 << 20
# Pictures in memory before they are kept: 180 MB of 1,024 x 1,024; divided evenly by the usual batches.
_DRAWN_AT_ONCE = 40


def is_image_id(text: str) -> bool:
    """Whether a text is the id of a picture, here or elsewhere: a SHA-256 in hex."""
    return _ID.fullmatch(text) is not None


@dataclass
class BankStats:
    """What this opened bank did and what it saved.

    Args:
        drawn: pictures that a generator made.
        reused: pictures that were asked for and were here.
        redrawn: those of ``drawn`` whose file had gone or had changed.
        forwarded: pictures that went through a target.
        saved: forward passes of a picture that were not needed.
    """

    drawn: int = 0
    reused: int = 0
    redrawn: int = 0
    forwarded: int = 0
    saved: int = 0


class ConceptBank:
    """A folder with ``bank.db``, the pictures under ``images/`` and control activations under ``controls/``.

    May be used from several threads and processes; threads that need the same picture, or the same picture
    measured, share one drawing and one forward pass. Files are written under another name and renamed, then
    their rows are written: a crash leaves no half picture. The lock is held for the database alone, never while
    a file is read or written.

    Args:
        root: the folder; made if it is not there.

    Raises:
        StoreError: the folder cannot be written, or a newer version of the program made it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stats = BankStats()
        self._folder = BankFolder(root)
        self._lock = self._folder.lock
        self._drawing = Claims[_Draw](self._lock)
        self._measuring = Claims[_Measurement](self._lock)
        # Large, so they are shared as long as somebody uses them and no longer.
        self._controls = weakref.WeakValueDictionary[str, Control]()
        self._control_files = threading.Lock()
        self._pixels: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._pixel_bytes = 0

    def close(self) -> None:
        """Close the database; the bank cannot be used afterwards."""
        self._folder.close()

    def snapshot(self) -> BankStats:
        """The stats as they are now; they change no more."""
        with self._lock:
            return replace(self.stats)

    def images(
        self, requests: Sequence[ImageRequest], generator: Generator, progress: Progress | None = None
    ) -> list[str]:
        """Ids of the pictures asked for, in order; those that are missing are drawn in one call.

        A picture whose file has gone or has another size is drawn anew, with a warning.

        Returns:
            SHA-256 of each PNG file, hex.

        Raises:
            StoreError: the bank cannot be read or written.
            NotDrawableError: see ``Generator.synthesize``.
            BackendError: see ``Generator.synthesize``.
        """
        fingerprint = generator.fingerprint
        keys = [(fingerprint, request.prompt, request.seed) for request in requests]
        wanted = dict(zip(keys, requests, strict=True))
        known: dict[_Draw, str] = {}
        damaged: set[_Draw] = set()
        drawn = 0
        while left := [key for key in wanted if key not in known]:
            with self._folder.mapped(), self._lock:
                rows = self._draws(left)
                claim = self._drawing.take(key for key in left if key not in rows or key in damaged)
            with claim:
                for key, row in rows.items():
                    if self._is_whole(*row):
                        known[key] = row[0]
                    else:
                        # Claimed when it is looked up again, unless another thread draws it anew meanwhile.
                        damaged.add(key)
                missing = {key: wanted[key] for key in claim.mine if key not in known}
                known |= self._draw(
                    missing, {key: rows[key][0] for key in missing if key in rows}, generator, progress
                )
                drawn += len(missing)
            claim.wait_for_others()
        with self._lock:
            self.stats.reused += len(requests) - drawn
        return [known[key] for key in keys]

    def _draw(
        self,
        missing: dict[_Draw, ImageRequest],
        stale: dict[_Draw, str],
        generator: Generator,
        progress: Progress | None,
    ) -> dict[_Draw, str]:
        """Draw and keep pictures, some of them in place of those whose file is no longer whole."""
        for image in stale.values():
            logger.warning("the file of picture %s has gone or changed; it is drawn anew", image[:12])
        asked = list(missing)
        kept: dict[_Draw, str] = {}
        for start in range(0, len(asked), _DRAWN_AT_ONCE):
            part = asked[start : start + _DRAWN_AT_ONCE]
            told = _part_of(progress, start, len(part), len(asked))
            images = generator.synthesize([missing[key] for key in part], told)
            kept |= self._keep(
                {key: (missing[key], image) for key, image in zip(part, images, strict=True)}, stale
            )
        return kept

    def activations(
        self,
        image_ids: Sequence[str],
        target: Target,
        layer: str,
        progress: Progress | None = None,
        *,
        also: Sequence[str] = (),
    ) -> Activations:
        """Activations of all units of ``layer`` on the pictures; missing ones are computed in one call.

        Args:
            image_ids: ids of pictures of this bank.
            target: the vision model.
            layer: dotted path.
            progress: told of the forward passes.
            also: other layers, whose activations are kept too where a picture has to go through the target.

        Returns:
            float32 [n_images, n_units], in the order of ``image_ids``.

        Raises:
            StoreError: a picture is not here or is damaged, or the bank cannot be read or written.
            UsageError: see ``Target.activate``.
            BackendError: see ``Target.activate``.
        """
        import numpy as np

        if not image_ids:
            return target.activate([], [layer])[layer]
        fingerprint, layers = target.fingerprint, list(dict.fromkeys([layer, *also]))
        vectors = self._vectors(image_ids, fingerprint, layer)
        measured = 0
        while missing := [image for image in dict.fromkeys(image_ids) if image not in vectors]:
            with self._lock:
                vectors |= self._vectors(missing, fingerprint, layer)
                missing = [image for image in missing if image not in vectors]
                claim = self._measuring.take((image, fingerprint, path) for path in layers for image in missing)
            with claim:
                mine = [image for image, _, path in claim.mine if path == layer]
                if mine:
                    vectors |= self._measure(mine, target, layers, progress)[layer]
                    # Another process may have been first; every reader sees the same stored vector.
                    vectors |= self._vectors(mine, fingerprint, layer)
                    measured += len(mine)
            claim.wait_for_others()
        with self._lock:
            self.stats.saved += len(image_ids) - measured
        return np.stack([np.frombuffer(vectors[image], "<f4") for image in image_ids]).astype(
            np.float32, copy=False
        )

    def vectors(self, image_ids: Sequence[str], target: str, layer: str) -> Activations:
        """Activations that are kept already, read without the vision model.

        Args:
            image_ids: ids of pictures of this bank.
            target: fingerprint of the vision model.
            layer: dotted path.

        Returns:
            float32 [n_images, n_units], in the order of ``image_ids``; [0, 0] if there are none.

        Raises:
            StoreError: a picture has not been measured, or the bank cannot be read.
        """
        import numpy as np

        rows = np.empty((0, 0), np.float32)
        for start in range(0, len(image_ids), _AT_ONCE):
            part = image_ids[start : start + _AT_ONCE]
            found = self._vectors(part, target, layer)
            for image in part:
                if image not in found:
                    raise StoreError(
                        f"picture {image[:12]} has not been measured at {layer}", "run it again: that is done then"
                    )
            read = np.frombuffer(b"".join(found[image] for image in part), "<f4").reshape(len(part), -1)
            if not start:
                rows = np.empty((len(image_ids), read.shape[1]), np.float32)
            rows[start : start + len(part)] = read
        return rows

    def _measure(
        self, image_ids: Sequence[str], target: Target, layers: Sequence[str], progress: Progress | None
    ) -> dict[str, dict[str, bytes]]:
        """Pass pictures through a target and keep their vectors; those of each layer, by picture."""
        measured = target.activate([self._picture(image) for image in image_ids], layers, progress)
        vectors = {
            layer: {image: row.astype("<f4").tobytes() for image, row in zip(image_ids, rows, strict=True)}
            for layer, rows in measured.items()
        }
        fingerprint = target.fingerprint
        with self._folder.transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO activations VALUES (?, ?, ?, ?)",
                [
                    (image, fingerprint, layer, vector)
                    for layer, kept in vectors.items()
                    for image, vector in kept.items()
                ],
            )
            self.stats.forwarded += len(image_ids)
            for image in image_ids:
                self._forget(image)
        return vectors

    def concepts(self, generator: str, pictures: int = 1) -> list[str]:
        """The concepts that have pictures of a generator, sorted.

        Args:
            generator: its fingerprint.
            pictures: how many of them a concept has to have at least.
        """
        statement = (
            "SELECT json_extract(request, '$.concept') AS concept FROM draws WHERE generator = ?"
            " GROUP BY concept HAVING count(DISTINCT image) >= ?"
        )
        with self._folder.mapped(), self._lock:
            return sorted(concept for (concept,) in self._folder.db.execute(statement, (generator, pictures)))

    def pictures_of(self, concept: str, generator: str, limit: int) -> list[str]:
        """Ids of the first ``limit`` pictures that a generator drew of a concept, in the order of drawing."""
        statement = (
            "SELECT image FROM draws WHERE generator = ? AND json_extract(request, '$.concept') = ?"
            " GROUP BY image ORDER BY min(rowid) LIMIT ?"
        )
        with self._folder.mapped(), self._lock:
            return [image for (image,) in self._folder.db.execute(statement, (generator, concept, limit))]

    def image_path(self, image_id: str) -> Path:
        """Where the picture's file is, whether or not it is there.

        Raises:
            DamagedError: no picture has such an id; it is part of a path.
        """
        if not is_image_id(image_id):
            raise DamagedError(
                f"{clean_text(image_id, 80)!r} is not the id of a picture",
                "put a backup of the store in its place",
            )
        return self.root / "images" / image_id[:2] / f"{image_id}.png"

    def image_bytes(self, image_id: str) -> bytes:
        """The picture's PNG file.

        Raises:
            StoreError: it is not here, or its content has changed; then it is removed, to be drawn anew.
        """
        path = self.image_path(image_id)
        again = "run it again: the picture is drawn anew"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StoreError(f"picture {image_id[:12]} cannot be read: {error.strerror}", again) from error
        if hashlib.sha256(content).hexdigest() != image_id:
            with self._folder.mapped():
                path.unlink(missing_ok=True)
            raise StoreError(f"the file of picture {image_id[:12]} was damaged and is removed", again)
        return content

    def provenance(self, image_id: str) -> dict[str, Any]:
        """How the picture was made: ``generator``, ``prompt``, ``seed``, and the generator's own account.

        Raises:
            StoreError: there is no such picture.
        """
        row: tuple[str, str, int, str] | None = self._folder.one(
            "SELECT generator, prompt, seed, provenance FROM draws WHERE image = ? ORDER BY rowid LIMIT 1",
            (image_id,),
        )
        if row is None:
            raise StoreError(f"there is no picture {image_id[:12]!r} in {self.root}")
        generator, prompt, seed, account = row
        try:
            return {**json.loads(account), "generator": generator, "prompt": prompt, "seed": seed}
        except (ValueError, TypeError) as error:
            raise DamagedError(
                f"the account of picture {image_id[:12]} in bank.db is damaged",
                "put a backup of the file in its place",
            ) from error

    def control(self, key: str) -> Control | None:
        """The control activations kept under ``key``; None if there are none or their file is damaged."""
        # One thread reads the file, others then find what it read.
        with self._control_files:
            control = self._controls.get(key)
            if control is None:
                control = self._read_control(key)
                if control is not None:
                    self._controls[key] = control
            return control

    def _read_control(self, key: str) -> Control | None:
        import numpy as np

        row = self._folder.one("SELECT classes, skipped FROM controls WHERE key = ?", (key,))
        if row is None:
            return None
        try:
            with np.load(self._control_path(key), allow_pickle=False) as arrays:
                labels, activations = arrays["labels"], arrays["activations"]
            classes, skipped = (tuple(json.loads(column)) for column in row)
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
            logger.warning("control activations have gone or are damaged; they are computed anew")
            return None
        return Control(classes, labels, activations, skipped)

    def put_control(self, key: str, control: Control) -> None:
        """Keep control activations under ``key``.

        Raises:
            StoreError: the bank cannot be written.
        """
        import numpy as np

        def write(file: BinaryIO) -> None:
            np.savez(file, labels=control.labels, activations=control.activations)

        with self._control_files:
            self._controls.pop(key, None)
            self._folder.write(self._control_path(key), write)
            with self._folder.transaction() as db:
                db.execute(
                    "INSERT OR REPLACE INTO controls VALUES (?, ?, ?)",
                    (key, json.dumps(control.classes), json.dumps(control.skipped)),
                )

    def drop_controls(self, keys: Iterable[str]) -> None:
        """Forget the control activations kept under ``keys``."""
        keys = list(keys)
        with self._control_files, self._folder.mapped():
            with self._folder.transaction() as db:
                db.executemany("DELETE FROM controls WHERE key = ?", [(key,) for key in keys])
            for key in keys:
                self._controls.pop(key, None)
                self._control_path(key).unlink(missing_ok=True)

    def _control_path(self, key: str) -> Path:
        return self.root / "controls" / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"

    def _draws(self, keys: Iterable[_Draw]) -> dict[_Draw, tuple[str, int]]:
        """Picture and size of its file of each draw that is kept; to be called with the lock."""
        statement = "SELECT image, size FROM draws WHERE generator = ? AND prompt = ? AND seed = ?"
        rows = ((key, self._folder.db.execute(statement, key).fetchone()) for key in keys)
        return {key: row for key, row in rows if row is not None}

    def _is_whole(self, image_id: str, size: int) -> bool:
        try:
            return self.image_path(image_id).stat().st_size == size
        except OSError:
            return False

    def _keep(
        self, drawn: dict[_Draw, tuple[ImageRequest, DrawnImage]], stale: dict[_Draw, str]
    ) -> dict[_Draw, str]:
        """Write the files, then all rows at once; the id of the picture that counts for each draw."""
        ids = {key: hashlib.sha256(image.png).hexdigest() for key, (_, image) in drawn.items()}
        for key, (_, image) in drawn.items():
            self._folder.write(self.image_path(ids[key]), partial(_write_bytes, image.png))
        rows = [
            (*key, ids[key], len(image.png), json.dumps(asdict(request)), json.dumps(dict(image.provenance)))
            for key, (request, image) in drawn.items()
        ]
        renewed = [key for key in drawn if key in stale]
        with self._folder.transaction() as db:
            db.executemany(
                "DELETE FROM draws WHERE generator = ? AND prompt = ? AND seed = ? AND image = ?",
                [(*key, stale[key]) for key in renewed],
            )
            # A process that drew the same at the same time may have been first; then its picture counts.
            db.executemany("INSERT OR IGNORE INTO draws VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            kept = {key: image for key, (image, _) in self._draws(drawn).items()}
            self.stats.drawn += len(drawn)
            self.stats.redrawn += len(renewed)
            for key, (_, image) in drawn.items():
                if image.pixels is not None and kept[key] == ids[key]:
                    self._remember(ids[key], image.pixels)
        return kept

    def _remember(self, image_id: str, pixels: NDArray[np.uint8]) -> None:
        """Have pixels wait for their forward pass; to be called with the lock, as ``_forget`` is."""
        self._forget(image_id)
        self._pixels[image_id] = pixels
        self._pixel_bytes += pixels.nbytes
        while self._pixel_bytes > _PIXEL_BYTES:
            self._forget(next(iter(self._pixels)))

    def _forget(self, image_id: str) -> None:
        pixels = self._pixels.pop(image_id, None)
        if pixels is not None:
            self._pixel_bytes -= pixels.nbytes

    def _picture(self, image_id: str) -> Picture:
        with self._lock:
            pixels = self._pixels.get(image_id)
        return self.image_bytes(image_id) if pixels is None else pixels

    def _vectors(self, image_ids: Sequence[str], fingerprint: str, layer: str) -> dict[str, bytes]:
        unique = list(dict.fromkeys(image_ids))
        found: dict[str, bytes] = {}
        for start in range(0, len(unique), _AT_ONCE):
            part = json.dumps(unique[start : start + _AT_ONCE])
            with self._folder.mapped(), self._lock:
                found.update(
                    self._folder.db.execute(
                        "SELECT image, vector FROM activations WHERE target = ? AND layer = ?"
                        " AND image IN (SELECT value FROM json_each(?))",
                        (fingerprint, layer, part),
                    )
                )
        return found


def _write_bytes(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _part_of(progress: Progress | None, before: int, part: int, whole: int) -> Progress | None:
    """Progress of the whole, told of a part that ``before`` pictures came before."""
    if progress is None or part == whole:
        return progress
    return lambda done, total: progress(before * total // part + done, whole * total // part)
