"""Import a bundle into a store: checked first, then written as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.eval.exchange import bundle_checkpoints as threads
from line_neurons.eval.exchange import bundle_format as form
from line_neurons.eval.exchange.bundle_checkpoints import IdMapping
from line_neurons.eval.exchange.bundle_checks import check_bundle, control_file
from line_neurons.eval.exchange.bundle_format import CommandRow, ControlRow, Event, Image
from line_neurons.eval.exchange.bundle_reader import Archive, check_disk_space, open_bundle
from line_neurons.eval.exchange.bundle_writer import fingerprint_of
from line_neurons.eval.exchange.snapshot import open_snapshot
from line_neurons.tools.cache.activation_cache import PUT_VECTOR, put_control_row, vector_row
from line_neurons.tools.cache.database import CacheDatabase
from line_neurons.tools.cache.image_cache import PUT_IMAGE, image_row
from line_neurons.tools.cache.image_files import ImageFiles, read_image_file
from line_neurons.tools.cache.reader import control_path, stored_control
from line_neurons.tools.cache.vectors import decode_vector
from line_neurons.tools.store.atomic_files import remove_abandoned
from line_neurons.tools.store.locks import shared_lock
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore, has_runs

if TYPE_CHECKING:
    import sqlite3

_AT_ONCE = 500
_IMPORTED = form.NOT_CARRIED[0]


@dataclass(frozen=True)
class ImportResult:
    """The result of an import.

    Args:
        run: id of the run here.
        before: its id where it was exported.
        new: the run was not in this store; if False nothing was changed.
        lost_images: number of images of its histories that the exporting store no longer had.
    """

    run: str
    before: str
    new: bool
    lost_images: int


def import_bundle(store: Path, path: Path) -> ImportResult:
    """Import a bundle into a store; a run that is already here stays as it is.

    A run whose name is taken here gets the next free one. Images, activations and control activations that the
    store has stay; others are added to its cache, for all runs.

    Args:
        store: the store's folder, created if needed.

    Raises:
        UsageError: it was changed or truncated, has another schema, unknown files or contents that do not fit
            together or into the store, or the disk has no room; nothing is written then.
        StoreError: the store cannot be written.
    """
    with open_bundle(path) as bundle:
        run = bundle.one(form.RUN, Run)
        check_bundle(bundle, run, store)
        if known := _known(store, bundle, run):
            return ImportResult(known, run.id, False, bundle.manifest.lost_images)
        check_disk_space(bundle, store)
        with shared_lock(store):
            # Files of a killed import.
            remove_abandoned(store)
            # The run comes last: all before it is part of the cache, and a repeated import continues there.
            with closing(CacheDatabase(store)) as bank:
                _put_images(bundle, run, bank)
            with closing(RunStore(store)) as runs:
                name = _put_run(bundle, run, runs)
    return ImportResult(name, run.id, True, bundle.manifest.lost_images)


def _digest(bundle: Archive) -> str:
    files = {name: bundle.manifest.files[name].sha256 for name in form.SEARCH}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _known(store: Path, bundle: Archive, run: Run) -> str:
    """Return this store's run of a bundle, imported before or in the same state; empty if there is none."""
    if not has_runs(store):
        return ""
    with closing(RunStore(store, read_only=True)) as runs:
        statement = "SELECT run FROM events WHERE kind = ? AND json_extract(detail, '$.bundle') = ? ORDER BY id"
        if found := runs.rows(statement, _IMPORTED, _digest(bundle)):
            return str(found[0][0])
        if run.id not in runs.names():
            return ""
    with open_snapshot(store, run.id) as snapshot:
        here = fingerprint_of(snapshot)
    same = all(bundle.manifest.files[name].sha256 == digest for name, digest in here.items())
    return run.id if same else ""


def _put_images(bundle: Archive, run: Run, bank: CacheDatabase) -> None:
    """Import images with their records and activations; existing ones stay."""
    files = ImageFiles(bank)
    new: list[str] = []
    try:
        for name in bundle.manifest.files:
            match = form.NAMED.fullmatch(name)
            if match and match[1] and read_image_file(bank.root, match[1])[1]:
                new.append(match[1])
                files.write(match[1], bundle.read(name))
        images = (
            image_row(row.generator, row.prompt, row.seed, row.image, row.size, row.request, row.account)
            for row in bundle.rows(form.IMAGES, Image)
        )
        _put(bank, PUT_IMAGE, images)
    except BaseException:
        files.remove(new)
        raise
    target = str(run.fingerprints.get("target"))
    vectors = (
        vector_row(vector.image, target, run.layer, decode_vector(numbers, None))
        for vector, numbers in bundle.vectors()
    )
    _put(bank, PUT_VECTOR, vectors)
    for row in bundle.rows(form.CONTROLS, ControlRow):
        if stored_control(bank.root, row.key) is None:
            content = b"".join(bundle.blocks(control_file(row)))
            bank.write(control_path(bank.root, row.key), lambda file, content=content: file.write(content))  # type: ignore[misc]
            put_control_row(bank, row.key, row.classes, row.skipped)


def _put(bank: CacheDatabase, statement: str, rows: Iterator[tuple[Any, ...]]) -> None:
    """Write rows in portions, so that other processes of the store are not blocked."""
    while some := list(islice(rows, _AT_ONCE)):
        with bank.transaction() as db:
            db.executemany(statement, some)


def _put_run(bundle: Archive, run: Run, runs: RunStore) -> str:
    """Import the run with its history, steering commands and checkpoints: all or nothing."""
    from line_neurons.graphs.runs.lifecycle import new_run_id
    from line_neurons.tools.store.checkpoints import forget_run, open_checkpoints

    with open_checkpoints(runs.path.parent) as saver, runs.atomic() as db:
        name = new_run_id(runs, run.model, run.layer) if run.id in runs.names() else run.id
        found_in = {run.id: name}
        units = [
            replace(unit, run=name, found_in=found_in.get(unit.found_in or "", unit.found_in))
            for unit in bundle.rows(form.UNITS, Unit)
        ]
        runs.add_run(replace(run, id=name), units)
        steps = (_renamed(step, run.id, name) for step in bundle.rows(form.STEPS, Step))
        while some := list(islice(steps, _AT_ONCE)):
            runs.put_steps(some)
        _put_events(db, name, bundle)
        runs.add_event(name, _IMPORTED, bundle=_digest(bundle), called=run.id)
        ids = IdMapping(run.id, name, _put_commands(db, name, bundle))
        with saver.atomic() as rows:
            # A process that was killed here before may have left checkpoints.
            forget_run(rows, name)
            rows.executemany(threads.PUT_CHECKPOINT, threads.checkpoint_rows(bundle, ids))
            rows.executemany(threads.PUT_WRITE, threads.write_rows(bundle, ids))
    return name


def _renamed(step: Step, before: str, now: str) -> Step:
    detail = step.detail
    if detail and detail.get("found_in") == before:
        detail = {**detail, "found_in": now}
    return replace(step, run=now, detail=detail)


def _put_events(db: sqlite3.Connection, run: str, bundle: Archive) -> None:
    db.executemany(
        "INSERT INTO events (run, unit, kind, created, detail) VALUES (?, ?, ?, ?, ?)",
        (
            (run, event.unit, event.kind, event.created, json.dumps(event.detail))
            for event in bundle.rows(form.EVENTS, Event)
            # Trust in code holds for one account only.
            if event.kind not in form.NOT_CARRIED
        ),
    )


def _put_commands(db: sqlite3.Connection, run: str, bundle: Archive) -> dict[int, int]:
    columns = ("unit", "kind", "concept", "by", "created", "taken", "step", "attempt", "node", "outcome")
    statement = f"INSERT INTO wishes (run, {', '.join(columns)}) VALUES ({', '.join('?' * (len(columns) + 1))})"  # noqa: S608
    numbers = {}
    for command in bundle.rows(form.WISHES, CommandRow):
        values = [getattr(command, name) for name in columns]
        # A pending command has no outcome yet.
        values[-1] = command.outcome or None
        numbers[command.id] = db.execute(statement, [run, *values]).lastrowid or 0
    return numbers
