"""Cache of images: generated once for all units and runs, and again where their files are corrupt."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import BlankImageError, DamagedError, LostImageError, StoreError
from line_neurons.agent.ports import DrawnImage, Generator, ImageRequest, Progress
from line_neurons.agent.text import clean_text, shell_word
from line_neurons.tools.cache.checksums import image_checksum
from line_neurons.tools.cache.database import CacheDatabase
from line_neurons.tools.cache.events import CacheEvent, CacheEvents
from line_neurons.tools.cache.image_files import ImageFiles
from line_neurons.tools.cache.single_flight import KeyClaims
from line_neurons.tools.cache.validation import Generation, generate
from line_neurons.tools.json_text import loads
from line_neurons.tools.parallel import parallel_map

if TYPE_CHECKING:
    from sqlite3 import Connection

    import numpy as np
    from numpy.typing import NDArray

    from line_neurons.agent.ports import ImageData, Measured

PUT_IMAGE = (
    "INSERT OR IGNORE INTO draws (generator, prompt, seed, image, size, request, provenance, checksum)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
"""Keeps what ``image_row`` gives; an image that is there already stays."""

_Key = tuple[str, str, int]
"""Generator, prompt and seed of an image."""

# Pixels of new images wait for their forward pass: twenty of 1,024 x 1,024.
_PIXEL_BYTES = 64 << 20


@dataclass
class CacheStats:
    """What this opened cache did and saved.

    Args:
        generated: images that a generator made.
        reused: requested images that the cache had.
        regenerated: those of ``generated`` whose file was missing or corrupt.
        forwarded: images that went through a target.
        saved: forward passes of an image that were not needed.
        retried: images of one plain colour that were generated with a second seed.
        recomputed: corrupt vectors, which are computed again where they are needed.
    """

    generated: int = 0
    reused: int = 0
    regenerated: int = 0
    forwarded: int = 0
    saved: int = 0
    retried: int = 0
    recomputed: int = 0


class ImageCache:
    """Images under ``images/`` and, in ``bank.db``, how each was generated.

    It may be used from several threads and processes; threads that need the same image share one generation. Files
    are written under another name and renamed, then their rows are written: a crash leaves no half image, and
    keeps what the generator's earlier batches gave. The lock is held for the database alone, never while a file is
    read or written.

    An image whose file is missing or corrupt is generated again where it is needed, by the same generator from the
    same prompt and seed. Should it differ (another release of a library), the new image replaces the old one from
    then on. Histories keep the old one's id, and its activations stay as they are; where that id was not measured,
    the new image is. The metadata of the new one holds that of the old one.

    Attributes:
        root: the folder.
        stats: what was done.
        events: reports corrupt images and vectors, and images that could not be used.

    Raises:
        StoreError: the folder cannot be written, or a newer version of the program made it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stats = CacheStats()
        self.events = CacheEvents()
        self._folder = CacheDatabase(root)
        self._lock = self._folder.lock
        self._files = ImageFiles(self._folder)
        self._generating = KeyClaims[_Key](self._lock)
        self._pixels: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._pixel_bytes = 0
        self._plain: dict[_Key, str] = {}

    def close(self) -> None:
        """Close the database; the cache cannot be used afterwards."""
        self._folder.close()

    def snapshot(self) -> CacheStats:
        """Return a copy of the current stats."""
        with self._lock:
            return replace(self.stats)

    def images(
        self, requests: Sequence[ImageRequest], generator: Generator, progress: Progress | None = None
    ) -> list[str]:
        """Return the ids of requested images, in order; missing ones are generated.

        They are kept batch by batch as the generator gives them. An image whose file is missing or known to be
        corrupt is generated again.

        Returns:
            SHA-256 of each PNG file, hex.

        Raises:
            StoreError: the cache cannot be read or written.
            BlankImageError: an image has one colour only; see ``validation.generate``.
            NotDrawableError: see ``Generator.synthesize``.
            BackendError: see ``validation.generate``.
        """
        fingerprint = generator.fingerprint
        keys = [(fingerprint, request.prompt, request.seed) for request in requests]
        wanted = dict(zip(keys, requests, strict=True))
        known: dict[_Key, str] = {}
        damaged: set[_Key] = set()
        drawn = 0
        while left := [key for key in wanted if key not in known]:
            with self._folder.mapped(), self._lock:
                rows = self._rows(left)
                claim = self._generating.take(key for key in left if key not in rows or key in damaged)
            with claim:
                stale: dict[_Key, tuple[str, str]] = {}
                for key, (image, size) in rows.items():
                    if damage := self._files.damage(image, size):
                        # Claimed when it is looked up again, unless another thread generates it meanwhile.
                        damaged.add(key)
                        stale[key] = image, damage
                    else:
                        known[key] = image
                missing = {key: wanted[key] for key in claim.mine if key not in known}
                known |= self._generate(missing, stale, generator, progress)
                drawn += len(missing)
            claim.wait_for_others()
        with self._lock:
            self.stats.reused += len(requests) - drawn
        return [known[key] for key in keys]

    def image_path(self, image_id: str) -> Path:
        """Return where the image's file is, whether or not it exists."""
        return self._files.path(image_id)

    def image_bytes(self, image_id: str) -> bytes:
        """Return the image's PNG file.

        Raises:
            LostImageError: it is missing or corrupt; it is generated again when it is requested again.
        """
        content, damage = self._files.read(image_id)
        if damage:
            raise LostImageError(
                f"the file of image {image_id[:12]} {damage}", "it is generated again when needed", (image_id,)
            )
        return content

    def provenance(self, image_id: str) -> dict[str, Any]:
        """Return how the image was made: ``generator``, ``prompt``, ``seed``, and the generator's own metadata.

        ``replaces`` in it holds the metadata, by id, of lost images that this one replaces; ``replaced_by`` in
        theirs is its id.

        Raises:
            StoreError: there is no such image.
        """
        image, lost = image_id, None
        if not (row := self._row(image)) and (successor := self._successor(image_id)):
            image, lost = successor
            row = self._row(image)
        if row is None:
            raise StoreError(f"there is no image {image_id[:12]!r} in {self.root}")
        generator, prompt, seed, provenance = row
        try:
            account = loads(provenance) if lost is None else {**lost, "replaced_by": image}
            return {**account, "generator": generator, "prompt": prompt, "seed": seed}
        except (ValueError, TypeError) as error:
            raise DamagedError(
                f"the metadata of image {image_id[:12]} in bank.db is damaged",
                "put a backup of the file in its place",
            ) from error

    def _row(self, image_id: str) -> tuple[str, str, int, str] | None:
        """Return generator, prompt, seed and metadata of the first row of an image."""
        row: tuple[str, str, int, str] | None = self._folder.one(
            "SELECT generator, prompt, seed, provenance FROM draws WHERE image = ? ORDER BY rowid LIMIT 1",
            (image_id,),
        )
        return row

    def _successor(self, image_id: str) -> tuple[str, dict[str, Any]] | None:
        """Return the image that replaces a lost one, and the lost one's metadata."""
        with self._folder.mapped(), self._lock:
            rows = self._folder.db.execute(
                "SELECT image, provenance FROM draws WHERE instr(provenance, ?)", (image_id,)
            ).fetchall()
        for image, provenance in rows:
            if (lost := _replaced_in(_parse_metadata(provenance)).get(image_id)) is not None:
                return image, lost
        return None

    def concepts(self, generator: str, images: int = 1) -> list[str]:
        """Return the concepts that a generator has images of for searches, sorted.

        Images for an evaluation, which name no angle, do not count: else evaluating labels would alter what later
        searches start with.
        """
        statement = (
            "SELECT json_extract(request, '$.concept') AS concept FROM draws WHERE generator = ?"
            " AND json_extract(request, '$.angle') != '' GROUP BY concept HAVING count(DISTINCT image) >= ?"
        )
        with self._folder.mapped(), self._lock:
            return sorted(concept for (concept,) in self._folder.db.execute(statement, (generator, images)))

    def images_of(self, concept: str, generator: str, limit: int) -> list[str]:
        """Return the first ``limit`` images that a generator made of a concept for searches, in that order."""
        statement = (
            "SELECT image FROM draws WHERE generator = ? AND json_extract(request, '$.concept') = ?"
            " AND json_extract(request, '$.angle') != '' GROUP BY image ORDER BY min(rowid) LIMIT ?"
        )
        with self._folder.mapped(), self._lock:
            return [image for (image,) in self._folder.db.execute(statement, (generator, concept, limit))]

    def _generate(
        self,
        missing: dict[_Key, ImageRequest],
        stale: Mapping[_Key, tuple[str, str]],
        generator: Generator,
        progress: Progress | None,
    ) -> dict[_Key, str]:
        """Generate and keep images, a batch at a time, some in place of those whose file is corrupt."""
        for key, request in missing.items():
            if key in self._plain:
                raise BlankImageError(request.concept, self._plain[key])
        keys = list(missing)
        kept: dict[_Key, str] = {}
        while left := keys[len(kept) :]:
            part = left[: max(1, generator.batch_size)]
            part_progress = _share_progress(progress, len(kept), len(part), len(keys))
            generated = generate(generator, [missing[key] for key in part], part_progress)
            results = dict(zip(part, generated, strict=True))
            usable = {key: (missing[key], image) for key, result in results.items() if (image := result.image)}
            if usable:
                kept |= self._keep(usable, {key: stale[key] for key in usable if key in stale})
            for key, result in results.items():
                if result.plain:
                    self._report_plain(key, missing[key], result, kept.get(key, ""))
        return kept

    def _report_plain(self, key: _Key, request: ImageRequest, result: Generation, kept: str) -> None:
        detail = {
            "concept": request.concept,
            "prompt": request.prompt,
            "seed": request.seed,
            "plain": result.plain,
        }
        with self._lock:
            self.stats.retried += 1
        if result.image is not None:
            text = f"an image of {request.concept!r} was all {result.plain} and was generated with another seed"
            self.events.report(CacheEvent("image drawn again", text, {**detail, "picture": kept}))
            return
        refused = BlankImageError(request.concept, result.plain)
        self._plain[key] = result.plain
        self.events.report(CacheEvent("concept refused", refused.reason, detail))
        raise refused

    def _keep(
        self, drawn: dict[_Key, tuple[ImageRequest, DrawnImage]], stale: Mapping[_Key, tuple[str, str]]
    ) -> dict[_Key, str]:
        """Write the files, then all rows at once; return the id of the image that counts for each key."""
        ids = dict(zip(drawn, parallel_map(self._write, [image for _, image in drawn.values()]), strict=True))
        renewed = {key: stale[key] for key in drawn if key in stale}
        with self._folder.transaction() as db:
            metadata = {key: dict(image.provenance) for key, (_, image) in drawn.items()}
            for key, (lost, _) in renewed.items():
                if ids[key] != lost:
                    metadata[key]["replaces"] = self._replaced(key, lost)
            db.executemany(
                "DELETE FROM draws WHERE generator = ? AND prompt = ? AND seed = ? AND image = ?",
                [(*key, lost) for key, (lost, _) in renewed.items()],
            )
            # Another process may have been first; then its image counts.
            db.executemany(
                PUT_IMAGE,
                [
                    image_row(
                        *key,
                        ids[key],
                        image.stored[1] if image.stored else len(image.png),
                        json.dumps(asdict(request)),
                        json.dumps(metadata[key], default=str),
                    )
                    for key, (request, image) in drawn.items()
                ],
            )
            kept = {key: image for key, (image, _) in self._rows(drawn).items()}
            whole = {kept[key]: image for key, (_, image) in drawn.items() if kept[key] == ids[key]}
            self._keep_measured(
                db, {image_id: image.measured for image_id, image in whole.items() if image.measured}
            )
            self.stats.generated += len(drawn)
            self.stats.regenerated += len(renewed)
            for image_id, image in whole.items():
                if image.pixels is not None:
                    self._remember(image_id, image.pixels)
        for key, (lost, damage) in renewed.items():
            self._report_regenerated(drawn[key][0], lost, damage, kept[key])
        return kept

    def _keep_measured(self, db: Connection, measured: Mapping[str, Measured]) -> None:
        """Keep what was measured where images were generated, in their own transaction."""

    def _write(self, image: DrawnImage) -> str:
        """Write the file of an image, unless a worker did; return its id."""
        if image.stored:
            self._files.replaced(image.stored[0])
            return image.stored[0]
        name = hashlib.sha256(image.png).hexdigest()
        self._files.write(name, image.png)
        return name

    def _replaced(self, key: _Key, lost: str) -> dict[str, Any]:
        """Return the metadata of an image that is replaced, and of its own predecessors."""
        row = self._folder.db.execute(
            "SELECT provenance FROM draws WHERE generator = ? AND prompt = ? AND seed = ? AND image = ?",
            (*key, lost),
        ).fetchone()
        account = _parse_metadata(row[0]) if row else {}
        before = _replaced_in(account)
        account.pop("replaces", None)
        return {**before, lost: account}

    def _report_regenerated(self, request: ImageRequest, lost: str, damage: str, now: str) -> None:
        text = f"the file of image {lost[:12]} ({request.concept!r}) {damage}; it was generated again"
        detail = {"picture": lost, "reason": damage, "concept": request.concept, "seed": request.seed}
        if now != lost:
            text += f" and differs from before; it is now {now[:12]}"
            detail["now"] = now
            self._files.remove([lost])
        self.events.report(CacheEvent("image redrawn", text, detail))

    def _rows(self, keys: Iterable[_Key]) -> dict[_Key, tuple[str, int]]:
        """Return image and size of its file for each kept key; to be called with the lock.

        Raises:
            DamagedError: a row, or the index that leads to it, has changed: it would give another image.
        """
        statement = "SELECT image, size, checksum FROM draws WHERE generator = ? AND prompt = ? AND seed = ?"
        found: dict[_Key, tuple[str, int]] = {}
        for key in keys:
            row = self._folder.db.execute(statement, key).fetchone()
            if row is None:
                continue
            if row[2] is not None and row[2] != image_checksum(*key, row[0]):
                raise DamagedError(
                    f"bank.db in {str(self.root)!r} is damaged: it names another image for"
                    f" {clean_text(key[1], 80)!r}",
                    f"line doctor --store {shell_word(str(self.root))} --deep --fix, or put a backup of the file"
                    " in its place",
                )
            found[key] = row[:2]
        return found

    def _regenerate(self, image_ids: Sequence[str], generator: Generator) -> dict[str, str]:
        """Generate lost images again; return the id of each one's current file.

        Raises:
            LostImageError: the cache does not know how this generator made one.
        """
        requests = {image: self._request(image, generator.fingerprint) for image in image_ids}
        return dict(zip(requests, self.images(list(requests.values()), generator), strict=True))

    def _request(self, image_id: str, generator: str) -> ImageRequest:
        statement = "SELECT request FROM draws WHERE image = ? AND generator = ?"
        row = self._folder.one(statement, (image_id, generator))
        if row is None and (successor := self._successor(image_id)):
            row = self._folder.one(statement, (successor[0], generator))
        if row is None:
            raise LostImageError(
                f"image {image_id[:12]} has gone, and the store does not record how this generator made it",
                "put a backup of the store in its place, or start a new run",
                (image_id,),
            )
        return ImageRequest(**loads(row[0]))

    def _image(self, image_id: str) -> ImageData:
        with self._lock:
            pixels = self._pixels.get(image_id)
        return self.image_bytes(image_id) if pixels is None else pixels

    def _remember(self, image_id: str, pixels: NDArray[np.uint8]) -> None:
        """Keep pixels for their forward pass; to be called with the lock, as ``_forget`` is."""
        self._forget(image_id)
        self._pixels[image_id] = pixels
        self._pixel_bytes += pixels.nbytes
        while self._pixel_bytes > _PIXEL_BYTES:
            self._forget(next(iter(self._pixels)))

    def _forget(self, image_id: str) -> None:
        pixels = self._pixels.pop(image_id, None)
        if pixels is not None:
            self._pixel_bytes -= pixels.nbytes


def _share_progress(progress: Progress | None, before: int, part: int, whole: int) -> Progress | None:
    """Return the progress of the whole, from that of a part that ``before`` images came before."""
    if progress is None or part == whole:
        return progress
    return lambda done, total: progress(before * total // part + done, whole * total // part)


def image_row(
    generator: str, prompt: str, seed: int, image: str, size: int, request: str, metadata: str
) -> tuple[str | int | bytes, ...]:
    """Return the values of ``PUT_IMAGE`` for an image: ``request`` and ``metadata`` are JSON."""
    return generator, prompt, seed, image, size, request, metadata, image_checksum(generator, prompt, seed, image)


def _parse_metadata(text: object) -> dict[str, Any]:
    """Parse the metadata of an image; empty where it is none."""
    try:
        account = loads(str(text))
    except ValueError:
        return {}
    return account if isinstance(account, dict) else {}


def _replaced_in(account: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the metadata of the images that one replaces, by id."""
    replaced = account.get("replaces")
    found = replaced.items() if isinstance(replaced, dict) else ()
    return {image: lost for image, lost in found if isinstance(lost, dict)}
