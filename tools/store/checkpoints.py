"""Checkpoints in ``checkpoints.db``, read back as plain data; only the holder of a run may write its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP
from langgraph.checkpoint.sqlite import SqliteSaver

from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.migrations import refuse_newer
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.serializer import PlainSerializer
from line_neurons.tools.store.sqlite import translate_errors

PRUNE = tuple(
    f"DELETE FROM {table} WHERE thread_id = ?1"  # noqa: S608 - no text from outside
    " AND checkpoint_id < (SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = ?1)"
    for table in ("writes", "checkpoints")
)
"""The statements that leave a thread its last checkpoint alone."""


class Checkpoints(SqliteSaver):
    """The database ``checkpoints.db`` of a store.

    Raises:
        StoreError: it cannot be used; so from each method.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with translate_errors(path):
            connection = databases.connect(path, lambda db: refuse_newer(db, path), check_same_thread=False)
            super().__init__(connection, serde=PlainSerializer())
            try:
                # A killed process loses nothing; after a power cut the last steps are done again.
                connection.execute("PRAGMA synchronous=NORMAL")
                self.setup()
            except BaseException:
                connection.close()
                raise

    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        """See ``SqliteSaver.cursor``, through which all that reads and writes goes."""
        with translate_errors(self._path), super().cursor(transaction) as cursor:
            yield cursor

    @contextmanager
    def atomic(self) -> Iterator[sqlite3.Connection]:
        """Write all that the body writes, or nothing: ``cursor`` commits what came before an error."""
        with translate_errors(self._path), self.conn as db:
            yield db


class LeaseCheckedSaver(SqliteSaver):
    """The checkpoints of a run, written within a transaction of the run store.

    Another process cannot take over the run before what is written is there; afterwards nothing more is written.
    """

    def __init__(self, saver: SqliteSaver, runs: RunStore, run: str) -> None:
        super().__init__(saver.conn, serde=saver.serde)
        self._saver = saver
        self._runs = runs
        self._run = run

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep interrupts and errors of a node; see ``SqliteSaver.put_writes``.

        Results are for nodes that run beside others, to spare them running again with those. Here one node runs at
        a time, and the checkpoint with its result follows.
        """
        kept = [write for write in writes if write[0] in WRITES_IDX_MAP]
        if kept:
            super().put_writes(config, kept, task_id, task_path)

    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        """See ``SqliteSaver.cursor``.

        Raises:
            TakenOverError: another process has taken over the run.
        """
        fence = self._runs.atomic(self._run) if transaction else nullcontext()
        with fence, self._saver.cursor(transaction) as cursor:
            yield cursor


@contextmanager
def open_checkpoints(store: Path) -> Iterator[Checkpoints]:
    """Open the checkpoints of a store for the body.

    Raises:
        StoreError: they cannot be used.
    """
    saver = Checkpoints(store / "checkpoints.db")
    with closing(saver.conn):
        yield saver


def thread_config(run: str, unit: int) -> RunnableConfig:
    """Return LangGraph's name of a unit's checkpoints."""
    return {"configurable": {"thread_id": f"{run}/{unit}"}}


def prune_unit(saver: SqliteSaver, run: str, unit: int) -> None:
    """Remove all checkpoints of a unit but the last.

    Raises:
        TakenOverError: another process has taken over the run.
        StoreError: the database cannot be used.
    """
    with saver.cursor() as cursor:
        for statement in PRUNE:
            cursor.execute(statement, [f"{run}/{unit}"])


def forget_run(db: sqlite3.Connection, run: str) -> None:
    """Remove the checkpoints of all units of a run, within the transaction of the caller."""
    for table in ("checkpoints", "writes"):
        # The names of its threads are those between: "0" comes after "/".
        db.execute(f"DELETE FROM {table} WHERE thread_id > ? AND thread_id < ?", [f"{run}/", f"{run}0"])  # noqa: S608
