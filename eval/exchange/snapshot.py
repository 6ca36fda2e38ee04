"""A run as it was at one moment, read while others may go on with it."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.leases import lease_status
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.runs import RunStore, open_store
from line_neurons.tools.store.sqlite import open_readonly, translate_errors


class ImageOrigin(NamedTuple):
    """How an image was drawn, and what the unit made of it; None where the store does not know."""

    prompt: str | None
    seed: int | None
    generator: str | None
    activation: float | None


@dataclass(frozen=True)
class Snapshot:
    """A run as it was when it was opened; images are never changed, so they may be read as they are now.

    Args:
        store: the store's folder.
        runs: its run store, of which nothing newer is seen.
        run: the run; one that nobody works on is not ``running``, whatever a killed process wrote last.
        worked_on: a process worked on it.
        checkpoints: its checkpoints likewise; None if the store has none.
        bank: its images' database; None if the store has none.
    """

    store: Path
    runs: RunStore
    run: Run
    worked_on: bool
    checkpoints: sqlite3.Connection | None
    bank: sqlite3.Connection | None

    def units(self) -> list[Unit]:
        """The units in the order in which they were asked for."""
        return [
            replace(unit, status="interrupted") if unit.status == "running" and not self.worked_on else unit
            for unit in self.runs.units(self.run.id)
        ]

    def drawn(self, images: Sequence[str], unit: int) -> Mapping[str, ImageOrigin]:
        """How images were drawn, and a unit's activation on each, by id."""
        if self.bank is None:
            return {}
        target = str(self.run.fingerprints.get("target", ""))
        statement = (
            "SELECT wanted.value, prompt, seed, generator, substr(vector, ?, 4) FROM json_each(?) AS wanted"
            " LEFT JOIN draws ON draws.rowid = (SELECT min(rowid) FROM draws WHERE image = wanted.value)"
            " LEFT JOIN activations AS kept"
            " ON kept.image = wanted.value AND kept.target = ? AND kept.layer = ?"
        )
        wanted = json.dumps(list(dict.fromkeys(images)))
        with translate_errors(self.store / "bank.db"):
            rows = self.bank.execute(statement, (4 * unit + 1, wanted, target, self.run.layer)).fetchall()
        return {row[0]: ImageOrigin(row[1], row[2], row[3], _number(row[4])) for row in rows}


def _number(four: object) -> float | None:
    if not isinstance(four, bytes) or len(four) != 4:
        return None
    value: float = struct.unpack("<f", four)[0]
    return value if isfinite(value) else None


@contextmanager
def snapshot(store: Path, run: str) -> Iterator[Snapshot]:
    """A run as it is now, for the body; whoever works on it is held up for a moment only.

    Args:
        store: the store's folder; it is only looked at.
        run: the run, or the beginning of its name.

    Raises:
        UsageError: there is no such store or run.
        StoreError: the store cannot be read.
    """
    with ExitStack() as stack:
        runs = stack.enter_context(closing(open_store(store, remedy="name the store with --store")))
        threads, bank = (_opened(store / name, stack) for name in ("checkpoints.db", "bank.db"))
        with _still(store / "runs.db"):
            # What is read first fixes what is seen until the end.
            runs.rows("BEGIN")
            found = runs.run(run)
            if threads is not None:
                with translate_errors(store / "checkpoints.db"):
                    threads.execute("BEGIN")
                    threads.execute("SELECT count(*) FROM sqlite_master").fetchone()
        held = lease_status(runs).get(found.id)
        worked_on = held is not None and not held.stale
        if found.status == "running" and not worked_on:
            found = replace(found, status="interrupted")
        yield Snapshot(store, runs, found, worked_on, threads, bank)


def _opened(path: Path, stack: ExitStack) -> sqlite3.Connection | None:
    if not path.is_file():
        return None
    with translate_errors(path):
        return stack.enter_context(closing(open_readonly(path)))


@contextmanager
def _still(path: Path) -> Iterator[None]:
    """Let nobody write to a run or its checkpoints for the body: both are written within transactions of a file.

    In a store that cannot be written nobody is held up; there a search may seem a step behind its history, as a
    killed process leaves it too.
    """
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        yield
        return
    with (
        translate_errors(path),
        closing(sqlite3.connect(path, timeout=databases.BUSY_TIMEOUT, isolation_level=None)) as db,
    ):
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            db.execute("ROLLBACK")
