"""Forks: a new run that continues from the state of a unit after a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from line_neurons.agent.errors import UsageError
from line_neurons.agent.loop import LAST
from line_neurons.agent.settings import revised
from line_neurons.graphs.loop.graph import build
from line_neurons.graphs.loop.reconstruct import KINDS, state_after
from line_neurons.graphs.loop.routing import next_kind
from line_neurons.graphs.loop.state import LineState
from line_neurons.graphs.runs.code_trust import record_trust
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.environment import record_environment
from line_neurons.graphs.runs.lifecycle import new_run
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
    """Record a new run of one unit, ready for ``work``, that continues from a step of another run.

    The history up to that step is copied, and the steering commands applied until then; the other run stays as it
    is. With nothing changed the new run ends as the other one did.

    Args:
        components: the components of the new run; ``agent.setting_groups.forks`` lists what may differ.
        step: the last step that is copied; 0 for the first board.
        ended: the search may have ended with that step; the new run is steered further.

    Raises:
        UsageError: there is no such unit or step, nothing would follow it, or the concept cannot be tried.
        StoreError: the store cannot be used.
    """
    runs = components.runs
    source = runs.unit(run.id, unit)
    if source is None:
        raise UsageError(f"run {run.id} has no unit {unit!r:.60}", f"see `line show {run.id}`")
    history = [entry for entry in runs.steps(run.id, unit) if entry.kind in KINDS]
    _check_step(history, run, unit, step)
    fingerprints = components.fingerprints(run.layer)
    with open_checkpoints(components.store) as saver, runs.atomic():
        state = _state_after(components, run, unit, history, step)
        if state["kind"] == "end" and not (concept or ended):
            raise UsageError(
                f"the search of unit {unit} of run {run.id} ended with step {step}",
                "name an earlier step, more iterations, or a --concept to try",
            )
        new = new_run(
            components, run.model, run.layer, fingerprints, command, vocabulary=run.vocabulary,
            forked_from=run.id, forked_unit=unit, forked_step=step,
        )  # fmt: skip
        runs.add_run(new, [Unit(new.id, unit, 0, name=source.name)])
        record_environment(runs, new, components, began=True)
        runs.put_steps([replace(entry, run=new.id) for entry in history if entry.step <= step])
        applied = copy_applied(runs, run.id, unit, step, new.id)
        state |= {
            "run": new.id,
            "unit": unit,
            "wishes": [[row.id, row.step or 0, row.attempt or 0, row.node or "", row.outcome] for row in applied],
        }
        # A process that was killed here before may have left some.
        saver.delete_thread(f"{new.id}/{unit}")
        values = cast("dict[str, Any]", state)
        build(saver).update_state(thread_config(new.id, unit), values, as_node=LAST)
        if concept:
            submit_all(runs, new, unit, [("try", concept)])
        runs.add_event(new.id, "forked", unit, forked_from=run.id, step=step)
        record_trust(runs, new)
    return new


def _state_after(components: Components, run: Run, unit: int, history: Sequence[Step], step: int) -> LineState:
    """Reconstruct the state at the end of a step; the new run's settings decide what follows."""
    queue = commands(components.runs, run.id, unit)
    state = state_after(revised(run.settings, {}), history, queue, step)
    if state["kind"] == "initial":
        return state
    last = [entry for entry in history if entry.step <= step][-1]
    return state | next_kind(state, KINDS[last.kind], components.settings)


def _check_step(history: Sequence[Step], run: Run, unit: int, step: int) -> None:
    ended = {entry.step for entry in history if entry.kind == "initial" or entry.outcome in {"scored", "stalled"}}
    if step not in ended:
        known = f"its steps are {min(ended)} to {max(ended)}" if ended else "it has none yet"
        raise UsageError(f"unit {unit} of run {run.id} has no step {step} that has ended", known)
