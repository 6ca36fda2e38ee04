"""Write a run with its images, activations and checkpoints as a bundle for another machine."""

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
    units_column,
)
from line_neurons.tools.cache.vectors import decode_vector, vector_width
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.sqlite import translate_errors
from line_neurons.tools.store.steering_queue import commands

Row = TypeVar("Row", Run, Unit)

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_IMAGES_AT_ONCE = 200
_BLOCK = 1 << 20


def write_bundle(snapshot: Snapshot, file: BinaryIO, provenance: Mapping[str, Any]) -> Manifest:
    """Write a bundle and return its manifest; an unchanged run gives the same bytes again.

    ``provenance`` is written as ``provenance.json``.

    Raises:
        StoreError: the store cannot be read.
    """
    threads = _Threads(snapshot)
    with zipfile.ZipFile(file, "w") as archive:
        bundle = _Bundle(archive)
        bundle.put(form.PROVENANCE, json.dumps(provenance, indent=1).encode())
        for name, lines in search_tables(snapshot, threads).items():
            bundle.lines(name, lines)
        images = threads.images | _images_of(snapshot)
        lost = 0
        for image in sorted(images):
            content, trouble = read_image_file(snapshot.store, image)
            lost += bool(trouble)
            if not trouble:
                bundle.put(form.image_name(image), content, zipfile.ZIP_STORED)
        bundle.lines(form.IMAGES, _images(snapshot, images))
        _vectors(snapshot, bundle, sorted(images))
        bundle.lines(form.CONTROLS, _controls(snapshot, bundle))
        manifest = Manifest(
            form.SCHEMA, version("line-neurons"), snapshot.run.id, lost, len(threads.unreadable), bundle.files
        )
        bundle.put(form.MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
    return manifest


def search_tables(snapshot: Snapshot, threads: _Threads) -> dict[str, Iterator[str]]:
    """Return the tables that identify a run's state, line by line; see ``bundle_format.SEARCH``."""
    return {
        form.RUN: _dumped([_at_rest(snapshot.run)]),
        form.UNITS: _dumped(map(_at_rest, snapshot.units())),
        form.STEPS: _dumped(
            step for unit in snapshot.units() for step in snapshot.runs.steps(snapshot.run.id, unit.unit)
        ),
        form.EVENTS: _dumped(_events(snapshot)),
        form.WISHES: _dumped(_commands(snapshot)),
        form.CHECKPOINTS: _dumped(threads.checkpoints()),
        form.WRITES: _dumped(threads.writes()),
    }


def fingerprint_of(snapshot: Snapshot) -> dict[str, str]:
    """Return the SHA-256 of each of ``bundle_format.SEARCH``, as a bundle written now would have it."""
    digests = {}
    for name, lines in search_tables(snapshot, _Threads(snapshot)).items():
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
        """Add a file that the body writes with the function that it gets."""
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
    """The checkpoints of a run's units; a unit with an unreadable checkpoint is left out."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.images: set[str] = set()
        self.unreadable: set[int] = set()
        self._units = [unit.unit for unit in snapshot.units()]
        if snapshot.checkpoints is not None:
            # Importing LangGraph takes a second.
            from line_neurons.tools.store.serializer import PlainSerializer

            self._serde = PlainSerializer()
            for unit in self._units:
                self._look(unit)

    def _look(self, unit: int) -> None:
        """Read a unit's checkpoints; their images may be in no history yet."""
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
            # Any content: a unit without checkpoints starts again.
            self.unreadable.add(unit)

    def checkpoints(self) -> Iterator[Checkpoint]:
        """All checkpoints, oldest first."""
        for unit, row in self._all("checkpoints"):
            number, parent, kind, data, metadata = row
            yield Checkpoint(unit, number, parent, kind, _base64(data), bytes(metadata).decode())

    def writes(self) -> Iterator[Write]:
        """All writes after them."""
        for unit, row in self._all("writes"):
            number, task, path, idx, channel, kind, data = row
            yield Write(unit, number, task, path, idx, channel, kind, _base64(data))

    def _all(self, table: str) -> Iterator[tuple[int, Any]]:
        for unit in self._units:
            if self._snapshot.checkpoints is not None and unit not in self.unreadable:
                for row in self._rows(table, unit):
                    yield unit, row

    def _rows(self, table: str, unit: int) -> Iterator[Any]:
        columns, order = _THREADS[table]
        statement = f"SELECT {columns} FROM {table} WHERE thread_id = ? AND checkpoint_ns = '' ORDER BY {order}"  # noqa: S608
        assert self._snapshot.checkpoints is not None
        with translate_errors(self._snapshot.store / "checkpoints.db"):
            yield from self._snapshot.checkpoints.execute(statement, [f"{self._snapshot.run.id}/{unit}"])


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
    """Return a run or unit in its state without a running process."""
    return replace(row, status="interrupted") if row.status == "running" else row


def _dumped(rows: Iterable[Any]) -> Iterator[str]:
    return (json.dumps(asdict(row)) for row in rows)


def _events(snapshot: Snapshot) -> Iterator[Event]:
    for event in snapshot.runs.events(snapshot.run.id):
        if event["kind"] not in form.NOT_CARRIED:
            yield Event(event["unit"], event["kind"], event["created"], event["detail"])


def _commands(snapshot: Snapshot) -> Iterator[CommandRow]:
    for unit in snapshot.units():
        for command in commands(snapshot.runs, snapshot.run.id, unit.unit):
            yield CommandRow(unit=unit.unit, **asdict(command))


def _images_of(snapshot: Snapshot) -> set[str]:
    found = {image for unit in snapshot.units() for image in unit.images}
    for unit in snapshot.units():
        for step in snapshot.runs.steps(snapshot.run.id, unit.unit):
            found.update(step.images)
    return set(filter(is_image_id, found))


def _images(snapshot: Snapshot, images: set[str]) -> Iterator[str]:
    if snapshot.bank is None:
        return
    statement = (
        "SELECT generator, prompt, seed, image, size, request, provenance FROM draws"
        " WHERE image IN (SELECT value FROM json_each(?)) ORDER BY image, generator, prompt, seed"
    )
    for part in _parts(sorted(images)):
        with translate_errors(snapshot.store / "bank.db"):
            for row in snapshot.bank.execute(statement, [json.dumps(part)]):
                yield json.dumps(dict(zip(_IMAGE, row, strict=True)))


_IMAGE = ("generator", "prompt", "seed", "image", "size", "request", "account")


def _vectors(snapshot: Snapshot, bundle: _Bundle, images: list[str]) -> None:
    kept: list[str] = []
    target, layer = str(snapshot.run.fingerprints.get("target", "")), snapshot.run.layer
    with bundle.opened(form.NUMBERS, zipfile.ZIP_STORED) as write:
        for part in _parts(images if snapshot.bank else []):
            with translate_errors(snapshot.store / "bank.db"):
                bank = cast(sqlite3.Connection, snapshot.bank)
                width = stored_width(bank, target, layer)
                statement = (
                    f"SELECT image, vector, {checksum_column(bank, 'activations')}, {units_column(bank)}"  # noqa: S608
                    " FROM activations"
                    " WHERE target = ? AND layer = ? AND image IN (SELECT value FROM json_each(?)) ORDER BY image"
                )
                rows = bank.execute(statement, [target, layer, json.dumps(part)]).fetchall()
            for image, vector, checksum, units in rows:
                # Damaged activations are measured again where they are needed.
                if not vector_error(image, target, layer, vector, checksum, width, units):
                    # All numbers, whichever form the cache has.
                    write(decode_vector(vector, units).astype("<f4").tobytes())
                    kept.append(json.dumps(asdict(Vector(image, vector_width(vector, units)))))
    bundle.lines(form.VECTORS, kept)


def _controls(snapshot: Snapshot, bundle: _Bundle) -> list[str]:
    prints = snapshot.run.fingerprints
    key = control_key(str(prints.get("target")), snapshot.run.layer, str(prints.get("control")))
    if snapshot.bank is None:
        return []
    with translate_errors(snapshot.store / "bank.db"):
        row = control_row(snapshot.bank, key)
    # Activations that no store would import are computed again there.
    if row is None or read_control(snapshot.store, key, row)[0] is None:
        return []
    path = control_path(snapshot.store, key)
    with path.open("rb") as stream, bundle.opened(form.control_name(path.stem), zipfile.ZIP_STORED) as write:
        for block in iter(partial(stream.read, _BLOCK), b""):
            write(block)
    return [json.dumps(asdict(ControlRow(key, *row[:2])))]


def _parts(images: list[str]) -> Iterator[list[str]]:
    return (images[start : start + _IMAGES_AT_ONCE] for start in range(0, len(images), _IMAGES_AT_ONCE))
