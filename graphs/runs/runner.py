"""Run many units concurrently, a thread each: shared batches, failures that stop the run, a way to stop."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from line_neurons.agent.errors import (
    DamagedError,
    DrainedError,
    LineError,
    MissingPartError,
    NoWorkerError,
    StoreError,
    SystemLimitError,
    TakenOverError,
    reason_of,
    system_limit,
)
from line_neurons.agent.loop import has_proposal
from line_neurons.agent.settings import Settings
from line_neurons.graphs.loop.state import Deps
from line_neurons.graphs.runs.unit_runner import work_unit
from line_neurons.tools.batching import batched_components
from line_neurons.tools.cache.activation_cache import CacheStats
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.store.activity import Activity, report_activity
from line_neurons.tools.store.leases import lease_unit
from line_neurons.tools.store.records import Run, Unit

if TYPE_CHECKING:
    from line_neurons.graphs.loop.state import LineGraph

_TRACE_CHARACTERS = 4000
_SHARED_FAULTS = (StoreError, MissingPartError, SystemLimitError, NoWorkerError)
"""Errors that fail every unit alike."""


@dataclass(frozen=True)
class Progress:
    """The state of a run after a node of one of its units.

    Args:
        name: its name, if it is an output class.
        finished: number of units that have ended so far.
        node: the node that ended; empty before the first, ``finished`` or ``failed`` at the unit's end.
        kind: kind of the unit's current step: ``initial``, ``iteration``, ``summary`` or ``end``.
        step: the unit's current step, 0 for the first board; it counts on over restarts.
        steps: the unit's last step, unless patience shortens or extends the search.
        best: the best concept of the unit so far and its score.
        stats: images and forward passes of this process for the run.
        boards: scoreboards that the unit fills: the initial one, and one for each further search.
    """

    run: str
    unit: int
    name: str | None
    finished: int
    failed: int
    units: int
    node: str
    kind: str
    step: int
    steps: int
    concept: str
    best: tuple[str, float] | None
    stats: CacheStats
    error: str = ""
    boards: int = 1

    @property
    def steps_of_unit(self) -> int:
        """Number of a unit's iterations and summaries, unless patience shortens or extends the search."""
        return self.steps + 1 - self.boards

    @property
    def steps_done(self) -> int:
        """Number of iterations and summaries that the unit has ended."""
        ended = min(self.step, self.steps + 1)
        # Every search of the unit starts with a scoreboard.
        return ended + -ended // max((self.steps + 1) // self.boards, 1)

    @property
    def position(self) -> int:
        """Number of units that have ended or failed."""
        return self.finished + self.failed


ProgressCallback = Callable[[Progress], None]


def last_step(settings: Settings) -> int:
    """Return the index of a unit's last step, unless patience shortens or extends the search."""
    return (1 + settings.iterations + settings.summary) * settings.searches - 1


def steps_of_unit(settings: Settings) -> int:
    """Return the number of a unit's iterations and summaries, unless patience shortens or extends the search."""
    return last_step(settings) + 1 - settings.searches


class Runner:
    """Runs the units of a run, ``settings.max_concurrent_units`` at once.

    A failed unit is recorded with its reason and the others continue. When
    ``settings.max_consecutive_failures`` units failed with none finished in between, or the store or a
    package is at fault, the run stops; these units then count as interrupted, since the fault was not theirs.

    Args:
        graph: the compiled loop with the store's checkpoints.
        deps: what the units share; its ``drain`` stops all units at their next checkpoint.
        watch: called at the end of each node, from one thread at a time; an exception from it stops the run.
    """

    def __init__(self, graph: LineGraph, deps: Deps, run: Run, watch: ProgressCallback | None) -> None:
        self._graph = graph
        self._deps = deps
        self._run = run
        self._watch = watch
        self._drain = deps.drain or RunControl()
        self._lock = threading.RLock()
        self._streak: list[int] = []
        self._error: Exception | None = None
        self._active = 0
        states = deps.runs.states(run.id)
        self._finished, self._failed = sum(states.get(status, 0) for status in DONE), states.get("failed", 0)
        self._units = sum(states.values())
        self._before = deps.cache.snapshot()

    def work(self, units: Sequence[Unit]) -> None:
        """Run ``units``, started in this order, until all have ended or a stop was requested.

        Raises:
            LineError: the run stopped for it; a unit's own failure is only recorded.
        """
        with (
            self._shared() as deps,
            ThreadPoolExecutor(deps.settings.max_concurrent_units, thread_name_prefix="unit") as pool,
        ):
            try:
                for future in as_completed([pool.submit(self._lease_and_run, unit, deps) for unit in units]):
                    future.result()
            except BaseException:
                self._drain.request_drain("stopped")
                raise
        if self._error is not None:
            raise self._error

    @contextmanager
    def _shared(self) -> Iterator[Deps]:
        """Share components between concurrent units: requests in batches, bounded requests to the model."""
        deps, settings = self._deps, self._deps.settings
        if settings.max_concurrent_units == 1:
            yield deps
            return
        with batched_components(
            deps.generator,
            deps.target,
            deps.language_model,
            callers=lambda: self._active,
            parallel=settings.llm_parallel,
            wait=settings.batch_timeout,
            check=deps.check_drain,
        ) as shared:
            yield replace(
                deps, generator=shared.generator, target=shared.target, language_model=shared.language_model
            )

    def _lease_and_run(self, unit: Unit, deps: Deps) -> None:
        if self._drain.drain_requested:
            return
        with self._lock:
            self._active += 1
        try:
            with lease_unit(deps.runs, self._run.id, unit.unit):
                self._run_unit(unit, deps)
        finally:
            with self._lock:
                self._active -= 1

    def _run_unit(self, unit: Unit, deps: Deps) -> None:
        latest: dict[str, Any] = {}

        def on_node(node: str, current: str, state: Mapping[str, Any]) -> None:
            latest.update(state)
            self._report_activity(unit, current, latest)
            self._report_progress(unit, node, latest)

        try:
            work_unit(self._graph, deps, self._run, unit, on_node)
        except (GraphDrained, DrainedError):
            self._record(unit, "interrupted")
        except TakenOverError:
            raise
        except Exception as error:
            self._fail(unit, error, latest)
        except BaseException:
            self._record(unit, "interrupted")
            raise
        else:
            with self._lock:
                self._streak.clear()
                self._finished += 1
                self._report_progress(unit, "finished", latest)

    def _fail(self, unit: Unit, error: Exception, state: Mapping[str, Any]) -> None:
        runs, run = self._deps.runs, self._run.id
        # Too little memory may be the fault of one unit.
        error = (None if isinstance(error, MemoryError) else system_limit(error)) or error
        reason = reason_of(error)
        with self._lock:
            self._streak.append(unit.unit)
            at_fault = isinstance(error, _SHARED_FAULTS) and not isinstance(error, DamagedError)
            stops = at_fault or len(self._streak) >= self._deps.settings.max_consecutive_failures
            if stops or self._drain.drain_requested:
                self._error = self._error or (self._with_count(error) if stops else None)
                self._drain.request_drain("gave up")
                for number in self._streak[:-1]:
                    self._failed -= 1
                    runs.update_unit(run, number, status="interrupted")
                self._streak.clear()
                self._record(unit, "interrupted", reason)
                return
            self._failed += 1
            self._record(unit, "failed", reason)
            # The cause of a user-facing error tells where it comes from.
            cause = error.__cause__ if isinstance(error, LineError) else error
            trace = "" if cause is None else "".join(traceback.format_exception(cause))
            runs.add_event(run, "unit failed", unit.unit, error=reason, trace=trace[-_TRACE_CHARACTERS:])
            self._report_progress(unit, "failed", state, reason)

    def _with_count(self, error: Exception) -> Exception:
        """Add to the error that stops a run the number of units that failed in a row."""
        count = len(self._streak)
        if isinstance(error, LineError) and count > 1:
            error.message = f"{count} units in a row failed, the last one: {error.message}"
        return error

    def _record(self, unit: Unit, status: str, error: str = "") -> None:
        self._deps.runs.update_unit(self._run.id, unit.unit, status=status, error=error)

    def _report_activity(self, unit: Unit, node: str, state: Mapping[str, Any]) -> None:
        """Record what the unit does now, for readers of the store."""
        stats = self._stats()
        best: tuple[str, float | None] = _best(state) or ("", None)
        activity = Activity(
            unit=unit.unit,
            node=node,
            kind=state.get("kind", "initial"),
            step=state.get("step", 0),
            steps=last_step(self._deps.settings),
            attempt=state.get("attempt", 0),
            # The state keeps the last step's proposal until the next one.
            concept=state.get("concept", "") if has_proposal(node) else "",
            best=best[0],
            best_score=best[1],
            since=time.time(),
        )
        report_activity(
            self._deps.runs,
            self._run.id,
            activity,
            generated=stats.generated,
            reused=stats.reused,
            measured=stats.forwarded,
            workers=self._deps.workers(),
        )

    def _stats(self) -> CacheStats:
        """Count what the cache did since the run was resumed."""
        now = self._deps.cache.snapshot()
        return CacheStats(
            **{f.name: getattr(now, f.name) - getattr(self._before, f.name) for f in fields(CacheStats)}
        )

    def _report_progress(self, unit: Unit, node: str, state: Mapping[str, Any], error: str = "") -> None:
        if self._watch is None:
            return
        with self._lock:
            self._watch(
                Progress(
                    run=self._run.id,
                    unit=unit.unit,
                    name=unit.name,
                    finished=self._finished,
                    failed=self._failed,
                    units=self._units,
                    node=node,
                    kind=state.get("kind", "initial"),
                    step=state.get("step", 0),
                    steps=last_step(self._deps.settings),
                    concept=state.get("concept", ""),
                    best=_best(state),
                    stats=self._stats(),
                    error=error,
                    boards=self._deps.settings.searches,
                )
            )


def _best(state: Mapping[str, Any]) -> tuple[str, float] | None:
    best = state.get("best")
    return (str(best[0]), float(best[1])) if best else None
