"""Runs whose components a process of this machine loads: no lease protects them yet, and new ones have no row.

Each process has a locked file in the store's folder ``loading``. The kernel frees the lock when it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from line_neurons.agent.errors import StoreError
from line_neurons.tools.store.activity import Phase, next_phase
from line_neurons.tools.store.leases import this_machine
from line_neurons.tools.store.locks import is_held, shared_lock
from line_neurons.tools.store.paths import open_no_link, own_files, refuse_links
from line_neurons.tools.store.records import Run

FOLDER = "loading"
LIBRARIES = "loading libraries"
"""The first phase of every command: torch and LangGraph are imported."""
_SECONDS = 0.5
"""Least interval of two records of the same phase."""


@dataclass(frozen=True)
class PlannedRun:
    """A run whose components are loaded: its name, model, layer, seed and language model."""

    run: str
    model: str
    layer: str
    seed: int
    llm: str


@dataclass(frozen=True)
class LoadingRun:
    """A planned run with the process that loads it.

    Args:
        since: when it started, in seconds since the epoch.
    """

    planned: PlannedRun
    process: int
    holder: str
    since: float
    phase: Phase


class LoadingRecord:
    """Records what a process does before it holds its runs; it may be called from any thread.

    Args:
        file: descriptor of the locked file; None where the store cannot be written: nothing is recorded.
    """

    def __init__(self, file: int | None, runs: Sequence[PlannedRun], what: str) -> None:
        self._file = file
        self._runs = list(runs)
        self._left = False
        self._since = self._written = time.time()
        self._lock = threading.Lock()
        self._phase = next_phase(None, what, 0, 0, self._since)
        self._write()

    def report(self, what: str, done: int = 0, total: int = 0) -> None:
        """Record a phase; later ones of runs that have their lease are recorded there. A total of 0 is unknown."""
        with self._lock:
            if self._left or self._file is None:
                return
            now, new = time.time(), what != self._phase.what
            self._phase = next_phase(self._phase, what, done, total, now)
            if new or now - self._written >= _SECONDS:
                self._written = now
                self._write()

    def leave(self, run: str) -> None:
        """Leave a run to its lease; the others wait for it."""
        with self._lock:
            self._left = True
            self._runs = [planned for planned in self._runs if planned.run != run]
            self._phase = next_phase(None, f"waiting for {run}", 0, 0, time.time())
            self._write()

    def _write(self) -> None:
        if self._file is None:
            return
        content = json.dumps([self._since, astuple(self._phase), [astuple(run) for run in self._runs]]).encode()
        # The work itself says what is wrong with the disk.
        with suppress(OSError):
            os.pwrite(self._file, content, 0)
            os.ftruncate(self._file, len(content))


@contextmanager
def loading(store: Path, runs: Sequence[PlannedRun], what: str) -> Iterator[LoadingRecord]:
    """Let the app show runs while their components load, which the body does; it leaves no trace of itself.

    No lease protects the runs yet: the body also keeps an existing store from `line gc`.

    Args:
        store: the store's folder, which may not exist yet.

    Raises:
        UsageError: the store is being repaired.
        StoreError: it cannot be written.
    """
    if not runs:
        yield LoadingRecord(None, runs, what)
        return
    made = [folder for folder in (store / FOLDER, store, *store.parents) if not folder.exists()]
    path = store / FOLDER / f"{os.getpid()}@{_host()}.json"
    with ExitStack() as stack:
        if store not in made:
            stack.enter_context(shared_lock(store))
        stack.callback(_remove_folders, made)
        file = None
        with suppress(OSError, StoreError):
            path.parent.mkdir(parents=True, exist_ok=True)
            refuse_links(store)
            _remove_left(store)
            file = open_no_link(str(path), os.O_RDWR | os.O_CREAT)
            stack.callback(os.close, file)
            stack.callback(path.unlink, missing_ok=True)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield LoadingRecord(file, runs, what)


def _remove_folders(folders: Sequence[Path]) -> None:
    """Remove folders that are empty: a refused command leaves no store, one with runs in it stays."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def planned_again(runs: Iterable[Run]) -> list[PlannedRun]:
    """Return recorded runs that are loaded again."""
    return [PlannedRun(run.id, run.model, run.layer, run.seed, str(run.settings.get("llm", ""))) for run in runs]


def loading_runs(store: Path) -> list[LoadingRun]:
    """Return the runs that processes of this machine load, the newest process first."""
    found: list[LoadingRun] = []
    for path in _files(store):
        if is_held(path):
            # It may be written at this moment, or by something else.
            with suppress(OSError, ValueError, TypeError):
                since, phase, runs = json.loads(path.read_text("utf-8"))
                process = int(path.name.partition("@")[0])
                holder = f"process {process} on {this_machine().host}"
                found += [
                    LoadingRun(_planned(*run), process, holder, float(since), _phase(*phase)) for run in runs
                ]
    return sorted(found, key=lambda run: -run.since)


def _planned(run: str, model: str, layer: str, seed: int, llm: str) -> PlannedRun:
    return PlannedRun(str(run), str(model), str(layer), int(seed), str(llm))


def _phase(what: str, done: int, total: int, since: float, first: int, reached: float) -> Phase:
    return Phase(str(what), int(done), int(total), float(since), int(first), float(reached))


def _host() -> str:
    return "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in this_machine().host)


def _files(store: Path) -> list[Path]:
    with suppress(OSError):
        return [path for path in own_files(store, FOLDER) if path.name.endswith(f"@{_host()}.json")]
    return []


def _remove_left(store: Path) -> None:
    """Remove the files of processes that were killed."""
    for path in _files(store):
        # One that was just made is not locked yet, and empty.
        if path.stat().st_size and not is_held(path):
            path.unlink(missing_ok=True)
