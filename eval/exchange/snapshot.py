"""A consistent view of a run at one moment, while other processes may continue it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from line_neurons.tools.cache.reader import finite_float32
from line_neurons.tools.spreads import Spreads
from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.leases import lease_status
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.runs import RunStore, open_store
from line_neurons.tools.store.sqlite import open_readonly, translate_errors


class ImageOrigin(NamedTuple):
    """Prompt, seed and generator of an image, and the unit's activation on it; None where unknown."""

    prompt: str | None
    seed: int | None
    generator: str | None
    activation: float | None


@dataclass(frozen=True)
class Snapshot:
    """A run at the moment it was opened; image files never change, so they are read later.

    Args:
        run: the run; without a running process its status is not ``running``, whatever a killed one wrote last.
        checkpoints: its checkpoints, read in one transaction; None if the store has none.
        bank: the cache's database; None if the store has none.
    """

    store: Path
    runs: RunStore
    run: Run
    worked_on: bool
    checkpoints: sqlite3.Connection | None
    bank: sqlite3.Connection | None
    spreads: Spreads

    def units(self) -> list[Unit]:
        """Return the units in the order of the run."""
        return [
            replace(unit, status="interrupted") if unit.status == "running" and not self.worked_on else unit
            for unit in self.runs.units(self.run.id)
        ]

    def image_origins(self, images: Sequence[str], unit: int) -> Mapping[str, ImageOrigin]:
        """Return how images were generated, and a unit's activation on each, by id."""
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
        return {row[0]: ImageOrigin(row[1], row[2], row[3], finite_float32(row[4])) for row in rows}


@contextmanager
def open_snapshot(store: Path, run: str) -> Iterator[Snapshot]:
    """Open a run at this moment, for the body; processes that write to it wait for a moment only.

    Args:
        store: the store's folder, opened read-only.
        run: the run, or the beginning of its name.

    Raises:
        UsageError: there is no such store or run.
        StoreError: the store cannot be read.
    """
    with ExitStack() as stack:
        runs = stack.enter_context(closing(open_store(store, remedy="name the store with --store")))
        threads, bank = (_opened(store / name, stack) for name in ("checkpoints.db", "bank.db"))
        with _still(store / "runs.db"):
            # The first read fixes the view of the transaction.
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
        yield Snapshot(store, runs, found, worked_on, threads, bank, Spreads(store, found))


def _opened(path: Path, stack: ExitStack) -> sqlite3.Connection | None:
    if not path.is_file():
        return None
    with translate_errors(path):
        return stack.enter_context(closing(open_readonly(path)))


@contextmanager
def _still(path: Path) -> Iterator[None]:
    """Block writes to runs and checkpoints for the body: both are within transactions of this file.

    In a store that cannot be written nothing is blocked; there the checkpoints may be a step behind the history,
    as a killed process leaves them too.
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
