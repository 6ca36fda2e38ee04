"""The run store: runs, their units, every step with its evidence, and events."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import DamagedError, StoreError, TakenOverError, UsageError
from line_neurons.agent.near_names import near_names
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.migrations import migrate_schema
from line_neurons.tools.store.records import (
    Run,
    Step,
    Trial,
    Unit,
    decode,
    decode_event,
    decode_trial,
    encode,
    encode_values,
    updated_run,
)
from line_neurons.tools.store.sqlite import transaction, translate_errors

if TYPE_CHECKING:
    from sqlite_utils import Database
    from sqlite_utils.db import Table

SCHEMA_NUMBER = 8
"""Number of the last migration of ``schema``, which is not imported to open a store read-only."""

_TRIALS_AT_ONCE = 1000
_STEP = [field.name for field in fields(Step)]
# Written for every step of every unit; the general upsert of sqlite-utils took 7 % of an instant batch's time.
_PUT_STEP = (
    f"INSERT INTO steps ({', '.join(_STEP)}) VALUES ({', '.join(f':{name}' for name in _STEP)})"  # noqa: S608
    " ON CONFLICT (run, unit, step, attempt) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _STEP)
)


def default_store() -> Path:
    """Return the user's data folder for LINE, the store unless another is named."""
    import platformdirs

    return platformdirs.user_data_path("line-neurons")


def has_runs(store: Path) -> bool:
    """Return whether a store has runs, or had; a database without tables holds none.

    Raises:
        StoreError: there is a database that cannot be read.
    """
    path = store / "runs.db"
    if not path.is_file():
        return False
    with translate_errors(path), closing(databases.open_readonly(path)) as db:
        return db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table'").fetchone() is not None


def open_store(
    store: Path, *, read_only: bool = True, remedy: str = "start one with `line demo` or `line explain`"
) -> RunStore:
    """Open the runs of a store that has some; without ``read_only`` it is migrated.

    Raises:
        UsageError: it has no runs.
    """
    if not has_runs(store):
        raise UsageError(f"there are no runs in {store}", remedy)
    return RunStore(store, read_only=read_only)


def find_unit(run: Run, units: Sequence[Unit], which: str) -> Unit:
    """Find a unit of a run by its number or class name.

    Raises:
        UsageError: the run has no such unit.
    """
    number = int(which) if len(which) < 20 and which.isascii() and which.isdigit() else None
    for unit in units:
        if unit.unit == number or (unit.name and unit.name.lower() == which.lower()):
            return unit
    known = ", ".join(f"{unit.unit} ({unit.name})" if unit.name else str(unit.unit) for unit in units[:12])
    near = near_names(which, [unit.name for unit in units if unit.name]) if number is None else ""
    raise UsageError(f"run {run.id} has no unit {which!r:.60}", f"{near + '; ' if near else ''}units: {known}")


class RunStore:
    """The database ``runs.db`` of a store; one writer at a time, any number of readers.

    Args:
        root: the store's folder; made if it does not exist, unless ``read_only``.
        read_only: change nothing, and do not migrate.

    Raises:
        StoreError: the folder cannot be used, or a newer version made the store.
    """

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self.path = root / "runs.db"
        self._lock = threading.RLock()
        self._tokens: dict[str, str] = {}
        with translate_errors(self.path):

            def check(db: sqlite3.Connection) -> None:
                _refuse_newer(db, self.path)

            if read_only:
                self._conn = connection = databases.open_readonly(self.path, check_same_thread=False)
                check(connection)
            else:
                root.mkdir(parents=True, exist_ok=True)
                self._conn = connection = databases.connect(self.path, check, check_same_thread=False)
                from line_neurons.tools.store.schema import SCHEMA

                migrate_schema(SCHEMA, self._db, self.path, check)
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute("PRAGMA foreign_keys=ON")

    @cached_property
    def _db(self) -> Database:
        """Lazy: importing sqlite_utils slows read-only commands."""
        from sqlite_utils import Database

        return Database(self._conn)

    def close(self) -> None:
        """Close the database."""
        self._conn.close()

    def guard(self, run: str, token: str | None) -> None:
        """Refuse from now on writes to ``run`` unless its lease has this token; None: write freely."""
        if token is None:
            self._tokens.pop(run, None)
        else:
            self._tokens[run] = token

    def add_run(self, run: Run, units: Sequence[Unit]) -> None:
        """Write a run with its units, all or nothing."""
        with self._writing():
            self._table("runs").insert(encode(run))
            self._table("units").insert_all([encode(unit) for unit in units])

    def update_run(self, run: str, **changes: Any) -> None:
        """Change columns of a run."""
        with self._writing(run):
            self._table("runs").update(run, encode_values(changes))

    def set_status(self, run: str, status: str, *, error: str = "", concluded: bool = False) -> None:
        """Change the state of a run; ``concluded``: nothing of it is left to do."""
        self.update_run(run, status=status, error=error, finished=time.time() if concluded else None)

    def update_unit(self, run: str, unit: int, **changes: Any) -> None:
        """Change columns of a unit."""
        with self._writing(run):
            self._table("units").update((run, unit), encode_values(changes))

    def put_step(self, step: Step) -> None:
        """Write an entry of a history; the same (run, unit, step, attempt) again replaces it."""
        self.put_steps([step])

    def put_steps(self, steps: Sequence[Step]) -> None:
        """Write entries of a history, all or nothing; see ``put_step``."""
        rows = [encode(step) | {"created": step.created or time.time()} for step in steps]
        with self._writing(*{step.run for step in steps}):
            self._conn.executemany(_PUT_STEP, rows)

    def drop_steps(self, run: str, kind: str, unit: int | None = None) -> None:
        """Remove the entries of one kind from the histories of a run's units, or of one of them."""
        with self._writing(run):
            self._table("steps").delete_where(
                "run = :run and kind = :kind and coalesce(unit = :unit, 1)",
                {"run": run, "kind": kind, "unit": unit},
            )

    def drop_history(self, run: str, unit: int) -> None:
        """Remove all entries of a unit's history."""
        with self._writing(run):
            self._table("steps").delete_where("run = ? and unit = ?", [run, unit])

    @contextmanager
    def atomic(self, *runs: str) -> Iterator[sqlite3.Connection]:
        """Write what the body writes to ``runs`` all together or, if it raises, not at all; other writers wait.

        Raises:
            TakenOverError: another process has taken over one of them; see ``guard``.
        """
        with self._writing(*runs):
            yield self._conn

    def rows(self, statement: str, *values: Any, needs: str = "") -> list[Any]:
        """Return the rows of a query, for ``tools.store`` and bundles only.

        Without the ``table.column`` of ``needs``, which an earlier schema may lack, there are none.
        """
        table, _, column = needs.partition(".")
        if needs and column not in self.columns(table):
            return []
        with self._reading():
            return self._conn.execute(statement, values).fetchall()

    def columns(self, table: str) -> frozenset[str]:
        """Return the columns of a table; none of a table that an earlier schema lacks."""
        return frozenset(name for (name,) in self.rows("SELECT name FROM pragma_table_info(?)", table))

    @contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """Read everything in the body as of its first query; for a read-only store."""
        self.rows("BEGIN")
        try:
            yield
        finally:
            self.rows("ROLLBACK")

    def version(self) -> int:
        """Return a number that differs once any other connection has changed the database."""
        return int(self.rows("PRAGMA data_version")[0][0])

    def add_event(self, run: str, kind: str, unit: int | None = None, **detail: Any) -> None:
        """Append an event of a run."""
        row = {"run": run, "unit": unit, "kind": kind, "created": time.time(), "detail": json.dumps(detail)}
        with self._writing(run):
            self._table("events").insert(row)

    def events(self, run: str, after: int = 0) -> list[dict[str, Any]]:
        """Return the events of a run with an id above ``after``, oldest first."""
        with self._reading():
            rows = self._found("events WHERE run = ? AND id > ? ORDER BY id", run, after)
            return [{**row, "detail": decode_event(row)} for row in rows]

    def runs(self) -> list[Run]:
        """Return all runs, newest first.

        Raises:
            DamagedError: a row holds an impossible value; so from every method that reads.
        """
        # Not by the time: a clock may be set back.
        with self._reading():
            return [updated_run(decode(Run, row)) for row in self._found("runs ORDER BY rowid DESC")]

    def names(self) -> list[str]:
        """Return the ids of all runs, newest first."""
        with self._reading():
            return [
                str(name) for (name,) in self._conn.execute("SELECT id FROM runs ORDER BY rowid DESC").fetchall()
            ]

    def run(self, name: str) -> Run:
        """Return a run by its id or by a start of it that no other run shares.

        Raises:
            UsageError: there is no such run, or several.
        """
        names = self.names()
        found = [known for known in names if known == name] or [known for known in names if known.startswith(name)]
        if len(found) == 1 and name:
            return self.run_by_id(found[0])
        known = ", ".join((found or names)[:5]) or "none yet"
        near = "" if found else near_names(name, names)
        problem = "matches several runs" if found else "is not a run of this store"
        raise UsageError(f"{name!r:.60} {problem}", f"{near or f'runs: {known}'}; `line runs` lists all")

    def run_by_id(self, run: str) -> Run:
        """Return a run by the whole id that this store gave, without reading those of the others."""
        with self._reading():
            rows = self._found("runs WHERE id = ?", run)
        if not rows:
            raise DamagedError(
                f"runs.db in {str(self.path.parent)!r} is damaged: its table and its index of runs differ",
                "put a backup of the file in its place, or name another folder with --store",
            )
        return updated_run(decode(Run, rows[0]))

    def units(self, run: str) -> list[Unit]:
        """Return the units of a run, in the order of their selection."""
        with self._reading():
            rows = self._found("units WHERE run = ? ORDER BY position", run)
            return [decode(Unit, row) for row in rows]

    def unit(self, run: str, unit: int) -> Unit | None:
        """Return one unit of a run; None if the run has no such unit."""
        with self._reading():
            rows = self._found("units WHERE run = ? AND unit = ?", run, unit)
            return next((decode(Unit, row) for row in rows), None)

    def steps(self, run: str, unit: int) -> list[Step]:
        """Return the history of a unit, in order."""
        with self._reading():
            rows = self._found("steps WHERE run = ? AND unit = ? ORDER BY step, attempt", run, unit)
            return [decode(Step, row) for row in rows]

    def trials(self, run: str, unit: int | None = None) -> Iterator[Trial]:
        """Yield the entries of the searches of a run's units, by unit and in order, in chunks of rows."""
        statement = (
            "SELECT unit, step, attempt, kind, concept, score, origin, images FROM steps"
            " WHERE run = :run AND kind != 'revisit' AND unit <= :until"
            " AND (unit, step, attempt) > (:unit, :step, :attempt) ORDER BY unit, step, attempt LIMIT :limit"
        )
        fixed = {"run": run, "until": 2**62 if unit is None else unit, "limit": _TRIALS_AT_ONCE}
        last = (-1 if unit is None else unit, -1, -1)
        while True:
            place = dict(zip(("unit", "step", "attempt"), last, strict=True))
            with self._reading():
                rows = self._conn.execute(statement, fixed | place).fetchall()
            yield from (decode_trial(run, row) for row in rows)
            if len(rows) < _TRIALS_AT_ONCE:
                return
            last = rows[-1][:3]

    def progress(self, run: str) -> tuple[int, int]:
        """Return the number of units of a run that are done and did not fail, and of all its units."""
        counts = self.states(run)
        return sum(counts.get(state, 0) for state in DONE), sum(counts.values())

    def states(self, run: str) -> dict[str, int]:
        """Count the units of a run by state."""
        statement = "SELECT status, count(*) FROM units WHERE run = ? GROUP BY status ORDER BY status"
        with self._reading():
            return dict(self._conn.execute(statement, [run]).fetchall())

    def _table(self, name: str) -> Table:
        return self._db.table(name)

    def _found(self, where: str, *values: Any) -> list[dict[str, Any]]:
        rows = self._conn.execute(f"SELECT * FROM {where}", values)  # noqa: S608
        names = [column[0] for column in rows.description]
        return [dict(zip(names, row, strict=True)) for row in rows]

    @contextmanager
    def _writing(self, *runs: str) -> Iterator[None]:
        with (
            self._lock,
            translate_errors(self.path),
            # An inner write belongs to the outer transaction.
            nullcontext() if self._conn.in_transaction else transaction(self._conn),
        ):
            for run in runs:
                self._check(run)
            yield

    def _check(self, run: str) -> None:
        token = self._tokens.get(run)
        if token is None:
            return
        statement = "SELECT token, process, host FROM leases WHERE thread = ?"
        now = self._conn.execute(statement, [run]).fetchone()
        if now is None or now[0] != token:
            other = f"process {now[1]} on {now[2]}" if now else "another process, which has finished"
            raise TakenOverError(
                f"run {run} was taken over by {other} while this process had no heartbeat",
                "nothing more is written here; see `line runs`",
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock, translate_errors(self.path):
            yield


def _refuse_newer(db: sqlite3.Connection, path: Path) -> None:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = '_sqlite_migrations'").fetchone():
        return
    names = db.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = 'line-runs'").fetchall()
    known = {f"m{number:03}" for number in range(1, SCHEMA_NUMBER + 1)}
    newer = sorted(str(name) for (name,) in names if str(name)[:4] not in known)
    if newer:
        raise StoreError(
            f"the store {str(path)!r} was made by a newer version of line-neurons ({newer[-1]})",
            "upgrade line-neurons, or name another folder with --store",
        )
