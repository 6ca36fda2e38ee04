"""Where a process can be made to kill itself: named functions of the product, patched in a child process."""

from __future__ import annotations

import functools
import io
import os
import signal
import sqlite3
import threading
from collections import Counter
from contextlib import contextmanager

from langgraph.checkpoint.sqlite import SqliteSaver

from line_neurons.graphs.loop import nodes
from line_neurons.graphs.runs import checkpoints, revisit
from line_neurons.graphs.runs import lifecycle as runs
from line_neurons.tools.cache.database import CacheDatabase
from line_neurons.tools.cache.image_cache import ImageCache
from line_neurons.tools.language_models.reply_cache import ReplyCache
from line_neurons.tools.store import schema as run_schema
from line_neurons.tools.store.runs import RunStore

NODES = ("init", "propose", "synthesize", "activate", "score", "update", "summarize")
PLACES = (
    *(f"{node}, {when}" for node in NODES for when in ("before its work", "after its work")),
    "image, half written",
    "image, before it is renamed",
    "image, before its row",
    "image, after its row",
    "bank, in a transaction",
    "control set, half written",
    "control set, before its row",
    "reply, before it is kept",
    "reply, after it is kept",
    "checkpoint, before its commit",
    "checkpoint, after its commit",
    "checkpoints, pruned",
    "run store, in a transaction",
    "run store, after a transaction",
    "revisit, half way",
    "revisit, before its commit",
    "revisit, after its commit",
    "end of the run, before it is written",
)
UPGRADE = {
    "copy of a database, half written": 3,
    "migration, half way": 6,
    "migration, before its commit": 2,
}
"""Places in the upgrade of a store of the first schema, with the call at which to die."""


class Killer:
    """Counts calls of each place and ends the work at one of them: by SIGKILL, or as Ctrl-C does.

    Args:
        note: writes a line that survives the process.
        place: where to die; None for the ``call``-th call of any place.
        call: at which call there, from 1; 0 for never.
        drain: asks the work to stop, in place of the kill.
    """

    def __init__(self, note, place=None, call=0, drain=None):
        self._note = note
        self._place = place
        self._call = call
        self._drain = drain
        self._lock = threading.Lock()
        self.calls = Counter()

    def reached(self, place):
        with self._lock:
            self.calls[place] += 1
            count = self.calls.total() if self._place is None else self.calls[place]
            if count == self._call and self._place in {None, place}:
                if self._drain:
                    self._note(drained=place)
                    self._drain()
                    return
                self._note(killed=place)
                os.kill(os.getpid(), signal.SIGKILL)

    def install(self):
        """Patch the product; a name that it no longer has raises here."""
        for node in NODES:
            self._around(nodes, node, f"{node}, before its work", f"{node}, after its work")
        self._files()
        self._around(ReplyCache, "put", "reply, before it is kept", "reply, after it is kept")
        self._checkpoints()
        self._around(checkpoints, "prune", None, "checkpoints, pruned")
        self._transactions(RunStore, "_writing", "run store, in a transaction", "run store, after a transaction")
        self._revisits()
        self._around(runs, "_conclude", "end of the run, before it is written", None)
        self._migrations()

    def _around(self, owner, name, before, after):
        real = getattr(owner, name)

        @functools.wraps(real)
        def patched(*args, **kwargs):
            if before:
                self.reached(before)
            result = real(*args, **kwargs)
            if after:
                self.reached(after)
            return result

        setattr(owner, name, patched)

    def _transactions(self, owner, name, inside, after):
        real = getattr(owner, name)

        @functools.wraps(real)
        @contextmanager
        def patched(*args, **kwargs):
            with real(*args, **kwargs) as given:
                yield given
                self.reached(inside)
            if after:
                self.reached(after)

        setattr(owner, name, patched)

    def _files(self):
        real = CacheDatabase.write

        @functools.wraps(real)
        def patched(folder, path, write, **options):
            what = "image" if path.suffix == ".png" else "control set"

            def interrupted(file):
                content = io.BytesIO()
                write(content)
                whole = content.getvalue()
                file.write(whole[: len(whole) // 2])
                file.flush()
                self.reached(f"{what}, half written")
                file.write(whole[len(whole) // 2 :])
                file.flush()
                if what == "image":
                    self.reached("image, before it is renamed")

            result = real(folder, path, interrupted, **options)
            self.reached(f"{what}, before its row")
            return result

        CacheDatabase.write = patched
        self._transactions(CacheDatabase, "transaction", "bank, in a transaction", None)
        self._around(ImageCache, "_keep", None, "image, after its row")

    def _checkpoints(self):
        within = threading.local()
        put = SqliteSaver.put

        @functools.wraps(put)
        def patched(*args, **kwargs):
            within.put = True
            result = put(*args, **kwargs)
            within.put = False
            self.reached("checkpoint, after its commit")
            return result

        SqliteSaver.put = patched
        cursor = SqliteSaver.cursor

        @functools.wraps(cursor)
        @contextmanager
        def committing(saver, transaction=True):
            with cursor(saver, transaction) as given:
                yield given
                if transaction and getattr(within, "put", False):
                    self.reached("checkpoint, before its commit")

        SqliteSaver.cursor = committing

    def _revisits(self):
        real, update = revisit._write, RunStore.update_unit
        inside = threading.local()

        @functools.wraps(real)
        def writing(*args):
            inside.units = 0
            real(*args)
            del inside.units
            self.reached("revisit, after its commit")

        @functools.wraps(update)
        def updating(*args, **kwargs):
            update(*args, **kwargs)
            if hasattr(inside, "units"):
                inside.units += 1
                if inside.units == 2:
                    self.reached("revisit, half way")

        revisit._write, RunStore.update_unit = writing, updating
        atomic = RunStore.atomic

        @functools.wraps(atomic)
        @contextmanager
        def ending(*args):
            with atomic(*args) as given:
                yield given
                if hasattr(inside, "units"):
                    self.reached("revisit, before its commit")

        RunStore.atomic = ending

    def _migrations(self):
        """Every migration of the runs, at each change and when all are made; and the copy that is made before."""
        for migration in run_schema.SCHEMA._migrations:
            migration.fn = self._migrating(migration.fn)
        connect, reached = sqlite3.connect, self.reached

        class Copied(sqlite3.Connection):
            def backup(self, target):
                super().backup(target, pages=1, progress=lambda *_: reached("copy of a database, half written"))

        sqlite3.connect = lambda *args, **options: connect(*args, **{"factory": Copied, **options})

    def _migrating(self, real):
        def migrating(db):
            execute = db.execute

            def executing(statement, *args):
                result = execute(statement, *args)
                if statement.lstrip().upper().startswith(("ALTER", "CREATE")):
                    self.reached("migration, half way")
                return result

            db.execute = executing
            real(db)
            del db.execute
            self.reached("migration, before its commit")

        return migrating
