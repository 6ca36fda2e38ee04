"""Check a store: its databases, files and checkpoints against each other.

The check changes nothing, and reports nothing that a process may be working on at the moment; ``repair`` fixes
what it finds.
"""

from __future__ import annotations

import hashlib
import socket
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import StoreError
from line_neurons.tools.array_files import UNREADABLE
from line_neurons.tools.cache.checksums import image_checksum, vector_error
from line_neurons.tools.cache.embeddings import read_embeddings
from line_neurons.tools.cache.file_hashes import hash_checksum
from line_neurons.tools.cache.image_files import PNG_BEGIN, PNG_END
from line_neurons.tools.cache.reader import (
    checksum_column,
    control_path,
    control_row,
    control_shapes,
    read_control,
    stored_width,
    units_column,
)
from line_neurons.tools.cache.vectors import sparse_error
from line_neurons.tools.doctor.faults import FAULTS, Fault, Problem
from line_neurons.tools.json_text import loads
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.store.atomic_files import abandoned_files
from line_neurons.tools.store.locks import is_held, lock_files
from line_neurons.tools.store.paths import DATABASES, links, own_files
from line_neurons.tools.store.sqlite import open_readonly


def active_runs(store: Path) -> list[str]:
    """Return the runs that a living process of this machine works on, or a process of another machine holds."""
    here = {run_of(path) for path in lock_files(store) if is_held(path)}
    return sorted(here | _held_elsewhere(store))


def _held_elsewhere(store: Path) -> set[str]:
    try:
        with closing(open_readonly(store / "runs.db")) as db:
            leases = db.execute("SELECT run, host FROM leases").fetchall()
    except sqlite3.DatabaseError:
        # It does not exist, is damaged, or is of an earlier version.
        return set()
    return {run for run, host in leases if host != socket.gethostname()}


def run_of(lock: Path) -> str:
    """Return the run of a lock file: its name, up to that of the machine if it has one."""
    return lock.stem.partition("@")[0]


def check(store: Path, *, deep: bool = False, busy: Sequence[str] | None = None) -> list[Problem]:
    """Find what is wrong with a store.

    Args:
        deep: also hash every image, verify every checksum and check every page of the databases.
        busy: the runs that a process works on; None: those whose locks are held.

    Raises:
        StoreError: the store cannot be read.
    """
    found: dict[Fault, list[tuple[Any, ...]]] = defaultdict(list)
    with _translate_errors(store), ExitStack() as stack:
        checker = _Checker(store, deep, stack, active_runs(store) if busy is None else busy)
        for kind, item in checker.all():
            found[kind].append(item)
    return [Problem(kind, tuple(found[kind])) for kind in FAULTS if kind in found]


_Found = Iterator[tuple[Fault, tuple[Any, ...]]]


@dataclass
class _Checker:
    store: Path
    deep: bool
    stack: ExitStack
    busy: Sequence[str]
    opened: dict[str, sqlite3.Connection] = field(default_factory=dict)

    def all(self) -> _Found:
        """Run all checks whose databases are there and whole."""
        yield from ((Fault.LINK, (self._name(path),)) for path in links(self.store))
        yield from self.databases()
        checks: dict[Callable[[], _Found], set[str]] = {
            self.rows: {"runs.db"},
            self.images: {"bank.db"},
            self.history_images: {"bank.db", "runs.db"},
            self.vectors: {"bank.db"},
            self.controls: {"bank.db"},
            self.embeddings: set(),
            self.digests: {"digests.db"},
            self.replies: {"replies.db"},
            self.checkpoints: {"runs.db", "checkpoints.db"},
            self.locks: {"runs.db"},
        }
        for run_check, needed in checks.items():
            if needed <= self.opened.keys():
                yield from run_check()
        if not self.busy:
            yield from ((Fault.LEFTOVER, (self._name(path),)) for path in abandoned_files(self.store))

    def databases(self) -> _Found:
        check = "PRAGMA integrity_check(3)" if self.deep else "PRAGMA quick_check(3)"
        for name in DATABASES:
            path = self.store / name
            if not path.exists() or path.is_symlink():
                continue
            db = self.stack.enter_context(closing(open_readonly(path)))
            db.text_factory = lambda text: text.decode("utf-8", "replace")
            try:
                messages = [row[0] for row in db.execute(check)]
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
                    raise
                messages = [str(error)]
            if messages == ["ok"]:
                self.opened[name] = db
            else:
                yield Fault.DATABASE_DAMAGED, (name, messages[0].splitlines()[-1])

    def query(self, database: str, statement: str) -> Iterator[Any]:
        """Yield the rows of a query; none where an earlier version made the database, without the table."""
        try:
            yield from self.opened[database].execute(statement)
        except sqlite3.OperationalError as error:
            if "no such" not in str(error):
                raise

    def rows(self) -> _Found:
        no_run, no_unit = "run NOT IN (SELECT id FROM runs)", "(run, unit) NOT IN (SELECT run, unit FROM units)"
        for row in self.query("runs.db", f"SELECT run, unit FROM units WHERE {no_run}"):  # noqa: S608
            yield Fault.UNIT_WITHOUT_ITS_RUN, row
        for row in self.query("runs.db", f"SELECT id, run FROM events WHERE {no_run}"):  # noqa: S608
            yield Fault.EVENT_WITHOUT_ITS_RUN, row
        for row in self.query("runs.db", f"SELECT DISTINCT run, unit FROM wishes WHERE {no_unit}"):  # noqa: S608
            yield Fault.WISH_WITHOUT_ITS_UNIT, row
        for row in self.query("runs.db", f"SELECT DISTINCT run, unit FROM steps WHERE {no_unit}"):  # noqa: S608
            yield Fault.STEP_WITHOUT_ITS_UNIT, row
        for run, *unit in [
            *self.query("runs.db", "SELECT id FROM runs WHERE status = 'running'"),
            *self.query("runs.db", "SELECT run, unit FROM units WHERE status = 'running'"),
        ]:
            if run not in self.busy:
                yield Fault.UNIT_INTERRUPTED if unit else Fault.RUN_INTERRUPTED, (run, *unit)

    @cached_property
    def files(self) -> dict[str, Path]:
        """Image files by id."""
        return {path.stem: path for path in own_files(self.store, "images")}

    @cached_property
    def shown(self) -> set[str]:
        """Images that a history names."""
        named: set[str] = set()
        for (images,) in self.query("runs.db", "SELECT DISTINCT images FROM steps WHERE images IS NOT NULL"):
            named.update(map(str, _json(images) or ()))
        return named

    def images(self) -> _Found:
        known: dict[str, int] = {}
        statement = "SELECT image, max(size), min(size) FROM draws GROUP BY image ORDER BY min(rowid)"
        for image, size, least in self.query("bank.db", statement):
            known[image] = size
            path = self.files.get(image)
            if path is None or not path.is_file():
                # An image without a size is to be generated again already.
                if least >= 0:
                    yield Fault.ROW_WITHOUT_A_IMAGE, (image,)
            elif not self._whole(path, image, size):
                yield Fault.IMAGE_DAMAGED, (image, self._name(path))
        if self.deep and checksum_column(self.opened["bank.db"], "draws") != "NULL":
            rows = "SELECT rowid, generator, prompt, seed, image, checksum FROM draws WHERE checksum IS NOT NULL"
            for row, generator, prompt, seed, image, kept in self.query("bank.db", rows):
                if kept != image_checksum(str(generator), str(prompt), seed, str(image)):
                    yield Fault.DRAW_DAMAGED, (row, image)
        if self.busy:
            return
        for image, path in self.files.items():
            if image not in known:
                kept = "runs.db" not in self.opened or image in self.shown
                yield Fault.IMAGE_KEPT if kept else Fault.IMAGE_WITHOUT_A_ROW, (self._name(path),)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.store))

    def _whole(self, path: Path, image: str, size: int) -> bool:
        if path.stat().st_size != size and size >= 0:
            return False
        if self.deep:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == image
        with path.open("rb") as file:
            if file.read(len(PNG_BEGIN)) != PNG_BEGIN:
                return True
            file.seek(-len(PNG_END), 2)
            return file.read() == PNG_END

    def history_images(self) -> _Found:
        here = {image for (image,) in self.query("bank.db", "SELECT DISTINCT image FROM draws")}
        for image in sorted(self.shown - here - self.files.keys()):
            yield Fault.STEP_WITHOUT_ITS_IMAGE, (image,)

    def vectors(self) -> _Found:
        lost = "SELECT rowid, image FROM activations WHERE image NOT IN (SELECT image FROM draws)"
        without = dict(self.query("bank.db", lost))
        for row, image in without.items():
            yield Fault.VECTOR_WITHOUT_A_IMAGE, (row, image)
        lengths: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
        units = units_column(self.opened["bank.db"])
        counted = (
            f"SELECT target, layer, coalesce({units}, length(vector) / 4), count(*) FROM activations"  # noqa: S608
            " GROUP BY 1, 2, 3"
        )
        for target, layer, length, count in self.query("bank.db", counted):
            lengths[target, layer][length or 0] += count
        usual = {key: counter.most_common(1)[0][0] for key, counter in lengths.items()}
        kept = checksum_column(self.opened["bank.db"], "activations") if self.deep else "NULL"
        statement = f"SELECT rowid, image, target, layer, vector, {kept}, {units} FROM activations"  # noqa: S608
        for row, image, target, layer, vector, checksum, whole in self.query("bank.db", statement):
            if row in without:
                continue
            fault = vector_error(image, target, layer, vector, checksum, usual[target, layer], whole)
            # With a checksum only the length of a sparse vector was compared with its units.
            if fault or not (vector or whole) or (whole is not None and sparse_error(vector, whole)):
                yield Fault.VECTOR_UNUSABLE, (row, image)

    def controls(self) -> _Found:
        known = set()
        for (key,) in self.query("bank.db", "SELECT key FROM controls"):
            path = control_path(self.store, key)
            known.add(path.name)
            try:
                labels, (rows, width) = control_shapes(path)
                readable = labels == (rows,)
            except (*UNREADABLE, KeyError):
                readable = False
            row = control_row(self.opened["bank.db"], key) if self.deep else None
            if not readable or (row and read_control(self.store, key, row)[1]):
                yield Fault.CONTROL_WITHOUT_A_FILE, (key, self._name(path))
            elif rows and not self._is_width(key, width):
                yield Fault.CONTROL_OF_ANOTHER_LAYER, (key, self._name(path))
        if not self.busy:
            for path in own_files(self.store, "controls"):
                if path.name not in known:
                    yield Fault.CONTROL_WITHOUT_A_ROW, (self._name(path),)

    def _is_width(self, key: str, width: int) -> bool:
        """Return whether control activations fit the layer in their key, by its images and the runs' units."""
        target, layer = [*key.split("\n"), "", ""][:2]
        usual = stored_width(self.opened["bank.db"], target, layer)
        return usual in {0, width} and self.last_units.get((target, layer), -1) < width

    @cached_property
    def last_units(self) -> dict[tuple[str, str], int]:
        """The largest unit of all runs by target and layer."""
        statement = (
            "SELECT coalesce(json_extract(fingerprints, '$.target'), ''), layer, max(unit) FROM runs"
            " JOIN units ON run = id WHERE json_valid(fingerprints) GROUP BY 1, 2"
        )
        found = self.query("runs.db", statement) if "runs.db" in self.opened else ()
        return {(target, layer): unit for target, layer, unit in found}

    def embeddings(self) -> _Found:
        if self.deep:
            for path in own_files(self.store, "embeddings"):
                if read_embeddings(path) is None:
                    yield Fault.EMBEDDINGS_DAMAGED, (self._name(path),)

    def digests(self) -> _Found:
        # A table of an earlier version has no checksums; it is replaced when it is needed.
        statement = "SELECT path, size, modified, changed, sha256, checksum FROM digests"
        for *state, sha256, kept in self.query("digests.db", statement) if self.deep else ():
            if kept != hash_checksum(tuple(state), str(sha256)):
                yield Fault.DIGEST_DAMAGED, (state[0],)

    def replies(self) -> _Found:
        for row, response in self.query("replies.db", "SELECT rowid, response FROM full_llm_cache"):
            reply = _json(response)
            kept = reply.get("kwargs") if isinstance(reply, dict) else None
            if not (isinstance(kept, dict) and isinstance(kept.get("text"), str)):
                yield Fault.REPLY_UNREADABLE, (row,)

    def checkpoints(self) -> _Found:
        """Compare where the searches are by their checkpoints and by their histories."""
        if self.busy:
            return
        from line_neurons.tools.store.serializer import PlainSerializer

        serde = PlainSerializer()
        status = {
            f"{run}/{unit}": (run, unit, status)
            for run, unit, status in self.query("runs.db", "SELECT run, unit, status FROM units")
        }
        written: dict[tuple[str, int], list[int]] = defaultdict(list)
        steps = "SELECT DISTINCT run, unit, step FROM steps WHERE kind != 'revisit'"
        for run, unit, step in self.query("runs.db", steps):
            written[run, unit].append(step)
        ended = set()
        # Of the columns beside max() SQLite gives those of the same row.
        latest = "SELECT thread_id, max(checkpoint_id), type, checkpoint FROM checkpoints GROUP BY thread_id"
        for thread, _, kind, blob in self.query("checkpoints.db", latest):
            if thread not in status:
                yield Fault.CHECKPOINT_WITHOUT_ITS_UNIT, (thread,)
                continue
            run, unit, now = status[thread]
            try:
                values = serde.loads_typed((kind, blob))["channel_values"]
                step, at_end = int(values.get("step", 0)), values.get("kind") == "end"
            except Exception:
                yield Fault.CHECKPOINT_UNREADABLE, (run, unit)
                continue
            if at_end:
                ended.add((run, unit))
            if now in DONE:
                continue
            history = written[run, unit]
            if len([earlier for earlier in history if earlier < step]) < step:
                yield Fault.HISTORY_BEHIND, (run, unit)
            elif any(later > step for later in history):
                yield Fault.HISTORY_AHEAD, (run, unit, step)
        for run, unit, now in status.values():
            if now in DONE and (run, unit) not in ended:
                yield Fault.NOT_AT_ITS_END, (run, unit)

    def locks(self) -> _Found:
        runs = {run for (run,) in self.query("runs.db", "SELECT id FROM runs")}
        for path in lock_files(self.store):
            if run_of(path) not in runs | set(self.busy) and not path.stem.endswith(".db"):
                yield Fault.LOCK_WITHOUT_ITS_RUN, (self._name(path),)
        for thread, run in self.query("runs.db", "SELECT thread, run FROM leases"):
            if run not in self.busy:
                yield Fault.LEASE_LEFT_BEHIND, (thread,)


@contextmanager
def _translate_errors(store: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreError(
            f"the store {str(store)!r} cannot be read: {error}",
            "check its permissions, or wait for the process that uses it",
        ) from error


def _json(text: object) -> Any:
    try:
        return loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
