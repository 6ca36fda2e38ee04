"""Pictures and whole-layer activations, kept once for all units and runs.

A picture depends on the generator, the prompt and the seed, never on the unit, and one forward pass gives all
units of a layer: so both are kept for every run, and several processes may share them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from line_neurons.agent.errors import StoreError
from line_neurons.agent.ports import Control, DrawnImage, Generator, ImageRequest, Progress, Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Activations, Picture

logger = logging.getLogger(__name__)

# One tuple of statements for each schema version; SQLite's user_version holds how many were applied.
_MIGRATIONS = (
    (
        "CREATE TABLE draws (generator TEXT, prompt TEXT, seed INTEGER, image TEXT, size INTEGER,"
        " request TEXT, provenance TEXT, PRIMARY KEY (generator, prompt, seed))",
        "CREATE INDEX draws_image ON draws (image)",
        "CREATE TABLE activations (image TEXT, target TEXT, layer TEXT, vector BLOB,"
        " PRIMARY KEY (image, target, layer))",
        "CREATE TABLE controls (key TEXT PRIMARY KEY, classes TEXT, skipped TEXT)",
    ),
)
_AT_ONCE = 500
# Pixels of pictures just drawn wait here for their forward pass: twenty of 1,024 x 1,024.
_PIXEL_BYTES = 64 << 20
# Pictures in memory before they are kept: 180 MB of 1,024 x 1,024; divided evenly by the usual batches.
_DRAWN_AT_ONCE = 40
_PATIENCE = 30.0


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

    May be used from several threads and processes. Files are written under another name and renamed, then
    their row is written: a crash leaves no half picture.

    Args:
        root: the folder; made if it is not there.

    Raises:
        StoreError: the folder cannot be written, or a newer version of the program made it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stats = BankStats()
        self._lock = threading.RLock()
        self._last_control: tuple[str, Control] | None = None
        self._pixels: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        with self._mapped():
            root.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                root / "bank.db", timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            try:
                self._migrate()
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Close the database; the bank cannot be used afterwards."""
        with self._lock:
            self._db.close()

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
        known: dict[tuple[str, int], str] = {}
        missing: dict[tuple[str, int], ImageRequest] = {}
        stale: dict[tuple[str, int], str] = {}
        for request in requests:
            key = (request.prompt, request.seed)
            if key in known or key in missing:
                continue
            row = self._draw_of(fingerprint, key)
            if row and self._is_whole(*row):
                known[key] = row[0]
                continue
            missing[key] = request
            if row:
                stale[key] = row[0]
                logger.warning("the file of picture %s has gone or changed; it is drawn anew", row[0][:12])
        asked = list(missing.items())
        for start in range(0, len(asked), _DRAWN_AT_ONCE):
            part = asked[start : start + _DRAWN_AT_ONCE]
            told = _part_of(progress, start, len(part), len(asked))
            for (key, request), image in zip(part, generator.synthesize([r for _, r in part], told), strict=True):
                known[key] = self._keep(fingerprint, request, image, stale.get(key))
        with self._lock:
            self.stats.drawn += len(missing)
            self.stats.redrawn += len(stale)
            self.stats.reused += len(requests) - len(missing)
        return [known[request.prompt, request.seed] for request in requests]

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
        fingerprint = target.fingerprint
        vectors = self._vectors(image_ids, fingerprint, layer)
        missing = [image for image in dict.fromkeys(image_ids) if image not in vectors]
        if missing:
            layers = list(dict.fromkeys([layer, *also]))
            measured = target.activate([self._picture(image) for image in missing], layers, progress)
            with self._transaction() as db:
                db.executemany(
                    "INSERT OR IGNORE INTO activations VALUES (?, ?, ?, ?)",
                    [
                        (image, fingerprint, path, row.astype("<f4").tobytes())
                        for path, rows in measured.items()
                        for image, row in zip(missing, rows, strict=True)
                    ],
                )
            # Another process may have been first; every reader sees the same stored vector.
            vectors |= self._vectors(missing, fingerprint, layer)
        with self._lock:
            self.stats.forwarded += len(missing)
            self.stats.saved += len(image_ids) - len(missing)
        return np.stack([np.frombuffer(vectors[image], "<f4") for image in image_ids]).astype(
            np.float32, copy=False
        )

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
        with self._mapped(), self._lock:
            return sorted(concept for (concept,) in self._db.execute(statement, (generator, pictures)))

    def pictures_of(self, concept: str, generator: str, limit: int) -> list[str]:
        """Ids of the first ``limit`` pictures that a generator drew of a concept, in the order of drawing."""
        statement = (
            "SELECT image FROM draws WHERE generator = ? AND json_extract(request, '$.concept') = ?"
            " GROUP BY image ORDER BY min(rowid) LIMIT ?"
        )
        with self._mapped(), self._lock:
            return [image for (image,) in self._db.execute(statement, (generator, concept, limit))]

    def image_path(self, image_id: str) -> Path:
        """Where the picture's file is, whether or not it is there."""
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
            with self._mapped():
                path.unlink(missing_ok=True)
            raise StoreError(f"the file of picture {image_id[:12]} was damaged and is removed", again)
        return content

    def provenance(self, image_id: str) -> dict[str, Any]:
        """How the picture was made: ``generator``, ``prompt``, ``seed``, and the generator's own account.

        Raises:
            StoreError: there is no such picture.
        """
        row: tuple[str, str, int, str] | None = self._one(
            "SELECT generator, prompt, seed, provenance FROM draws WHERE image = ? ORDER BY rowid LIMIT 1",
            (image_id,),
        )
        if row is None:
            raise StoreError(f"there is no picture {image_id[:12]!r} in {self.root}")
        generator, prompt, seed, account = row
        return {**json.loads(account), "generator": generator, "prompt": prompt, "seed": seed}

    def control(self, key: str) -> Control | None:
        """The control activations kept under ``key``; None if there are none or their file is damaged."""
        import numpy as np

        with self._lock:
            if self._last_control and self._last_control[0] == key:
                return self._last_control[1]
        row = self._one("SELECT classes, skipped FROM controls WHERE key = ?", (key,))
        if row is None:
            return None
        try:
            with np.load(self._control_path(key), allow_pickle=False) as arrays:
                labels, activations = arrays["labels"], arrays["activations"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            logger.warning("control activations have gone or are damaged; they are computed anew")
            return None
        control = Control(tuple(json.loads(row[0])), labels, activations, tuple(json.loads(row[1])))
        with self._lock:
            self._last_control = (key, control)
        return control

    def put_control(self, key: str, control: Control) -> None:
        """Keep control activations under ``key``.

        Raises:
            StoreError: the bank cannot be written.
        """
        import numpy as np

        def write(file: BinaryIO) -> None:
            np.savez(file, labels=control.labels, activations=control.activations)

        with self._lock:
            self._last_control = None
        self._write(self._control_path(key), write)
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO controls VALUES (?, ?, ?)",
                (key, json.dumps(control.classes), json.dumps(control.skipped)),
            )

    def drop_controls(self, keys: Iterable[str]) -> None:
        """Forget the control activations kept under ``keys``."""
        keys = list(keys)
        with self._transaction() as db:
            db.executemany("DELETE FROM controls WHERE key = ?", [(key,) for key in keys])
        with self._mapped():
            for key in keys:
                self._control_path(key).unlink(missing_ok=True)

    def _control_path(self, key: str) -> Path:
        return self.root / "controls" / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"

    def _draw_of(self, fingerprint: str, key: tuple[str, int]) -> tuple[str, int] | None:
        row: tuple[str, int] | None = self._one(
            "SELECT image, size FROM draws WHERE generator = ? AND prompt = ? AND seed = ?",
            (fingerprint, *key),
        )
        return row

    def _is_whole(self, image_id: str, size: int) -> bool:
        try:
            return self.image_path(image_id).stat().st_size == size
        except OSError:
            return False

    def _keep(self, fingerprint: str, request: ImageRequest, image: DrawnImage, stale: str | None) -> str:
        image_id = hashlib.sha256(image.png).hexdigest()
        self._write(self.image_path(image_id), lambda file: file.write(image.png))
        row = (fingerprint, request.prompt, request.seed)
        with self._transaction() as db:
            db.execute(
                "DELETE FROM draws WHERE generator = ? AND prompt = ? AND seed = ? AND image = ?",
                (*row, stale),
            )
            # A process that drew the same at the same time may have been first; then its picture counts.
            db.execute(
                "INSERT OR IGNORE INTO draws VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*row, image_id, len(image.png), json.dumps(asdict(request)), json.dumps(dict(image.provenance))),
            )
        if image.pixels is not None:
            self._remember(image_id, image.pixels)
        kept = self._draw_of(fingerprint, (request.prompt, request.seed))
        return kept[0] if kept else image_id

    def _remember(self, image_id: str, pixels: NDArray[np.uint8]) -> None:
        with self._lock:
            self._pixels[image_id] = pixels
            while sum(kept.nbytes for kept in self._pixels.values()) > _PIXEL_BYTES:
                self._pixels.popitem(last=False)

    def _picture(self, image_id: str) -> Picture:
        with self._lock:
            pixels = self._pixels.get(image_id)
        return self.image_bytes(image_id) if pixels is None else pixels

    def _vectors(self, image_ids: Sequence[str], fingerprint: str, layer: str) -> dict[str, bytes]:
        unique = list(dict.fromkeys(image_ids))
        found: dict[str, bytes] = {}
        with self._mapped(), self._lock:
            for start in range(0, len(unique), _AT_ONCE):
                part = unique[start : start + _AT_ONCE]
                found.update(
                    self._db.execute(
                        "SELECT image, vector FROM activations WHERE target = ? AND layer = ?"
                        " AND image IN (SELECT value FROM json_each(?))",
                        (fingerprint, layer, json.dumps(part)),
                    )
                )
        return found

    def _one(self, statement: str, values: tuple[str | int, ...]) -> Any:
        with self._mapped(), self._lock:
            return self._db.execute(statement, values).fetchone()

    def _write(self, path: Path, write: Callable[[BinaryIO], object]) -> None:
        with self._mapped():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
            try:
                with part.open("wb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._mapped(), self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _migrate(self) -> None:
        def version() -> int:
            return int(self._db.execute("PRAGMA user_version").fetchone()[0])

        if version() > len(_MIGRATIONS):
            raise StoreError(
                f"{self.root / 'bank.db'} was made by a newer version (schema {version()}, this one knows"
                f" {len(_MIGRATIONS)})",
                "update line-neurons, or use another store",
            )
        self._log_ahead()
        self._db.execute("PRAGMA synchronous = NORMAL")
        if version() == len(_MIGRATIONS):
            return
        with self._transaction() as db:
            for number, statements in enumerate(_MIGRATIONS[version() :], start=version() + 1):
                for statement in statements:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number:d}")

    def _log_ahead(self) -> None:
        if self._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            return
        # SQLite waits for other processes everywhere but here, where several may make the same new bank.
        give_up = time.monotonic() + _PATIENCE
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
                time.sleep(0.01)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"the store {self.root} cannot be used: {error}", "check its permissions and free space"
            ) from error
        except OSError as error:
            raise StoreError(
                f"the store {self.root} cannot be written: {error.strerror or error}",
                "check its permissions and free space, or use another store",
            ) from error


def _part_of(progress: Progress | None, before: int, part: int, whole: int) -> Progress | None:
    """Progress of the whole, told of a part that ``before`` pictures came before."""
    if progress is None or part == whole:
        return progress
    return lambda done, total: progress(before * total // part + done, whole * total // part)
