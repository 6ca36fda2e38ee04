"""A pool of workers that come and go: lost work is repeated elsewhere; it knows no kind of process."""

from __future__ import annotations

import copy
import statistics
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from line_neurons.agent.errors import BackendError, MissingPartError, NoWorkerError, UsageError, reason_of
from line_neurons.tools.store.activity import WorkerStatus

_TRIES = 3
"""Workers that may be lost over the same work, or fail to start in a row."""
_POLL = 0.25
_RETRY_SECONDS = 10.0
"""Time until a worker is started after one that failed; it doubles up to an hour."""


class WorkerLostError(BackendError):
    """A worker died, or its machine did."""


@dataclass(frozen=True)
class Description:
    """What a worker works with.

    Args:
        place: the device or machine, for messages.
        identity: what must be the same for all workers, such as fingerprints and versions, by name.
    """

    place: str
    identity: dict[str, str]
    details: Any = None


class Worker(Protocol):
    """A process that answers calls."""

    def begin(self) -> Future[Any]:
        """Make it ready; the future has its ``Description``, or what made it fail."""

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Call a method.

        The future raises ``WorkerLostError`` if the worker dies, and else what the method raised.
        """

    def stop(self) -> None:
        """End the process at once, whatever it does; may be called again."""


class Cluster(Protocol):
    """Where workers are started."""

    def wanted(self) -> int:
        """Return how many workers there should be at present."""

    def start(self) -> Worker:
        """Start a worker; does not wait until it is ready."""

    def waits_for(self) -> str:
        """Say what a worker that does not become ready may wait for."""


@dataclass(eq=False)
class _Member:
    """A worker of the pool; ``calls`` counts those in progress, of which one that is ``alone`` is the only one."""

    worker: Worker
    beginning: Future[Any]
    description: Description | None = None
    ready_since: float = 0.0
    calls: int = 0
    alone: bool = False
    leaving: bool = False
    images: int = 0
    busy_before: float = 0.0
    busy_since: float = 0.0

    @property
    def place(self) -> str:
        return self.description.place if self.description else "a new machine"

    def take(self) -> None:
        if not self.calls:
            self.busy_since = time.monotonic()
        self.calls += 1

    def give_back(self) -> None:
        self.calls -= 1
        self.alone = False
        if not self.calls:
            self.busy_before += time.monotonic() - self.busy_since

    def status(self) -> WorkerStatus:
        now = time.monotonic()
        lived = max(now - self.ready_since, 1e-3)
        busy = self.busy_before + (now - self.busy_since if self.calls else 0.0)
        return WorkerStatus(self.place, min(busy / lived, 1.0), self.images, self.images / lived)


@dataclass(frozen=True)
class Patience:
    """How long a pool waits, in seconds.

    Args:
        first: for a call of a method that no worker has completed before; models may be compiled in it.
        least: for any other call, at least.
        times: for any other call, as a multiple of the median.
        begin: for a worker to become ready while there is none.
    """

    first: float = 3600.0
    least: float = 600.0
    times: float = 10.0
    begin: float = 1800.0


@dataclass
class Pool:
    """Calls methods of whichever worker is free; may be used from many threads.

    As many workers are kept as the cluster wants. Work of a worker that is lost, or that takes ten times the usual
    time, is repeated by another one. Workers must have equal identities. One that differs or cannot start ends the
    work, unless the pool was complete before: then the others continue, and a new one is tried from time to time.

    Args:
        slots: calls that a worker has at the same time.
        report: called with a line for the user and its details when a worker is lost or cannot be used.
        check: called while a call waits for a worker; what it raises ends the waiting.
        expected: identities that every worker must have; None: those of the first.
    """

    cluster: Cluster
    slots: int = 2
    patience: Patience = Patience()
    report: Callable[[str, str, dict[str, Any]], None] = lambda kind, text, detail: None
    check: Callable[[], None] = lambda: None
    expected: Description | None = None
    lost: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._starting: list[_Member] = []
        self._ready: list[_Member] = []
        self._leaving: list[_Member] = []
        self._error: Exception | None = None
        self._failures = 0
        self._not_before = 0.0
        self._wanted = 0
        self._waiting_alone = 0
        self._complete = False
        self._closed = threading.Event()
        self._durations: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=50))
        self._supervisor = threading.Thread(target=self._supervise, name="line workers", daemon=True)
        self._supervisor.start()

    @property
    def size(self) -> int:
        """Number of workers that are ready."""
        with self._changed:
            return len(self._ready)

    @property
    def wanted(self) -> int:
        """Number of workers that there will be, as far as is known."""
        with self._changed:
            return max(len(self._ready), self._wanted)

    def status(self) -> list[WorkerStatus]:
        """Say what each ready worker has done, by place."""
        with self._changed:
            return sorted((member.status() for member in self._ready), key=lambda status: status.place)

    def wait_for_first(self, progress: Callable[[int, int], None] | None = None) -> Description:
        """Return the description of the first worker, when it is ready.

        Raises:
            LineError: no worker can be started.
        """
        until = time.monotonic() + self.patience.begin
        if progress:
            progress(0, 0)
        while True:
            with self._changed:
                self._raise_error()
                if self._ready and self.expected:
                    return self.expected
                self._refuse_waiting_beyond(until)
                self._changed.wait(_POLL)
            self.check()

    def call(self, method: str, *arguments: Any, images: int = 0) -> Any:
        """Return the answer of a free worker; if it is lost, of another one.

        Args:
            images: number of images in the call, for the status.

        Raises:
            BackendError: several workers in a row were lost over this call.
            NoWorkerError: no worker is left, or none became ready in time.
            Exception: what the method raised.
        """
        reason = ""
        for attempt in range(_TRIES):
            # What was lost once may kill workers: no other call may be lost with it again.
            with self._taken(alone=attempt > 0) as member:
                began = time.monotonic()
                answer = member.worker.call(method, *arguments)
                done, _ = wait([answer], self._longest(method))
                if not done:
                    reason = f"it did not answer within {time.monotonic() - began:.0f} s"
                elif isinstance(error := answer.exception(), WorkerLostError):
                    reason = error.message
                elif error is not None:
                    raise error
                else:
                    with self._changed:
                        member.images += images
                        self._durations[method].append(time.monotonic() - began)
                    return answer.result()
                self._lose(member, method, reason)
        raise BackendError(f"{_TRIES} workers in a row were lost over the same work, the last one since {reason}")

    def close(self) -> None:
        """End all workers; calls in progress raise an error."""
        self._closed.set()
        with self._changed:
            members = [*self._ready, *self._starting, *self._leaving]
            self._changed.notify_all()
        for member in members:
            member.worker.stop()
        self._supervisor.join()

    @contextmanager
    def _taken(self, *, alone: bool) -> Iterator[_Member]:
        member = self._take(alone=alone)
        try:
            yield member
        finally:
            with self._changed:
                member.give_back()
                if member.leaving and not member.calls:
                    self._leaving.remove(member)
                    member.worker.stop()
                self._changed.notify_all()

    def _take(self, *, alone: bool) -> _Member:
        until = time.monotonic() + self.patience.begin
        while True:
            with self._changed:
                self._raise_error()
                # While a call waits for a worker to itself, others share none.
                most = 1 if alone or self._waiting_alone else self.slots
                free = [member for member in self._ready if member.calls < most and not member.alone]
                if free:
                    member = min(free, key=lambda member: member.calls)
                    member.take()
                    member.alone = alone
                    return member
                if self._ready:
                    until = time.monotonic() + self.patience.begin
                self._refuse_waiting_beyond(until)
                self._waiting_alone += alone
                try:
                    self._changed.wait(_POLL)
                finally:
                    self._waiting_alone -= alone
            self.check()

    def _raise_error(self) -> None:
        if self._closed.is_set():
            raise BackendError("the workers were stopped", "the run was stopped; resume it")
        if self._error is not None:
            # Each thread has its own, since callers add to it.
            raise copy.copy(self._error)

    def _refuse_waiting_beyond(self, until: float) -> None:
        if time.monotonic() > until:
            raise NoWorkerError(
                f"no worker was ready within {self.patience.begin / 60:.0f} minutes: {self.cluster.waits_for()}",
                "resume the run when there is one",
            )

    def _longest(self, method: str) -> float:
        with self._changed:
            seen = self._durations[method]
            usual = self.patience.times * statistics.median(seen) if seen else self.patience.first
        return max(usual, self.patience.least)

    def _lose(self, member: _Member, method: str, reason: str) -> None:
        with self._changed:
            # Another call may have noticed it before.
            if self._closed.is_set() or member not in [*self._ready, *self._leaving]:
                return
            (self._ready if member in self._ready else self._leaving).remove(member)
            member.leaving = False
            self.lost += 1
        member.worker.stop()
        detail = {"place": member.place, "method": method, "reason": reason}
        self.report(
            "worker lost", f"the worker on {member.place} was lost: {reason}; its work is repeated", detail
        )

    def _supervise(self) -> None:
        while not self._closed.is_set():
            if time.monotonic() >= self._not_before:
                try:
                    self._wanted = self.cluster.wanted()
                    self._start()
                    self._shrink()
                except Exception as error:
                    self._fail(error)
            beginning = [member.beginning for member in self._starting]
            if beginning:
                wait(beginning, _POLL, FIRST_COMPLETED)
            else:
                self._closed.wait(_POLL)
            for member in [member for member in self._starting if member.beginning.done()]:
                self._admit(member)

    def _start(self) -> None:
        while (
            len(self._ready) + len(self._starting) < self._wanted
            and self._error is None
            and not self._closed.is_set()
        ):
            worker = self.cluster.start()
            member = _Member(worker, worker.begin())
            with self._changed:
                self._starting.append(member)

    def _shrink(self) -> None:
        with self._changed:
            extra = len(self._ready) + len(self._starting) - self._wanted
            # Those that do least go first.
            leaving = [*self._starting, *sorted(self._ready, key=lambda member: member.calls)][: max(0, extra)]
            for member in leaving:
                (self._starting if member in self._starting else self._ready).remove(member)
                member.leaving = True
                if member.calls:
                    self._leaving.append(member)
        for member in leaving:
            if not member.calls:
                member.worker.stop()

    def _admit(self, member: _Member) -> None:
        with self._changed:
            self._starting.remove(member)
        if self._closed.is_set():
            member.worker.stop()
            return
        try:
            description: Description = member.beginning.result()
            self._compare(description)
        except Exception as error:
            member.worker.stop()
            self._fail(error)
            return
        with self._changed:
            member.description = description
            member.ready_since = time.monotonic()
            self.expected = self.expected or description
            self._ready.append(member)
            self._failures, self._not_before = 0, 0.0
            self._complete = self._complete or len(self._ready) >= self._wanted
            self._changed.notify_all()

    def _compare(self, new: Description) -> None:
        if self.expected is None:
            return
        for name, value in self.expected.identity.items():
            if new.identity.get(name) != value:
                raise UsageError(
                    f"the worker on {new.place} has another {name} than that on {self.expected.place}: "
                    f"{new.identity.get(name)!r:.100}, not {value!r:.100}",
                    "all workers need the same weights, versions and kind of device",
                )

    def _fail(self, error: Exception) -> None:
        """Handle a worker that cannot start: the end, unless others work on."""
        lasting = isinstance(error, UsageError | MissingPartError)
        with self._changed:
            self._failures += 1
            self._not_before = time.monotonic() + min(3600.0, _RETRY_SECONDS * 2 ** (self._failures - 1))
            if not (self._complete and self._ready):
                if lasting or self._failures >= _TRIES:
                    self._error = (
                        error
                        if isinstance(error, BackendError | UsageError | MissingPartError)
                        else (NoWorkerError(f"no worker can be started: {reason_of(error)}"))
                    )
                self._not_before = 0.0
            self._changed.notify_all()
        if self._error is None:
            text = f"a worker could not be started: {reason_of(error)}"
            self.report("worker refused", text, {"reason": reason_of(error)})
