"""Write a run with its images, activations and checkpoints as a bundle, for another machine."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from typing import Any, BinaryIO, TypeVar, cast

from line_neurons.eval.exchange import bundle_format as form
from line_neurons.eval.exchange.bundle_format import (
    Checkpoint,
    CommandRow,
    ControlRow,
    Event,
    File,
    Manifest,
    Vector,
    Write,
)
from line_neurons.eval.exchange.snapshot import Snapshot
from line_neurons.tools.cache.checksums import vector_error
from line_neurons.tools.cache.image_files import is_image_id, read_image_file
from line_neurons.tools.cache.reader import (
    checksum_column,
    control_key,
    control_path,
    control_row,
    read_control,
    stored_width,
)
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.sqlite import translate_errors
from line_neurons.tools.store.steering_queue import commands

Row = TypeVar("Row", Run, Unit)

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_IMAGES_AT_ONCE = 200
_BLOCK = 1 << 20


def write_bundle(taken: Snapshot, file: BinaryIO, about: Mapping[str, Any]) -> Manifest:
    """Write a bundle; a run that nothing has changed in gives the same bytes again.

    Args:
        taken: the run.
        file: where to write.
        about: where the run comes from, for ``provenance.json``.

    Returns:
        what its manifest says.

    Raises:
        StoreError: the store cannot be read.
    """
    threads = _Threads(taken)
    with zipfile.ZipFile(file, "w") as archive:
        bundle = _Bundle(archive)
        bundle.put(form.PROVENANCE, json.dumps(about, indent=1).encode())
        for name, lines in search_tables(taken, threads).items():
            bundle.lines(name, lines)
        images = threads.images | _images_of(taken)
        lost = 0
        for image in sorted(images):
            content, trouble = read_image_file(taken.store, image)
            lost += bool(trouble)
            if not trouble:
                bundle.put(form.image_name(image), content, zipfile.ZIP_STORED)
        bundle.lines(form.IMAGES, _images(taken, images))
        _vectors(taken, bundle, sorted(images))
        bundle.lines(form.CONTROLS, _controls(taken, bundle))
        manifest = Manifest(
            form.SCHEMA, version("line-neurons"), taken.run.id, lost, len(threads.unreadable), bundle.files
        )
        bundle.put(form.MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
    return manifest


def search_tables(taken: Snapshot, threads: _Threads) -> dict[str, Iterator[str]]:
    """What a run is told by, line by line; see ``bundle_files.SEARCH``."""
    return {
        form.RUN: _dumped([_at_rest(taken.run)]),
        form.UNITS: _dumped(map(_at_rest, taken.units())),
        form.STEPS: _dumped(step for unit in taken.units() for step in taken.runs.steps(taken.run.id, unit.unit)),
        form.EVENTS: _dumped(_events(taken)),
        form.WISHES: _dumped(_wishes(taken)),
        form.CHECKPOINTS: _dumped(threads.checkpoints()),
        form.WRITES: _dumped(threads.writes()),
    }


def fingerprint_of(taken: Snapshot) -> dict[str, str]:
    """The SHA-256 of each of ``bundle_files.SEARCH``, as a bundle would have it now."""
    digests = {}
    for name, lines in search_tables(taken, _Threads(taken)).items():
        digest = hashlib.sha256()
        for line in lines:
            digest.update(line.encode() + b"\n")
        digests[name] = digest.hexdigest()
    return digests


class _Bundle:
    """A bundle that is being written."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.files: dict[str, File] = {}

    def put(self, name: str, content: bytes, packing: int = zipfile.ZIP_DEFLATED) -> None:
        """Add a file."""
        with self.opened(name, packing) as write:
            write(content)

    def lines(self, name: str, lines: Iterable[str]) -> None:
        """Add a file line by line."""
        with self.opened(name, zipfile.ZIP_DEFLATED) as write:
            for line in lines:
                write(line.encode() + b"\n")

    @contextmanager
    def opened(self, name: str, packing: int) -> Iterator[Callable[[bytes], object]]:
        """Add a file that the body writes with what it is given."""
        info = zipfile.ZipInfo(name, _LONG_AGO)
        info.compress_type, info.create_system, info.external_attr = packing, 3, 0o644 << 16
        digest, size = hashlib.sha256(), 0
        with self._archive.open(info, "w", force_zip64=True) as stream:

            def write(content: bytes) -> None:
                nonlocal size
                size += len(content)
                digest.update(content)
                stream.write(content)

            yield write
        self.files[name] = File(digest.hexdigest(), size)


class _Threads:
    """The checkpoints of a run's units; those of a unit of which one cannot be read are left out."""

    def __init__(self, taken: Snapshot) -> None:
        self._taken = taken
        self.images: set[str] = set()
        self.unreadable: set[int] = set()
        self._units = [unit.unit for unit in taken.units()]
        if taken.checkpoints is not None:
            # Importing LangGraph takes a second.
            from line_neurons.tools.store.serializer import PlainSerializer

            self._serde = PlainSerializer()
            for unit in self._units:
                self._look(unit)

    def _look(self, unit: int) -> None:
        """Read what a unit's checkpoints hold; their images may be in no history yet."""
        try:
            for _, _, kind, data, metadata in self._rows("checkpoints", unit):
                values = self._serde.loads_typed((kind, data))["channel_values"]
                self.images.update(filter(is_image_id, values.get("images", ())))
                json.loads(metadata)
            for *_, channel, kind, data in self._rows("writes", unit):
                value = self._serde.loads_typed((kind, data))
                if channel == "images":
                    self.images.update(filter(is_image_id, value))
        except Exception:
            # Whatever is in it: a unit without checkpoints begins again.
            self.unreadable.add(unit)

    def checkpoints(self) -> Iterator[Checkpoint]:
        """All checkpoints, oldest first."""
        for unit, row in self._all("checkpoints"):
            number, parent, kind, data, metadata = row
            yield Checkpoint(unit, number, parent, kind, _base64(data), bytes(metadata).decode())

    def writes(self) -> Iterator[Write]:
        """What was written after them."""
        for unit, row in self._all("writes"):
            number, task, path, idx, channel, kind, data = row
            yield Write(unit, number, task, path, idx, channel, kind, _base64(data))

    def _all(self, table: str) -> Iterator[tuple[int, Any]]:
        for unit in self._units:
            if self._taken.checkpoints is not None and unit not in self.unreadable:
                for row in self._rows(table, unit):
                    yield unit, row

    def _rows(self, table: str, unit: int) -> Iterator[Any]:
        columns, order = _THREADS[table]
        statement = f"SELECT {columns} FROM {table} WHERE thread_id = ? AND checkpoint_ns = '' ORDER BY {order}"  # noqa: S608
        assert self._taken.checkpoints is not None
        with translate_errors(self._taken.store / "checkpoints.db"):
            yield from self._taken.checkpoints.execute(statement, [f"{self._taken.run.id}/{unit}"])


_THREADS = {
    "checkpoints": ("checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata", "checkpoint_id"),
    "writes": (
        "checkpoint_id, task_id, task_path, idx, channel, type, coalesce(value, x'')",
        "checkpoint_id, task_id, idx",
    ),
}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _at_rest(row: Row) -> Row:
    """A run or unit as it is where nobody works on it."""
    return replace(row, status="interrupted") if row.status == "running" else row


def _dumped(rows: Iterable[Any]) -> Iterator[str]:
    return (json.dumps(asdict(row)) for row in rows)


def _events(taken: Snapshot) -> Iterator[Event]:
    for event in taken.runs.events(taken.run.id):
        if event["kind"] not in form.NOT_CARRIED:
            yield Event(event["unit"], event["kind"], event["created"], event["detail"])


def _wishes(taken: Snapshot) -> Iterator[CommandRow]:
    for unit in taken.units():
        for wish in commands(taken.runs, taken.run.id, unit.unit):
            yield CommandRow(unit=unit.unit, **asdict(wish))


def _images_of(taken: Snapshot) -> set[str]:
    found = {image for unit in taken.units() for image in unit.images}
    for unit in taken.units():
        for step in taken.runs.steps(taken.run.id, unit.unit):
            found.update(step.images)
    return set(filter(is_image_id, found))


def _images(taken: Snapshot, images: set[str]) -> Iterator[str]:
    if taken.bank is None:
        return
    statement = (
        "SELECT generator, prompt, seed, image, size, request, provenance FROM draws"
        " WHERE image IN (SELECT value FROM json_each(?)) ORDER BY image, generator, prompt, seed"
    )
    for part in _parts(sorted(images)):
        with translate_errors(taken.store / "bank.db"):
            for row in taken.bank.execute(statement, [json.dumps(part)]):
                yield json.dumps(dict(zip(_IMAGE, row, strict=True)))


_IMAGE = ("generator", "prompt", "seed", "image", "size", "request", "account")


def _vectors(taken: Snapshot, bundle: _Bundle, images: list[str]) -> None:
    kept: list[str] = []
    target, layer = str(taken.run.fingerprints.get("target", "")), taken.run.layer
    with bundle.opened(form.NUMBERS, zipfile.ZIP_STORED) as write:
        for part in _parts(images if taken.bank else []):
            with translate_errors(taken.store / "bank.db"):
                bank = cast(sqlite3.Connection, taken.bank)
                width = stored_width(bank, target, layer)
                statement = (
                    f"SELECT image, vector, {checksum_column(bank, 'activations')} FROM activations"  # noqa: S608
                    " WHERE target = ? AND layer = ? AND image IN (SELECT value FROM json_each(?)) ORDER BY image"
                )
                rows = bank.execute(statement, [target, layer, json.dumps(part)]).fetchall()
            for image, vector, checksum in rows:
                # What is damaged is measured anew where it is needed.
                if not vector_error(image, target, layer, vector, checksum, width):
                    write(vector)
                    kept.append(json.dumps(asdict(Vector(image, len(vector) // 4))))
    bundle.lines(form.VECTORS, kept)


def _controls(taken: Snapshot, bundle: _Bundle) -> list[str]:
    prints = taken.run.fingerprints
    key = control_key(str(prints.get("target")), taken.run.layer, str(prints.get("control")))
    if taken.bank is None:
        return []
    with translate_errors(taken.store / "bank.db"):
        row = control_row(taken.bank, key)
    # What no store would take in is computed anew there.
    if row is None or read_control(taken.store, key, row)[0] is None:
        return []
    path = control_path(taken.store, key)
    with path.open("rb") as stream, bundle.opened(form.control_name(path.stem), zipfile.ZIP_STORED) as write:
        for block in iter(partial(stream.read, _BLOCK), b""):
            write(block)
    return [json.dumps(asdict(ControlRow(key, *row[:2])))]


def _parts(images: list[str]) -> Iterator[list[str]]:
    return (images[start : start + _IMAGES_AT_ONCE] for start in range(0, len(images), _IMAGES_AT_ONCE))
