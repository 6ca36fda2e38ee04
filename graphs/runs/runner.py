"""Many units in flight at once: a thread for each, one failure for all to learn from, and a way to stop."""

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
from line_neurons.tools.batching import gathered
from line_neurons.tools.cache.activation_cache import CacheStats
from line_neurons.tools.label_marks import DONE
from line_neurons.tools.store.activity import Activity, report_activity
from line_neurons.tools.store.leases import lease_unit
from line_neurons.tools.store.records import Run, Unit

if TYPE_CHECKING:
    from line_neurons.graphs.loop.state import LineGraph

_TRACE_CHARACTERS = 4000
_NOT_THE_UNITS = (StoreError, MissingPartError, SystemLimitError)
"""What fails every unit alike."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands, after a node of one of its units.

    Args:
        run: id of the run.
        unit: index of the unit whose node ended.
        name: its name, if it is an output class.
        finished: units of the run that have a label so far.
        failed: units of the run that failed so far.
        units: number of units of the run.
        node: the node that ended; empty before the first, ``finished`` or ``failed`` at the unit's end.
        kind: what the unit's step in hand is: ``initial``, ``iteration``, ``summary`` or ``end``.
        step: the unit's step in hand, 0 while the first board is filled; counts on over restarts.
        steps: the unit's last step, unless patience shortens or extends the search.
        concept: the concept in hand.
        best: the best concept of the unit so far and its score.
        stats: images and forward passes since work on the run began in this process.
        error: why the unit failed.
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

    @property
    def position(self) -> int:
        """Units of the run that are done with."""
        return self.finished + self.failed


ProgressCallback = Callable[[Progress], None]


def last_step(settings: Settings) -> int:
    """Index of a unit's last step, unless patience shortens or extends the search."""
    return (1 + settings.iterations + settings.summary) * (1 + settings.restarts) - 1


class Runner:
    """Works on the units of a run, ``settings.max_concurrent_units`` at once.

    A unit that fails is recorded with its reason and the others go on. When
    ``settings.max_consecutive_failures`` units have failed with none finished in between, or the store
    or a package is at fault, the run stops; these units then count as interrupted, since the fault was not theirs.

    Args:
        graph: the compiled loop with the store's checkpoints.
        deps: the parts that the units share; its ``drain`` makes all units stop at their next checkpoint.
        run: the run.
        watch: told of each node's end, from one thread at a time; what it raises stops the run.
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
        self._finished, self._failed = sum(states.get(one, 0) for one in DONE), states.get("failed", 0)
        self._units = sum(states.values())
        self._before = deps.cache.snapshot()

    def work(self, units: Sequence[Unit]) -> None:
        """Work on ``units``, begun in this order, until all are done with or it was asked to stop.

        Raises:
            LineError: the run stopped for it; a unit's own failure is only recorded.
        """
        with (
            self._shared() as deps,
            ThreadPoolExecutor(deps.settings.max_concurrent_units, thread_name_prefix="unit") as pool,
        ):
            try:
                for future in as_completed([pool.submit(self._work_on, unit, deps) for unit in units]):
                    future.result()
            except BaseException:
                self._drain.request_drain("stopped")
                raise
        if self._error is not None:
            raise self._error

    @contextmanager
    def _shared(self) -> Iterator[Deps]:
        """The parts as units in flight share them: requests gathered into batches, questions bounded."""
        deps, settings = self._deps, self._deps.settings
        if settings.max_concurrent_units == 1:
            yield deps
            return
        with gathered(
            deps.generator,
            deps.target,
            deps.language_model,
            callers=lambda: self._active,
            parallel=settings.llm_parallel,
            wait=settings.batch_timeout,
            check=deps.check_drain,
        ) as parts:
            yield replace(
                deps, generator=parts.generator, target=parts.target, language_model=parts.language_model
            )

    def _work_on(self, unit: Unit, deps: Deps) -> None:
        if self._drain.drain_requested:
            return
        with self._lock:
            self._active += 1
        try:
            with lease_unit(deps.runs, self._run.id, unit.unit):
                self._finish(unit, deps)
        finally:
            with self._lock:
                self._active -= 1

    def _finish(self, unit: Unit, deps: Deps) -> None:
        latest: dict[str, Any] = {}

        def moved(node: str, at_work: str, state: Mapping[str, Any]) -> None:
            latest.update(state)
            self._show(unit, at_work, latest)
            self._tell(unit, node, latest)

        try:
            work_unit(self._graph, deps, self._run, unit, moved)
        except (GraphDrained, DrainedError):
            self._record(unit, "interrupted")
        except TakenOverError:
            raise
        except Exception as error:
            self._failure(unit, error, latest)
        except BaseException:
            self._record(unit, "interrupted")
            raise
        else:
            with self._lock:
                self._streak.clear()
                self._finished += 1
                self._tell(unit, "finished", latest)

    def _failure(self, unit: Unit, error: Exception, state: Mapping[str, Any]) -> None:
        runs, run = self._deps.runs, self._run.id
        # Too little memory may be one unit's own matter.
        error = (None if isinstance(error, MemoryError) else system_limit(error)) or error
        reason = reason_of(error)
        with self._lock:
            self._streak.append(unit.unit)
            at_fault = isinstance(error, _NOT_THE_UNITS) and not isinstance(error, DamagedError)
            gives_up = at_fault or len(self._streak) >= self._deps.settings.max_consecutive_failures
            if gives_up or self._drain.drain_requested:
                self._error = self._error or (self._several(error) if gives_up else None)
                self._drain.request_drain("gave up")
                for one in self._streak[:-1]:
                    self._failed -= 1
                    runs.update_unit(run, one, status="interrupted")
                self._streak.clear()
                self._record(unit, "interrupted", reason)
                return
            self._failed += 1
            self._record(unit, "failed", reason)
            # Of an error for the user, what a part raised tells where it comes from.
            cause = error.__cause__ if isinstance(error, LineError) else error
            trace = "" if cause is None else "".join(traceback.format_exception(cause))
            runs.add_event(run, "unit failed", unit.unit, error=reason, trace=trace[-_TRACE_CHARACTERS:])
            self._tell(unit, "failed", state, reason)

    def _several(self, error: Exception) -> Exception:
        """The error with the number of units that failed like it, where the run stops for them."""
        count = len(self._streak)
        if isinstance(error, LineError) and count > 1:
            error.message = f"{count} units in a row failed, the last one: {error.message}"
        return error

    def _record(self, unit: Unit, status: str, error: str = "") -> None:
        self._deps.runs.update_unit(self._run.id, unit.unit, status=status, error=error)

    def _show(self, unit: Unit, at_work: str, state: Mapping[str, Any]) -> None:
        """Let who watches the store see what a unit does now."""
        made = self._since()
        best: tuple[str, float | None] = _best(state) or ("", None)
        doing = Activity(
            unit=unit.unit,
            node=at_work,
            kind=state.get("kind", "initial"),
            step=state.get("step", 0),
            steps=last_step(self._deps.settings),
            attempt=state.get("attempt", 0),
            # What was proposed in the step before is in the state until the next proposal.
            concept=state.get("concept", "") if has_proposal(at_work) else "",
            best=best[0],
            best_score=best[1],
            since=time.time(),
        )
        report_activity(
            self._deps.runs,
            self._run.id,
            doing,
            generated=made.generated,
            reused=made.reused,
            measured=made.forwarded,
        )

    def _since(self) -> CacheStats:
        """What the bank did since work on the run began."""
        now = self._deps.cache.snapshot()
        return CacheStats(
            **{f.name: getattr(now, f.name) - getattr(self._before, f.name) for f in fields(CacheStats)}
        )

    def _tell(self, unit: Unit, node: str, state: Mapping[str, Any], error: str = "") -> None:
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
                    stats=self._since(),
                    error=error,
                )
            )


def _best(state: Mapping[str, Any]) -> tuple[str, float] | None:
    best = state.get("best")
    return (str(best[0]), float(best[1])) if best else None
