"""Take a run that another machine exported into a store: whole, looked through before, or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.ports import ImageRequest
from line_neurons.evidence import bundle_files as form
from line_neurons.evidence.bundle_files import Asked, ControlRow, Event, Picture
from line_neurons.evidence.exports.bundle import fingerprint_of
from line_neurons.evidence.exports.snapshot import snapshot
from line_neurons.evidence.imports import threads
from line_neurons.evidence.imports.archive import Archive, opened, refused, room_for
from line_neurons.evidence.imports.threads import Called
from line_neurons.tools.bank_folder import BankFolder
from line_neurons.tools.bank_view import content_of
from line_neurons.tools.databases import explained
from line_neurons.tools.marks import ENDED
from line_neurons.tools.picture_files import PNG_BEGIN, PictureFiles, is_image_id
from line_neurons.tools.run_names import is_plain_name
from line_neurons.tools.run_store import Run, RunStore, Step, Unit, has_runs
from line_neurons.tools.store_use import in_use

if TYPE_CHECKING:
    import sqlite3

_AT_ONCE = 500
_MAX_UNIT = 10_000_000
_STATES = {"pending", "interrupted", *ENDED}
_IMPORTED = form.NOT_CARRIED[0]


@dataclass(frozen=True)
class Imported:
    """What an import came to.

    Args:
        run: id of the run here.
        before: its id where it was.
        new: it was not here before; if False nothing was changed.
        lost_pictures: pictures of its histories that the exporting store had no more.
    """

    run: str
    before: str
    new: bool
    lost_pictures: int


def import_bundle(store: Path, path: Path) -> Imported:
    """Take a bundle into a store; a run that is here already is left as it is.

    A run whose name is taken here gets the next free one. Pictures, activations and control activations that the
    store has already stay; what it lacks becomes part of its bank, for all runs.

    Args:
        store: the store's folder; made if it is not there.
        path: the bundle.

    Raises:
        UsageError: it is changed, cut, of another schema or holds what no export has, or the disk has no room.
        StoreError: the store cannot be written.
    """
    with opened(path) as bundle:
        run = bundle.one(form.RUN, Run)
        _look_through(bundle, run)
        if known := _known(store, bundle, run):
            return Imported(known, run.id, False, bundle.manifest.lost_pictures)
        room_for(bundle, store)
        with in_use(store):
            with closing(BankFolder(store)) as bank:
                _refuse_other_width(bundle, run, bank)
                _put_pictures(bundle, run, bank)
            with closing(RunStore(store)) as runs:
                name = _put_run(bundle, run, runs)
    return Imported(name, run.id, True, bundle.manifest.lost_pictures)


def _digest(bundle: Archive) -> str:
    files = {name: bundle.manifest.files[name].sha256 for name in form.SEARCH}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _known(store: Path, bundle: Archive, run: Run) -> str:
    """The run here that a bundle is of, as it was imported or as it stands; empty if there is none."""
    if not has_runs(store):
        return ""
    with closing(RunStore(store, read_only=True)) as runs:
        statement = "SELECT run FROM events WHERE kind = ? AND json_extract(detail, '$.bundle') = ? ORDER BY id"
        if found := runs.rows(statement, _IMPORTED, _digest(bundle)):
            return str(found[0][0])
        if run.id not in runs.names():
            return ""
    with snapshot(store, run.id) as taken:
        here = fingerprint_of(taken)
    same = all(bundle.manifest.files[name].sha256 == digest for name, digest in here.items())
    return run.id if same else ""


def _look_through(bundle: Archive, run: Run) -> None:
    """See that everything in a bundle is of one run, and nothing of it could harm.

    Raises:
        UsageError: what is wrong.
    """

    def need(fits: bool, what: str) -> None:
        if not fits:
            raise refused(bundle.path, what)

    need(is_plain_name(run.id) and run.id == bundle.manifest.run, "its run has no name that a run can have")
    need(run.status in _STATES, f"its run is {run.status!r:.40}")
    units: set[int] = set()
    images: set[str] = set()
    for unit in bundle.rows(form.UNITS, Unit):
        need(
            unit.run == run.id and 0 <= unit.unit <= _MAX_UNIT and unit.unit not in units,
            "a unit is none of its run",
        )
        need(unit.status in _STATES, f"unit {unit.unit} is {unit.status!r:.40}")
        units.add(unit.unit)
        images.update(unit.images)
    places = set()
    for step in bundle.rows(form.STEPS, Step):
        place = (step.unit, step.step, step.attempt)
        need(step.run == run.id and step.unit in units and min(place) >= 0, "a step is of no unit of its run")
        need(place not in places, f"a step of unit {step.unit} is in it twice")
        places.add(place)
        images.update(step.images)
    need(all(map(is_image_id, images)), "a picture of its history has no picture's id")
    images |= threads.images_of(bundle, run.id, units)
    for event in bundle.rows(form.EVENTS, Event):
        need(event.unit is None or event.unit in units, "an event is of no unit of its run")
    numbers = set()
    for wish in bundle.rows(form.WISHES, Asked):
        need(wish.unit in units and wish.id not in numbers, "a wish is of no unit of its run")
        numbers.add(wish.id)
    drawn = [row for row in map(_drawn, bundle.rows(form.PICTURES, Picture)) if row[0] not in images or not row[1]]
    need(not drawn, "it says how pictures were drawn that its run has not, or says it wrongly")
    for name, file in bundle.manifest.files.items():
        if (match := form.NAMED.fullmatch(name)) and match[1]:
            need(match[1] in images and match[1] == file.sha256, f"{name} is no picture of its run")
            need(bundle.read(name).startswith(PNG_BEGIN), f"{name} is no PNG file")
    _look_at_vectors(bundle, images)
    _look_at_controls(bundle, run)


def _drawn(row: Picture) -> tuple[str, bool]:
    """A picture, and whether what is said of how it was drawn can be."""
    try:
        request, account = json.loads(row.request), json.loads(row.account)
        made = ImageRequest(**request)
        fits = (made.prompt, made.seed) == (row.prompt, row.seed) and isinstance(account, dict)
        texts = all(isinstance(value, str) for name, value in asdict(made).items() if name != "seed")
        return row.image, fits and texts and row.size >= -1
    except (ValueError, TypeError, RecursionError):
        return row.image, False


def _look_at_vectors(bundle: Archive, images: set[str]) -> None:
    import numpy as np

    seen: set[str] = set()
    widths: set[int] = set()
    for vector, numbers in bundle.vectors():
        seen.add(vector.image)
        widths.add(vector.units)
        if len(widths) > 1 or vector.image not in images or not np.isfinite(np.frombuffer(numbers, "<f4")).all():
            raise refused(bundle.path, "it has activations of no picture of its run, or such as no layer gives")


def _look_at_controls(bundle: Archive, run: Run) -> None:
    rows = list(bundle.rows(form.CONTROLS, ControlRow))
    files = [name for name in bundle.manifest.files if (match := form.NAMED.fullmatch(name)) and match[2]]
    own = "\n".join((str(run.fingerprints.get("target")), run.layer, str(run.fingerprints.get("control"))))
    if [row.key for row in rows] not in ([], [own]) or files != [_control_file(row) for row in rows]:
        raise refused(bundle.path, "its control activations are not those of its run")
    for row in rows:
        try:
            fits = _is_control(row, b"".join(bundle.blocks(_control_file(row))))
        except (ValueError, TypeError, KeyError, EOFError, RecursionError, zipfile.BadZipFile):
            fits = False
        if not fits:
            raise refused(bundle.path, "its control activations are damaged")


def _control_file(row: ControlRow) -> str:
    return form.control_name(hashlib.sha256(row.key.encode()).hexdigest())


def _is_control(row: ControlRow, content: bytes) -> bool:
    import numpy as np

    for texts in (json.loads(row.classes), json.loads(row.skipped)):
        if not (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
            return False
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        # As the bank writes them; packed ones could be of any size.
        if any(info.compress_type != zipfile.ZIP_STORED for info in packed.infolist()):
            return False
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        labels, activations = arrays["labels"], arrays["activations"]
    shaped = labels.ndim == 1 and activations.ndim == 2 and len(labels) == len(activations)
    return bool(
        shaped and labels.dtype.kind in "iu" and activations.dtype == np.float32 and np.isfinite(activations).all()
    )


def _refuse_other_width(bundle: Archive, run: Run, bank: BankFolder) -> None:
    first = next(bundle.vectors(), None)
    statement = "SELECT length(vector) FROM activations WHERE target = ? AND layer = ? LIMIT 1"
    here = bank.one(statement, (str(run.fingerprints.get("target")), run.layer))
    if first and here and here[0] != 4 * first[0].units:
        raise refused(bundle.path, f"its activations are of {first[0].units} units, those here of {here[0] // 4}")


def _put_pictures(bundle: Archive, run: Run, bank: BankFolder) -> None:
    """Bring pictures with how they were drawn and what was measured on them; what is here already stays."""
    files = PictureFiles(bank)
    new: list[str] = []
    try:
        for name in bundle.manifest.files:
            match = form.NAMED.fullmatch(name)
            if match and match[1] and content_of(bank.root, match[1])[1]:
                new.append(match[1])
                files.write(match[1], bundle.read(name))
        drawn = (
            (row.generator, row.prompt, row.seed, row.image, row.size, row.request, row.account)
            for row in bundle.rows(form.PICTURES, Picture)
        )
        _put(bank, "INSERT OR IGNORE INTO draws VALUES (?, ?, ?, ?, ?, ?, ?)", drawn)
    except BaseException:
        files.remove(new)
        raise
    target = str(run.fingerprints.get("target"))
    vectors = ((vector.image, target, run.layer, numbers) for vector, numbers in bundle.vectors())
    _put(bank, "INSERT OR IGNORE INTO activations VALUES (?, ?, ?, ?)", vectors)
    for row in bundle.rows(form.CONTROLS, ControlRow):
        content = b"".join(bundle.blocks(_control_file(row)))
        path = bank.root / _control_file(row)
        if not path.is_file():
            bank.write(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
            _put(
                bank,
                "INSERT OR IGNORE INTO controls VALUES (?, ?, ?)",
                iter([(row.key, row.classes, row.skipped)]),
            )


def _put(bank: BankFolder, statement: str, rows: Iterator[tuple[Any, ...]]) -> None:
    """Write rows some at a time, so that who works on the store meanwhile is not kept waiting."""
    while some := list(islice(rows, _AT_ONCE)):
        with bank.transaction() as db:
            db.executemany(statement, some)


def _put_run(bundle: Archive, run: Run, runs: RunStore) -> str:
    """Write the run with its history, what was asked of it, and its checkpoints: all or nothing."""
    from line_neurons.graphs import checkpoints
    from line_neurons.graphs.runs import free_name

    with checkpoints.opened(runs.path.parent) as saver, runs.atomic() as db:
        name = free_name(runs, run.model, run.layer) if run.id in runs.names() else run.id
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
        called = Called(run.id, name, _put_wishes(db, name, bundle))
        # All or nothing, which the saver's own cursor is not: it commits what came before an error.
        with explained(runs.path.with_name("checkpoints.db")), saver.conn as rows:
            for unit in units:
                # A process that was killed here before may have left some.
                for table in ("checkpoints", "writes"):
                    rows.execute(f"DELETE FROM {table} WHERE thread_id = ?", [f"{name}/{unit.unit}"])  # noqa: S608
            rows.executemany(threads.PUT_CHECKPOINT, threads.checkpoint_rows(bundle, called))
            rows.executemany(threads.PUT_WRITE, threads.write_rows(bundle, called))
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
            # Who vouches for code vouches on an account of their own.
            if event.kind not in form.NOT_CARRIED
        ),
    )


def _put_wishes(db: sqlite3.Connection, run: str, bundle: Archive) -> dict[int, int]:
    columns = ("unit", "kind", "concept", "by", "created", "taken", "step", "attempt", "node", "outcome")
    statement = f"INSERT INTO wishes (run, {', '.join(columns)}) VALUES ({', '.join('?' * (len(columns) + 1))})"  # noqa: S608
    numbers = {}
    for wish in bundle.rows(form.WISHES, Asked):
        values = [getattr(wish, name) for name in columns]
        # What waits has no outcome yet.
        values[-1] = wish.outcome or None
        numbers[wish.id] = db.execute(statement, [run, *values]).lastrowid or 0
    return numbers
