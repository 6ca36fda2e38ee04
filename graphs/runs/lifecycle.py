"""Runs over units: start, work, stop and retry."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from langgraph.runtime import RunControl

from line_neurons.agent.errors import (
    DamagedError,
    DrainedError,
    LineError,
    StoreError,
    TakenOverError,
    UsageError,
    is_lasting,
    reason_of,
)
from line_neurons.agent.presets import UNRECORDED
from line_neurons.agent.settings import Settings, unrecorded
from line_neurons.graphs.loop.graph import build
from line_neurons.graphs.loop.state import Deps, stop_if_drained
from line_neurons.graphs.runs import checkpoints
from line_neurons.graphs.runs.code_trust import record_trust
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.environment import record_environment
from line_neurons.graphs.runs.facets.run_facets import store_facets
from line_neurons.graphs.runs.names import free_name
from line_neurons.graphs.runs.preflight import doubts
from line_neurons.graphs.runs.reconstruction import check_code
from line_neurons.graphs.runs.revisit import revisit
from line_neurons.graphs.runs.runner import ProgressCallback, Runner
from line_neurons.graphs.runs.unit_runner import restart_unit
from line_neurons.graphs.runs.unit_selection import select_units
from line_neurons.tools.label_marks import DONE, ENDED
from line_neurons.tools.language_models.secrets import redacted
from line_neurons.tools.packages import installed_versions
from line_neurons.tools.run_problems import record_doubts
from line_neurons.tools.store.atomic_files import remove_abandoned
from line_neurons.tools.store.checkpoints import LeaseCheckedSaver, forget_run, open_checkpoints
from line_neurons.tools.store.leases import acquire, this_machine
from line_neurons.tools.store.locks import shared_lock
from line_neurons.tools.store.queries import used_names
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import units_with_pending


def start(components: Components, layer: str, selectors: Sequence[str], command: str = "") -> Run:
    """Record a new run, ready for ``work``; nothing is written unless everything fits.

    ``selectors`` are units as numbers, ranges or class names; ``command`` is the user's command, for the record.

    Raises:
        LineError: a model, layer, unit or setting does not fit, or a component is missing.
    """
    units, names = select_units(components, layer, selectors)
    # Generator and language model first: a missing one is told before a control set of many files is read.
    fingerprints = components.fingerprints(layer)
    components.check_control(layer)
    vocabulary = components.vocabulary()
    doubtful = doubts(components, vocabulary)
    remark, in_doubt = check_code(components, layer, units)
    if remark:
        logging.getLogger(__name__).warning("%s", remark)
        doubtful += [remark] if in_doubt else []
    run = new_run(components, components.spec, layer, fingerprints, command, vocabulary=vocabulary)
    components.layers.add(layer)
    while True:
        rows = [Unit(run.id, unit, place, name=names[unit] if names else None) for place, unit in enumerate(units)]
        try:
            with components.runs.atomic():
                components.runs.add_run(run, rows)
                _remove_stale_checkpoints(components.store, run.id)
                record_environment(components.runs, run, components, began=True)
                record_doubts(components.runs, run.id, doubtful)
                record_trust(components.runs, run)
        except StoreError:
            # Another process may have recorded a run of that name meanwhile.
            if run.id not in components.runs.names():
                raise
            run = replace(run, id=new_run_id(components.runs, components.spec, layer))
        else:
            return run


def new_run(
    components: Components,
    model: str,
    layer: str,
    fingerprints: dict[str, str],
    command: str,
    **columns: Any,
) -> Run:
    """Describe a new run of these components, which is not recorded yet."""
    return Run(
        id=new_run_id(components.runs, model, layer),
        model=model,
        layer=layer,
        seed=components.settings.seed,
        status="pending",
        created=time.time(),
        settings=recorded_settings(components.settings),
        fingerprints=fingerprints,
        versions=installed_versions(),
        command=command,
        **columns,
    )


def _remove_stale_checkpoints(store: Path, run: str) -> None:
    """Remove checkpoints that a killed import of a run of this name left, so that no unit continues from them."""
    if (store / "checkpoints.db").is_file():
        with open_checkpoints(store) as saver, saver.atomic() as db:
            forget_run(db, run)


def recorded_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings to record with a run: without folders and servers of this machine, and secrets."""
    values = settings.model_dump(mode="json", exclude={*UNRECORDED})
    return values | {"langchain": redacted(settings.langchain)}


def settings_of(run: Run) -> dict[str, Any]:
    """Return the settings of a recorded run; settings introduced later have the value that matches it."""
    return recorded_settings(Settings.model_construct()) | unrecorded(run.settings) | run.settings


def work(
    components: Components, run: Run, watch: ProgressCallback | None = None, drain: RunControl | None = None
) -> Run:
    """Run the unfinished units of a run, each from its last checkpoint; failed units are left alone.

    Settings or a language model that differ from the record are recorded, and an event keeps the former ones. At
    the end the units may be revisited (``settings.revisit``).

    ``watch`` is called at the end of each node, from one thread at a time; ``drain`` requests all units to stop at
    their next checkpoint.

    Returns:
        the run with its new status: ``finished``; ``failed`` if units failed; ``interrupted`` if drained.

    Raises:
        UsageError: another process works on the run.
        TakenOverError: another process took it over while this one was suspended.
        LineError: the run stopped because a component failed; it can be resumed.
    """
    runs, drain = components.runs, drain or RunControl()
    # No lease protects a run while its components are loaded.
    if run.id not in runs.names():
        raise UsageError(f"run {run.id} was deleted meanwhile", "start a new run")
    with ExitStack() as stack:
        try:
            stack.enter_context(acquire(runs, [run.id], drain.request_drain, components.reporter(drain)))
        except DrainedError:
            return replace(run, status="interrupted")
        stack.enter_context(shared_lock(components.store))
        saver = stack.enter_context(open_checkpoints(components.store))
        if (now := runs.run(run.id)).concluded and not _pending_units(runs, run.id):
            return now
        remove_abandoned(components.store)
        stack.enter_context(components.phases.of(runs, run.id))
        if components.engine:
            components.engine.check = partial(stop_if_drained, drain)
        deps = components.deps(run.layer, run.vocabulary or (), drain)
        _record_changes(components, run)
        runs.set_status(run.id, "running")
        record_environment(runs, run, components)
        runs.add_event(run.id, "work", process=os.getpid(), host=this_machine().host)
        try:
            with components.cache.events.record_to(runs, run.id):
                # Measured first, so that concurrent units find it.
                deps.control()
                components.phases.end()
                # How the images of a stream are read is known only now.
                record_environment(runs, run, components)
                graph = build(LeaseCheckedSaver(saver, runs, run.id))
                # A unit may be steered when it has its label, while others are in progress.
                while not drain.drain_requested and (left := _requeue_units(runs, run.id)):
                    Runner(graph, deps, run, watch).work(left)
                if not drain.drain_requested and components.settings.revisit:
                    revisit(deps, [run], components.progress_for("revisit", drain))
                if not drain.drain_requested and components.settings.facets:
                    _store_facets(deps, run)
        except DrainedError:
            pass
        except TakenOverError:
            raise
        except BaseException as error:
            status = "failed" if isinstance(error, Exception) else "interrupted"
            # An error of the store itself is the one to report.
            with suppress(StoreError):
                _record_stop(runs, run.id, status, error)
            raise
        _conclude(runs, run.id, drained=drain.drain_requested)
    return runs.run(run.id)


def _store_facets(deps: Deps, run: Run) -> None:
    """Find and store the facets of a run's units; where there are too few images, an event says so."""
    try:
        store_facets(deps, run, deps.runs.units(run.id))
    except UsageError as error:
        deps.runs.add_event(run.id, "no facets", error=reason_of(error))


def refuse_resume(runs: RunStore, run: str, error: LineError) -> None:
    """Record that a run cannot be resumed as it is; a run that a process works on is left alone."""
    with suppress(UsageError, StoreError), acquire(runs, [run]):
        _record_stop(runs, run, "failed", error)


def _record_stop(runs: RunStore, run: str, status: str, error: BaseException) -> None:
    runs.set_status(run, status, error=reason_of(error))
    runs.add_event(run, "stopped", error=reason_of(error), lasting=is_lasting(error))


def _pending_units(runs: RunStore, run: str) -> list[Unit]:
    """Return the units to run: those that have not ended, and labelled ones with pending commands."""
    steered = units_with_pending(runs, run)
    return [
        unit
        for unit in runs.units(run)
        if unit.status not in ENDED or (unit.status in DONE and unit.unit in steered)
    ]


def _requeue_units(runs: RunStore, run: str) -> list[Unit]:
    """Return the units to run, and let none of them count as finished any more."""
    units = _pending_units(runs, run)
    for unit in units:
        if unit.status in DONE:
            runs.update_unit(run, unit.unit, status="pending")
    return [replace(unit, status="pending") if unit.status in DONE else unit for unit in units]


def _conclude(runs: RunStore, run: str, *, drained: bool) -> None:
    failed = runs.states(run).get("failed", 0)
    if drained:
        runs.set_status(run, "interrupted")
        runs.add_event(run, "drained")
    elif failed:
        units = "1 unit" if failed == 1 else f"{failed} units"
        runs.set_status(run, "failed", error=f"{units} failed", concluded=True)
        runs.add_event(run, "finished", failed=failed)
    else:
        runs.set_status(run, "finished", concluded=True)
        runs.add_event(run, "finished")


def retry(runs: RunStore, run: Run) -> int:
    """Set the failed units of a run to pending, and return their number; corrupt checkpoints are removed.

    Raises:
        UsageError: another process works on the run.
        StoreError: the store cannot be used.
    """
    with acquire(runs, [run.id]), open_checkpoints(runs.path.parent) as saver:
        graph = build(saver)
        failed = [unit for unit in runs.units(run.id) if unit.status == "failed"]
        for unit in failed:
            try:
                checkpoints.resumable_state(graph, run, unit.unit)
            except DamagedError:
                restart_unit(graph, runs, run, unit.unit)
            runs.update_unit(run.id, unit.unit, status="pending")
        if failed:
            runs.set_status(run.id, "pending")
            runs.add_event(run.id, "retry", units=[unit.unit for unit in failed])
    return len(failed)


def _record_changes(components: Components, run: Run) -> None:
    """Record settings and a language model that differ from the record, and the former ones in an event."""
    settings, fingerprints = recorded_settings(components.settings), components.fingerprints(run.layer)
    if (settings, fingerprints) == (settings_of(run), run.fingerprints):
        return
    changed = {name: value for name, value in settings.items() if run.settings.get(name) != value}
    components.runs.update_run(run.id, settings=settings, fingerprints=fingerprints)
    before = {name: run.settings.get(name) for name in changed}
    model = run.fingerprints.get("language_model")
    record_trust(components.runs, replace(run, settings=settings))
    components.runs.add_event(
        run.id, "settings changed", before=before, after=changed, language_model_before=model,
        language_model_after=fingerprints["language_model"],
    )  # fmt: skip


def new_run_id(runs: RunStore, model: str, layer: str) -> str:
    """Return a readable id for a new run that no run of the store has, nor refers to."""
    return free_name(used_names(runs), model, layer)
