"""Repair a store: only what can be regenerated is removed, after each database was copied."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from line_neurons.agent.errors import StoreError, UsageError
from line_neurons.tools.doctor.faults import FAULTS, Fault, Problem
from line_neurons.tools.doctor.recover import recover
from line_neurons.tools.doctor.store import active_runs, check
from line_neurons.tools.store import sqlite as databases
from line_neurons.tools.store.locks import exclusive_lock, file_lock, lock_files
from line_neurons.tools.store.paths import refuse_links

_MAX_ROUNDS = 3

_Statements = Sequence[tuple[str, str]]
"""Database, and the statement to execute there for each item."""

_RESTART_UNIT: _Statements = (
    ("checkpoints.db", "DELETE FROM checkpoints WHERE thread_id = ?1 || '/' || ?2"),
    ("checkpoints.db", "DELETE FROM writes WHERE thread_id = ?1 || '/' || ?2"),
    ("runs.db", "DELETE FROM steps WHERE run = ?1 AND unit = ?2"),
    ("runs.db", "UPDATE units SET status = 'interrupted' WHERE run = ?1 AND unit = ?2 AND status != 'failed'"),
    # A run that counts as finished would not be resumed.
    ("runs.db", "UPDATE runs SET status = 'interrupted', finished = NULL WHERE id = ?1"),
)
# The cache takes an image without a size for corrupt, and generates it again.
_REGENERATE: _Statements = (("bank.db", "UPDATE draws SET size = -1 WHERE image = ?1"),)
_RECOMPUTE: _Statements = (("bank.db", "DELETE FROM activations WHERE rowid = ?1"),)
_FORGET_CONTROL: _Statements = (("bank.db", "DELETE FROM controls WHERE key = ?1"),)
_FORGET_THREAD: _Statements = (
    ("checkpoints.db", "DELETE FROM checkpoints WHERE thread_id = ?1"),
    ("checkpoints.db", "DELETE FROM writes WHERE thread_id = ?1"),
)
_STATEMENTS: dict[Fault, _Statements] = {
    Fault.WISH_WITHOUT_ITS_UNIT: (("runs.db", "DELETE FROM wishes WHERE run = ?1 AND unit = ?2"),),
    Fault.STEP_WITHOUT_ITS_UNIT: (("runs.db", "DELETE FROM steps WHERE run = ?1 AND unit = ?2"),),
    Fault.EVENT_WITHOUT_ITS_RUN: (("runs.db", "DELETE FROM events WHERE id = ?1"),),
    Fault.UNIT_WITHOUT_ITS_RUN: (("runs.db", "DELETE FROM units WHERE run = ?1 AND unit = ?2"),),
    Fault.LEASE_LEFT_BEHIND: (("runs.db", "DELETE FROM leases WHERE thread = ?1"),),
    Fault.RUN_INTERRUPTED: (("runs.db", "UPDATE runs SET status = 'interrupted' WHERE id = ?1"),),
    Fault.UNIT_INTERRUPTED: (("runs.db", "UPDATE units SET status = 'interrupted' WHERE run = ?1 AND unit = ?2"),),
    Fault.ROW_WITHOUT_A_IMAGE: _REGENERATE,
    Fault.IMAGE_DAMAGED: _REGENERATE,
    Fault.DRAW_DAMAGED: (("bank.db", "DELETE FROM draws WHERE rowid = ?1"),),
    Fault.VECTOR_WITHOUT_A_IMAGE: _RECOMPUTE,
    Fault.VECTOR_UNUSABLE: _RECOMPUTE,
    Fault.CONTROL_WITHOUT_A_FILE: _FORGET_CONTROL,
    Fault.CONTROL_OF_ANOTHER_LAYER: _FORGET_CONTROL,
    Fault.DIGEST_DAMAGED: (("digests.db", "DELETE FROM digests WHERE path = ?1"),),
    Fault.REPLY_UNREADABLE: (("replies.db", "DELETE FROM full_llm_cache WHERE rowid = ?1"),),
    Fault.CHECKPOINT_WITHOUT_ITS_UNIT: _FORGET_THREAD,
    Fault.CHECKPOINT_UNREADABLE: _RESTART_UNIT,
    Fault.HISTORY_BEHIND: _RESTART_UNIT,
    Fault.HISTORY_AHEAD: (("runs.db", "DELETE FROM steps WHERE run = ?1 AND unit = ?2 AND step > ?3"),),
}
# Which value of an item is a file to remove.
_FILES: dict[Fault, int] = {
    Fault.LEFTOVER: 0,
    Fault.IMAGE_WITHOUT_A_ROW: 0,
    Fault.IMAGE_DAMAGED: 1,
    Fault.CONTROL_WITHOUT_A_FILE: 1,
    Fault.CONTROL_OF_ANOTHER_LAYER: 1,
    Fault.CONTROL_WITHOUT_A_ROW: 0,
    Fault.EMBEDDINGS_DAMAGED: 0,
    Fault.LOCK_WITHOUT_ITS_RUN: 0,
}


def repair(
    store: Path, *, deep: bool = False, on_repair: Callable[[str], None] = lambda line: None
) -> list[Problem]:
    """Repair what can be repaired, while no process uses the store.

    Args:
        deep: see ``check``.

    Returns:
        what is left: what cannot be repaired, or need not be.

    Raises:
        UsageError: a process uses the store.
        StoreError: the store cannot be written.
    """
    refuse_links(store)
    with ExitStack() as stack:
        try:
            keep_others_out(store, stack)
            copied: set[str] = set()
            for _ in range(_MAX_ROUNDS):
                # Repairing one fault may reveal another.
                found = [problem for problem in check(store, deep=deep, busy=()) if FAULTS[problem.kind].repair]
                if not found:
                    break
                for problem in found:
                    _repair(store, problem, copied, on_repair)
            return check(store, deep=deep, busy=())
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"the store {str(store)!r} cannot be repaired: {error}",
                "check that it is writable and has free space, then repair it again; what is repaired stays so",
            ) from error


def keep_others_out(store: Path, stack: ExitStack) -> None:
    """Lock a store exclusively until the stack is left.

    Raises:
        UsageError: a process uses it.
        OSError: the store cannot be written.
    """

    def refusal(holder: str) -> UsageError:
        return UsageError(f"the store {str(store)!r} is in use: {holder}", "wait for it, or stop it first")

    if busy := active_runs(store):
        raise refusal(f"run {', '.join(busy[:3])}")
    stack.enter_context(exclusive_lock(store))
    # A writer that generates no images holds only its run.
    for path in lock_files(store):
        stack.enter_context(file_lock(path, refusal=refusal))


def _repair(store: Path, problem: Problem, copied: set[str], on_repair: Callable[[str], None]) -> None:
    if problem.kind == Fault.DATABASE_DAMAGED:
        for name, _ in problem.items:
            on_repair(recover(store / name))
        return
    if problem.kind not in _STATEMENTS and problem.kind not in _FILES:
        raise ValueError(f"nothing repairs {problem.kind!r}")
    statements = _STATEMENTS.get(problem.kind, ())
    for name in dict.fromkeys(name for name, _ in statements):
        if name not in copied and (store / name).exists():
            copy = databases.copy_database(store / name, f"fix-{time.strftime('%Y%m%d-%H%M%S')}")
            on_repair(f"copied {name} to {copy.name}")
            copied.add(name)
    for name, rows in _by_database(statements):
        if not (store / name).exists():
            continue
        with closing(sqlite3.connect(store / name, timeout=databases.BUSY_TIMEOUT)) as db, db:
            for statement in rows:
                values = max(map(int, re.findall(r"\?(\d)", statement)))
                db.executemany(statement, [item[:values] for item in problem.items])
    place = _FILES.get(problem.kind)
    if place is not None:
        for item in problem.items:
            (store / item[place]).unlink(missing_ok=True)
    on_repair(f"{problem.message}: {FAULTS[problem.kind].repair}")


def _by_database(statements: _Statements) -> Iterator[tuple[str, list[str]]]:
    for name in dict.fromkeys(name for name, _ in statements):
        yield name, [statement for database, statement in statements if database == name]
