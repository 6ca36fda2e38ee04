"""Leases: which process works on a run and on its units in flight, with a heartbeat; kept in the run store.

On one machine the kernel's lock tells at once whether a holder lives. A holder on another machine, or in another
container, is watched for a time: only one whose count of beats stands still is taken for dead. No clock but the
watcher's own, which never goes back, has a say in it. A holder that was only suspended finds its token gone at its
next write, which is then refused (``RunStore.guard``). This needs a disk on which SQLite's locks and shared memory
work: one on a network is for one machine at a time.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from line_neurons.agent.errors import StoreError, TakenOverError, UsageError
from line_neurons.agent.text import shell_word
from line_neurons.tools.store.locks import file_lock, is_held
from line_neurons.tools.store.records import plain_name
from line_neurons.tools.store.runs import RunStore, default_store
from line_neurons.tools.store.sqlite import translate_errors

BEAT_SECONDS = 2.0
"""A process that works on runs says so this often; as often it reads whether it is asked to stop."""

STALE_SECONDS = 30.0
"""A holder on another machine that has not said so for this long is taken for dead."""

_LOOK_SECONDS = 3 * BEAT_SECONDS
_POLL_SECONDS = 0.2

ProgressCallback = Callable[[str, int, int], None]
"""Told as ``(what, done, total)`` of the seconds that another machine's holder is watched."""


class MachineId(NamedTuple):
    """This machine: its name, and what no other machine shares nor it itself after a restart."""

    host: str
    boot: str


@dataclass(frozen=True)
class Holder:
    """A process that holds a run, or one unit of it, or that did when it died.

    Times are seconds since the epoch by the holder's clock; ``beats`` counts its signs of life. ``stop`` says who
    asked it to stop.
    """

    run: str
    unit: int | None
    token: str
    process: int
    host: str
    boot: str
    began: float
    beats: int
    beat: float
    stop: str | None

    def __str__(self) -> str:
        """The process with the times of its begin and its last sign of life."""
        began, beat = (time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) for at in (self.began, self.beat))
        return f"{self.name} since {began}, last heard of {beat}"

    @property
    def name(self) -> str:
        """The process and its machine."""
        return f"process {self.process} on {self.host}"


@dataclass(frozen=True)
class LeaseStatus:
    """Who holds a run.

    Args:
        holder: the process.
        units: the units that it has in hand, by index.
        stale: the process is gone; the next one that works on the run takes over.
    """

    holder: Holder
    units: tuple[int, ...]
    stale: bool


_COLUMNS = ", ".join(field.name for field in fields(Holder))


def this_machine() -> MachineId:
    """The machine that this process runs on."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        boot = ""
    return MachineId(socket.gethostname(), boot)


@contextmanager
def acquire(
    runs: RunStore,
    names: Sequence[str],
    stop: Callable[[str], None] | None = None,
    told: ProgressCallback | None = None,
) -> Iterator[None]:
    """Hold runs for the body, all or none: no other process may write to them.

    Args:
        runs: the store; what it writes to the runs in the body is refused once another process has taken over.
        names: ids of the runs.
        stop: called with the reason, from another thread, when the body should come to its end: someone asked for
            it, or another process has taken over.
        told: told while a holder on another machine is watched; what it raises ends the wait.

    Raises:
        UsageError: another process holds one of them.
        StoreError: the store cannot be written.
    """
    names, machine = sorted(set(names)), this_machine()
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(_locked(runs, name, machine))
        token = _write_leases(runs, names, machine, told)
        over = threading.Event()
        beating = threading.Thread(
            target=_beat, args=(runs, token, len(names), over, stop), name="heartbeat", daemon=True
        )
        for name in names:
            runs.guard(name, token)
        beating.start()
        try:
            yield
        finally:
            over.set()
            beating.join()
            for name in names:
                runs.guard(name, None)
            # Where the store cannot be written any more, the next holder finds the lock free.
            with suppress(StoreError), runs.atomic() as db:
                db.execute("DELETE FROM leases WHERE token = ?", [token])


@contextmanager
def lease_unit(runs: RunStore, run: str, unit: int) -> Iterator[None]:
    """Let others see that the holder of a run has one of its units in hand."""
    thread = f"{run}/{unit}"
    with runs.atomic(run) as db:
        db.execute(
            "INSERT OR REPLACE INTO leases (thread, run, unit, token, process, host, boot, began, beats, beat)"
            " SELECT ?, run, ?, token, process, host, boot, ?, beats, beat FROM leases WHERE thread = ?",
            [thread, unit, time.time(), run],
        )
    try:
        yield
    finally:
        with suppress(StoreError, TakenOverError), runs.atomic(run) as db:
            db.execute("DELETE FROM leases WHERE thread = ?", [thread])


def lease_status(runs: RunStore, *, look: bool = True) -> dict[str, LeaseStatus]:
    """Who holds which run of a store, by run; of an older store that is only looked at: nobody.

    Args:
        runs: the store.
        look: watch for some seconds a holder on another machine that was not heard of for long, as clocks go; else
            it counts as alive.
    """
    holders = _holders(runs)
    machine = this_machine()
    dead = {
        one.run
        for one in holders
        if _is_here(one, machine) and not is_held(run_lock_path(runs.path.parent, one.run, machine))
    }
    silent = [
        one
        for one in holders
        if one.unit is None and not _is_here(one, machine) and not 0 <= time.time() - one.beat < STALE_SECONDS
    ]
    dead |= {one.run for one in _silent_holders(runs, silent if look else [], _LOOK_SECONDS)}
    units: dict[str, list[int]] = defaultdict(list)
    for one in holders:
        if one.unit is not None:
            units[one.run].append(one.unit)
    return {
        one.run: LeaseStatus(one, tuple(sorted(units[one.run])), one.run in dead)
        for one in holders
        if one.unit is None
    }


def refuse_leased(runs: RunStore, name: str) -> None:
    """Say early that a process of this machine holds a run; whether it can be held, only ``acquire`` knows.

    Raises:
        UsageError: one does.
    """
    machine = this_machine()
    for one in _holders(runs, name):
        if one.unit is None and _is_here(one, machine) and is_held(run_lock_path(runs.path.parent, name, machine)):
            raise _refusal(runs, name, str(one))


def request_stop(runs: RunStore, holder: Holder) -> bool:
    """Ask the holder of a run to stop where nothing is lost; False if it holds the run no more."""
    asker = f"process {os.getpid()} on {this_machine().host}"
    with runs.atomic() as db:
        asked = db.execute(
            "UPDATE leases SET stop = ? WHERE thread = ? AND token = ?", [asker, holder.run, holder.token]
        )
        return asked.rowcount == 1


def run_lock_path(store: Path, run: str, machine: MachineId | None = None) -> Path:
    """The lock file of a run: whoever holds it is the one process of its machine that may work on the run."""
    host = re.sub(r"[^A-Za-z0-9._-]", "_", (machine or this_machine()).host)
    return store / "locks" / f"{plain_name(run)}@{host}.lock"


@contextmanager
def _locked(runs: RunStore, run: str, machine: MachineId) -> Iterator[None]:
    def taken(holder: str) -> UsageError:
        known = [one for one in _holders(runs, run) if one.unit is None and _is_here(one, machine)]
        return _refusal(runs, run, str(known[0]) if known else holder)

    lock = run_lock_path(runs.path.parent, run, machine)
    with ExitStack() as stack:
        with translate_errors(lock):
            stack.enter_context(file_lock(lock, taken=taken))
        yield


def _refusal(runs: RunStore, run: str, holder: str) -> UsageError:
    store = runs.path.parent
    place = "" if store == default_store() else f" --store {shell_word(str(store))}"
    return UsageError(f"run {run} is in use by {holder}", f"wait for it, or stop it: line stop {run}{place}")


def _write_leases(runs: RunStore, names: Sequence[str], machine: MachineId, told: ProgressCallback | None) -> str:
    """Write the leases of runs whose locks are held; the token is new."""
    before = [one for name in names for one in _holders(runs, name) if one.unit is None]
    abroad = [one for one in before if not _is_here(one, machine)]
    still = {one.token for one in _silent_holders(runs, abroad, STALE_SECONDS, told)}
    seen = {(one.run, one.token, one.beats) for one in before}
    token, now = secrets.token_hex(16), time.time()
    with runs.atomic() as db:
        for name in names:
            for one in (one for one in _holders(runs, name) if one.unit is None):
                alive = one.token not in still or (one.run, one.token, one.beats) not in seen
                if alive and not _is_here(one, machine):
                    raise _refusal(runs, name, str(one))
                runs.add_event(name, "taken over", process=one.process, host=one.host, last_heard_of=one.beat)
            db.execute("DELETE FROM leases WHERE run = ?", [name])
            db.execute(
                "INSERT INTO leases (thread, run, token, process, host, boot, began, beats, beat)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?)",
                [name, name, token, os.getpid(), *machine, now, now],
            )
    return token


def _silent_holders(
    runs: RunStore, holders: Sequence[Holder], seconds: float, told: ProgressCallback | None = None
) -> list[Holder]:
    """Those of the holders that give no sign of life for so many seconds; it ends early when none is left."""
    began, second = time.monotonic(), 0
    left = list(holders)
    while left:
        passed = time.monotonic() - began
        now = {one.token: one.beats for one in _holders(runs) if one.unit is None}
        left = [one for one in left if now.get(one.token) == one.beats]
        if left and told and int(passed) > second:
            second = int(passed)
            told(f"waiting for a sign of life from {left[0].name}", second, int(seconds))
        if passed >= seconds:
            break
        time.sleep(_POLL_SECONDS if left else 0)
    return left


def _beat(
    runs: RunStore, token: str, held_runs: int, over: threading.Event, stop: Callable[[str], None] | None
) -> None:
    while not over.wait(BEAT_SECONDS):
        # A store that cannot be written for the moment is told by the work itself.
        with suppress(StoreError), runs.atomic() as db:
            rows = db.execute(
                "UPDATE leases SET beats = beats + 1, beat = ? WHERE token = ? RETURNING unit, stop",
                [time.time(), token],
            ).fetchall()
            wishes = [wish for unit, wish in rows if unit is None]
            if stop and len(wishes) < held_runs:
                stop("taken over")
            elif stop and (asker := next(filter(None, wishes), None)):
                stop(f"asked to stop by {asker}")


def _is_here(holder: Holder, machine: MachineId) -> bool:
    return (holder.host, holder.boot) == machine


def _holders(runs: RunStore, run: str | None = None) -> list[Holder]:
    where, values = ("", []) if run is None else (" WHERE run = ?", [run])
    if not runs.rows("SELECT 1 FROM sqlite_master WHERE name = 'leases'"):
        return []
    return [Holder(*row) for row in runs.rows(f"SELECT {_COLUMNS} FROM leases{where} ORDER BY run, unit", *values)]  # noqa: S608
