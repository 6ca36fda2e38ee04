"""Forks: a new run that continues from the state of a unit after a step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from line_neurons.agent.errors import UsageError
from line_neurons.agent.loop import LAST
from line_neurons.agent.settings import revised
from line_neurons.graphs.loop.graph import build
from line_neurons.graphs.loop.reconstruct import KINDS, state_after
from line_neurons.graphs.loop.routing import next_kind
from line_neurons.graphs.runs.code_trust import record_trust
from line_neurons.graphs.runs.components import Components, installed_versions
from line_neurons.graphs.runs.environment import record_environment
from line_neurons.graphs.runs.lifecycle import new_run_id, recorded
from line_neurons.tools.store.checkpoints import open_checkpoints, thread_config
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.steering_queue import commands, copy_applied, submit_all


def fork(
    components: Components,
    run: Run,
    unit: int,
    step: int,
    *,
    concept: str = "",
    command: str = "",
    ended: bool = False,
) -> Run:
    """Write a new run of one unit, ready to be worked on, that begins where the unit stood after a step.

    The history up to that step is copied, and what people had asked until then; the other run stays as it is. With
    nothing changed the new run ends as the other one did.

    Args:
        components: model and settings of the new run; see ``agent.settings.fork_changes`` for what may be another.
        run: the run to fork.
        unit: index of a unit of it.
        step: the last step that is kept; 0 for the first board.
        concept: a concept of one's own that comes next.
        command: what the user typed, for the record.
        ended: the search may have ended with that step; something will be asked of the new run.

    Raises:
        UsageError: there is no such unit or step, nothing would come after it, or the concept cannot be tried.
        StoreError: the store cannot be used.
    """
    runs, settings = components.runs, components.settings
    found = next((one for one in runs.units(run.id) if one.unit == unit), None)
    if found is None:
        raise UsageError(f"run {run.id} has no unit {unit!r:.60}", f"see `line show {run.id}`")
    history = [entry for entry in runs.steps(run.id, unit) if entry.kind in KINDS]
    _check_step(history, run, unit, step)
    kept = [entry for entry in history if entry.step <= step]
    fingerprints = components.fingerprints(run.layer)
    with open_checkpoints(components.store) as saver, runs.atomic():
        graph = build(saver)
        state = state_after(revised(run.settings, {}), history, commands(runs, run.id, unit), step)
        if state["kind"] != "initial":
            state |= next_kind(state, KINDS[kept[-1].kind], settings)
        if state["kind"] == "end" and not (concept or ended):
            raise UsageError(
                f"the search of unit {unit} of run {run.id} ended with step {step}",
                "name an earlier step, more iterations, or a --concept to try",
            )
        new = Run(
            id=new_run_id(runs, run.model, run.layer),
            model=run.model,
            layer=run.layer,
            seed=settings.seed,
            status="pending",
            created=time.time(),
            settings=recorded(settings),
            fingerprints=fingerprints,
            versions=installed_versions(),
            command=command,
            vocabulary=run.vocabulary,
            forked_from=run.id,
            forked_unit=unit,
            forked_step=step,
        )
        runs.add_run(new, [Unit(new.id, unit, 0, name=found.name)])
        record_environment(runs, new, components, began=True)
        runs.put_steps([replace(entry, run=new.id) for entry in kept])
        copied = copy_applied(runs, run.id, unit, step, new.id)
        state |= {
            "run": new.id,
            "unit": unit,
            "wishes": [[one.id, one.step or 0, one.attempt or 0, one.node or "", one.outcome] for one in copied],
        }
        # A process that was killed here before may have left some.
        saver.delete_thread(f"{new.id}/{unit}")
        graph.update_state(thread_config(new.id, unit), cast("dict[str, Any]", state), as_node=LAST)
        if concept:
            submit_all(runs, new, unit, [("try", concept)])
        runs.add_event(new.id, "forked", unit, forked_from=run.id, step=step)
        record_trust(runs, new)
    return new


def _check_step(history: Sequence[Step], run: Run, unit: int, step: int) -> None:
    ended = {entry.step for entry in history if entry.kind == "initial" or entry.outcome in {"scored", "stalled"}}
    if step not in ended:
        known = f"its steps are {min(ended)} to {max(ended)}" if ended else "it has none yet"
        raise UsageError(f"unit {unit} of run {run.id} has no step {step} that has ended", known)
