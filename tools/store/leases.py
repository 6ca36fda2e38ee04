"""Leases: which process works on a run and on its units in progress, with a heartbeat; kept in the run store.

On one machine the kernel's lock tells at once whether a holder is alive. A holder on another machine, or in
another container, is watched for a time: only one whose count of heartbeats does not change is taken for dead. No
clock but the watcher's own monotonic one matters. A holder that was only suspended finds its token gone at its
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
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from line_neurons.agent.errors import BusyError, StoreError, TakenOverError
from line_neurons.agent.text import shell_word
from line_neurons.tools.store.locks import file_lock, is_held
from line_neurons.tools.store.records import plain_name
from line_neurons.tools.store.runs import RunStore, default_store
from line_neurons.tools.store.sqlite import translate_errors

BEAT_SECONDS = 2.0
"""Heartbeat interval in seconds. Stop requests are polled at the same rate."""

STALE_SECONDS = 30.0
"""A holder on another machine without a heartbeat for this long is taken for dead."""

_LIVENESS_SECONDS = 3 * BEAT_SECONDS
_POLL_SECONDS = 0.2

ProgressCallback = Callable[[str, int, int], None]
"""Called as ``(what, done, total)`` with the seconds that a holder on another machine is watched."""


class MachineId(NamedTuple):
    """This machine: its name, and what neither another machine shares nor this one after a restart."""

    host: str
    boot: str


@dataclass(frozen=True)
class Holder:
    """A process that holds a run, or one unit of it, or that did when it died.

    Times are seconds since the epoch by the holder's clock; ``beats`` counts its heartbeats. ``stop`` says who
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
        """Describe the process with the times of its start and its last heartbeat."""
        began, beat = (time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) for at in (self.began, self.beat))
        return f"{self.name} since {began}, last heard of {beat}"

    @property
    def name(self) -> str:
        """The process and its machine."""
        return f"process {self.process} on {self.host}"

    def is_on(self, machine: MachineId) -> bool:
        """Return whether the process runs on a machine since that was started."""
        return (self.host, self.boot) == machine


@dataclass(frozen=True)
class LeaseStatus:
    """Who holds a run.

    Args:
        units: those in progress, by index.
        stale: the process is gone; the next one that works on the run takes over.
    """

    holder: Holder
    units: tuple[int, ...]
    stale: bool


_COLUMNS = ", ".join(field.name for field in fields(Holder))


def this_machine() -> MachineId:
    """Identify the machine that this process runs on."""
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
    on_progress: ProgressCallback | None = None,
) -> Iterator[None]:
    """Hold runs for the body, all or none: no other process may write to them.

    Args:
        runs: the store; its writes to the runs in the body are refused once another process has taken over.
        stop: called from another thread, with the reason, when the body should end: by request, or because another
            process has taken over.
        on_progress: called while a holder on another machine is watched; what it raises ends the wait.

    Raises:
        BusyError: another process holds one of them.
        StoreError: the store cannot be written.
    """
    names, machine = sorted(set(names)), this_machine()
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(_locked(runs, name, machine))
        token = _write_leases(runs, names, machine, on_progress)
        over = threading.Event()
        heartbeat = threading.Thread(
            target=_beat, args=(runs, token, len(names), over, stop), name="heartbeat", daemon=True
        )
        for name in names:
            runs.guard(name, token)
        heartbeat.start()
        try:
            yield
        finally:
            over.set()
            heartbeat.join()
            for name in names:
                runs.guard(name, None)
            # Where the store cannot be written any more, the next holder finds the lock free.
            with suppress(StoreError), runs.atomic() as db:
                db.execute("DELETE FROM leases WHERE token = ?", [token])


@contextmanager
def lease_unit(runs: RunStore, run: str, unit: int) -> Iterator[None]:
    """Record for the body that the holder of a run works on one of its units."""
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


def lease_status(runs: RunStore, *, check_liveness: bool = True) -> dict[str, LeaseStatus]:
    """Return who holds which run of a store.

    With ``check_liveness`` it waits up to 3 heartbeats to see whether a stale remote holder is still alive;
    without, it assumes so.
    """
    leases, machine = _leases(runs), this_machine()
    dead = {
        lease.run
        for lease in leases
        if lease.is_on(machine) and not is_held(run_lock_path(runs.path.parent, lease.run, machine))
    }
    if check_liveness:
        stale = [
            lease
            for lease in leases
            if lease.unit is None
            and not lease.is_on(machine)
            and not 0 <= time.time() - lease.beat < STALE_SECONDS
        ]
        dead |= {holder.run for holder in _silent_holders(runs, stale, _LIVENESS_SECONDS)}
    units: dict[str, list[int]] = defaultdict(list)
    for lease in leases:
        if lease.unit is not None:
            units[lease.run].append(lease.unit)
    return {
        lease.run: LeaseStatus(lease, tuple(sorted(units[lease.run])), lease.run in dead)
        for lease in leases
        if lease.unit is None
    }


def refuse_leased(runs: RunStore, name: str) -> None:
    """Refuse early a run that a process of this machine holds; only ``acquire`` knows whether it can be held.

    Raises:
        BusyError: one does.
    """
    machine = this_machine()
    for holder in _run_holders(runs, name):
        if holder.is_on(machine) and is_held(run_lock_path(runs.path.parent, name, machine)):
            raise _refusal(runs, name, str(holder))


def request_stop(runs: RunStore, holder: Holder) -> bool:
    """Ask the holder of a run to stop where nothing is lost; return False if it does not hold the run any more."""
    by = f"process {os.getpid()} on {this_machine().host}"
    with runs.atomic() as db:
        updated = db.execute(
            "UPDATE leases SET stop = ? WHERE thread = ? AND token = ?", [by, holder.run, holder.token]
        )
        return updated.rowcount == 1


def request_stop_of(store: Path, run: str) -> bool:
    """Request the process that holds a run to stop after its current step; False if none does.

    Raises:
        StoreError: the store cannot be written.
    """
    with closing(RunStore(store)) as runs:
        lease = lease_status(runs, check_liveness=False).get(run)
        return lease is not None and request_stop(runs, lease.holder)


def run_lock_path(store: Path, run: str, machine: MachineId | None = None) -> Path:
    """Return the lock file of a run: of one machine, only its holder may work on the run."""
    host = re.sub(r"[^A-Za-z0-9._-]", "_", (machine or this_machine()).host)
    return store / "locks" / f"{plain_name(run)}@{host}.lock"


@contextmanager
def _locked(runs: RunStore, run: str, machine: MachineId) -> Iterator[None]:
    def refusal(holder: str) -> BusyError:
        here = [str(known) for known in _run_holders(runs, run) if known.is_on(machine)]
        return _refusal(runs, run, here[0] if here else holder)

    lock = run_lock_path(runs.path.parent, run, machine)
    with ExitStack() as stack:
        with translate_errors(lock):
            stack.enter_context(file_lock(lock, refusal=refusal))
        yield


def _refusal(runs: RunStore, run: str, holder: str) -> BusyError:
    store = runs.path.parent
    place = "" if store == default_store() else f" --store {shell_word(str(store))}"
    return BusyError(f"run {run} is in use by {holder}", f"wait for it, or stop it: line stop {run}{place}")


def _write_leases(
    runs: RunStore, names: Sequence[str], machine: MachineId, on_progress: ProgressCallback | None
) -> str:
    """Write the leases of runs whose locks are held, and return their new token."""
    before = [holder for name in names for holder in _run_holders(runs, name)]
    remote = [holder for holder in before if not holder.is_on(machine)]
    silent = {holder.token for holder in _silent_holders(runs, remote, STALE_SECONDS, on_progress)}
    seen = {(holder.run, holder.token, holder.beats) for holder in before}
    token, now = secrets.token_hex(16), time.time()
    with runs.atomic() as db:
        for name in names:
            for holder in _run_holders(runs, name):
                alive = holder.token not in silent or (holder.run, holder.token, holder.beats) not in seen
                if alive and not holder.is_on(machine):
                    raise _refusal(runs, name, str(holder))
                runs.add_event(
                    name, "taken over", process=holder.process, host=holder.host, last_heard_of=holder.beat
                )
            db.execute("DELETE FROM leases WHERE run = ?", [name])
            db.execute(
                "INSERT INTO leases (thread, run, token, process, host, boot, began, beats, beat)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?)",
                [name, name, token, os.getpid(), *machine, now, now],
            )
    return token


def _silent_holders(
    runs: RunStore, holders: Sequence[Holder], seconds: float, on_progress: ProgressCallback | None = None
) -> list[Holder]:
    """Return the holders without a heartbeat for some seconds; it ends early when none is left."""
    began, second = time.monotonic(), 0
    silent = list(holders)
    while silent:
        passed = time.monotonic() - began
        beats = {holder.token: holder.beats for holder in _run_holders(runs)}
        silent = [holder for holder in silent if beats.get(holder.token) == holder.beats]
        if silent and on_progress and int(passed) > second:
            second = int(passed)
            on_progress(f"waiting for a sign of life from {silent[0].name}", second, int(seconds))
        if passed >= seconds:
            break
        time.sleep(_POLL_SECONDS if silent else 0)
    return silent


def _beat(
    runs: RunStore, token: str, count: int, over: threading.Event, stop: Callable[[str], None] | None
) -> None:
    """Beat until ``over`` is set; ``count`` runs are held."""
    while not over.wait(BEAT_SECONDS):
        # A store that cannot be written for the moment is reported by the work itself.
        with suppress(StoreError), runs.atomic() as db:
            rows = db.execute(
                "UPDATE leases SET beats = beats + 1, beat = ? WHERE token = ? RETURNING unit, stop",
                [time.time(), token],
            ).fetchall()
            requests = [request for unit, request in rows if unit is None]
            if stop and len(requests) < count:
                stop("taken over")
            elif stop and (by := next(filter(None, requests), None)):
                stop(f"asked to stop by {by}")


def _run_holders(runs: RunStore, run: str | None = None) -> list[Holder]:
    return [lease for lease in _leases(runs, run) if lease.unit is None]


def _leases(runs: RunStore, run: str | None = None) -> list[Holder]:
    where, values = ("", []) if run is None else (" WHERE run = ?", [run])
    statement = f"SELECT {_COLUMNS} FROM leases{where} ORDER BY run, unit"  # noqa: S608
    return [Holder(*row) for row in runs.rows(statement, *values, needs="leases.run")]
