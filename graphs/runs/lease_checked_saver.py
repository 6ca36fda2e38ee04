"""Checkpoints that only the holder of a run may write."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from langgraph.checkpoint.sqlite import SqliteSaver

from line_neurons.tools.store.runs import RunStore


class LeaseCheckedSaver(SqliteSaver):
    """The checkpoints of a run, written within a transaction of the run store.

    Another process cannot take over the run before what is written is there; afterwards nothing more is written.

    Args:
        saver: the store's checkpoints.
        runs: the run store.
        run: id of the run.
    """

    def __init__(self, saver: SqliteSaver, runs: RunStore, run: str) -> None:
        super().__init__(saver.conn, serde=saver.serde)
        self._saver = saver
        self._runs = runs
        self._run = run

    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        """See ``SqliteSaver.cursor``.

        Raises:
            TakenOverError: another process has taken over the run.
        """
        fence = self._runs.atomic(self._run) if transaction else nullcontext()
        with fence, self._saver.cursor(transaction) as cursor:
            yield cursor
