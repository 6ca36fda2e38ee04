"""Replay a run from its record alone, in a store of its own, so that nothing comes from a cache."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from langgraph.runtime import RunControl

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import LanguageModel
from line_neurons.agent.settings import Settings, revised
from line_neurons.agent.settings_sources import current_names
from line_neurons.graphs.loop.state import LLMOverride
from line_neurons.graphs.runs import fork as forking
from line_neurons.graphs.runs.code_trust import record_trust
from line_neurons.graphs.runs.components import Components, OnProgress
from line_neurons.graphs.runs.environment import record_environment
from line_neurons.graphs.runs.lifecycle import recorded_settings, work
from line_neurons.graphs.runs.runner import Progress, ProgressCallback
from line_neurons.tools.batching import BoundedLanguageModel
from line_neurons.tools.cache.reader import image_requests
from line_neurons.tools.label_marks import DONE, ENDED
from line_neurons.tools.language_models.arguments import langchain_here, servers_of
from line_neurons.tools.packages import installed_versions
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import commands, reschedule

_EVENT = "replay"
_MOST_FORKS = 100


@dataclass(frozen=True)
class Plan:
    """What of a run is replayed.

    Args:
        units: its units to replay, in their order.
        left_out: why other units are not replayed, by unit.
        revisit: the units are revisited at the end, as they were.
        searches_only: they were revisited, which cannot be replayed; the results of their searches are compared.
        note: what else is not replayed, in words.
        origin: the run that it was forked from, which is replayed first; None if it is no fork.
    """

    run: Run
    units: tuple[Unit, ...]
    left_out: Mapping[int, str] = field(default_factory=dict)
    revisit: bool = False
    searches_only: bool = False
    note: str = ""
    origin: Plan | None = None

    @property
    def whole(self) -> list[Plan]:
        """The plans of its origins, and then the plan itself."""
        return [*(self.origin.whole if self.origin else ()), self]


def plan(runs: RunStore, run: Run, units: Sequence[int] = ()) -> Plan:
    """Plan the replay of a recorded run: of the given units, or of all that have recorded steps.

    Raises:
        UsageError: no step of these units is recorded, or the run's origin is not in the store.
    """
    every = runs.units(run.id)
    wanted = [unit for unit in every if not units or unit.unit in units]
    replayable = [
        unit for unit in wanted if unit.status in DONE or next(runs.trials(run.id, unit.unit), None) is not None
    ]
    left_out = {unit.unit: "no step of it is recorded" for unit in wanted if unit not in replayable}
    if not replayable:
        raise UsageError(
            f"no step of these units of run {run.id} is recorded", f"run it first: line resume {run.id}"
        )
    revisits = [event["detail"].get("runs") for event in runs.events(run.id) if event["kind"] == "revisited"]
    covered = "" if not revisits else "other runs too" if revisits[-1] != [run.id] else "all units"
    again = covered == "all units" and replayable == every and runs.states(run.id).keys() <= DONE
    left = f"the revisit, which covered {covered}, is not replayed; the results of the searches are compared"
    return Plan(
        run,
        tuple(replayable),
        left_out,
        revisit=again,
        searches_only=bool(revisits) and not again,
        note=left if revisits and not again else "",
        origin=None if run.forked_from is None else _origin(runs, run),
    )


def _origin(runs: RunStore, run: Run, depth: int = 0) -> Plan:
    name, unit, step = run.forked_from, run.forked_unit, run.forked_step
    if name not in runs.names() or unit is None or step is None or depth == _MOST_FORKS:
        raise UsageError(
            f"run {run.id} cannot be replayed: it was forked from {name}, which is not in this store",
            "name a store that has both runs",
        )
    origin = runs.run(name or "")
    units = tuple(row for row in runs.units(origin.id) if row.unit == unit)
    return Plan(origin, units, origin=None if origin.forked_from is None else _origin(runs, origin, depth + 1))


def components_of(
    runs: RunStore,
    plan: Plan,
    into: Path,
    machine: Settings,
    on_progress: OnProgress | None = None,
    changes: Mapping[str, Any] | None = None,
) -> list[Components]:
    """Open the components of each replay of ``plan.whole``: by the recorded settings, in another store.

    ``runs`` is the store of the run, ``into`` the folder of the replay's own store, ``machine`` has the folders,
    servers and secrets of this machine, and ``changes`` settings that do not alter results, such as the device.

    Raises:
        UsageError: a recorded setting does not fit any more.
    """
    opened: list[Components] = []
    for part in plan.whole:
        failed = sum(unit.status == "failed" for unit in part.units)
        own = {
            **servers_of(machine),
            **(changes or {}),
            "store": into,
            "assets": machine.assets,
            "revisit": part.revisit,
            # Units that failed may fail again, which must not stop the replay.
            "max_consecutive_failures": max(part.run.settings.get("max_consecutive_failures", 1), failed + 1),
        }
        components = Components(
            part.run.model, _settings(part.run.settings, own, machine), on_progress, {part.run.layer}
        )
        components.llm_overrides.update(_llm_overrides(runs, part, components, own, machine))
        # No fork has another target.
        opened.append(components.with_(target=opened[0].target) if opened else components)
    return opened


def _settings(recorded: Mapping[str, Any], own: Mapping[str, Any], machine: Settings) -> Settings:
    return revised({**recorded, "langchain": langchain_here(recorded, machine)}, own)


def replay_run(
    runs: RunStore,
    plan: Plan,
    components: Sequence[Components],
    watch: ProgressCallback | None = None,
    drain: RunControl | None = None,
    command: str = "",
) -> Run:
    """Replay a run, or resume its replay; first its origins, as far as the fork needs them.

    ``components`` are those of ``components_of``; after a stop that ``drain`` requests, the replay's status is
    ``interrupted``.

    Raises:
        UsageError: the replay's store holds something else, or another process works on it; or an origin's replay
            diverges before the step of the fork.
        LineError: a component failed or is missing; the same call resumes.
    """
    drain = drain or RunControl()
    *before, last = zip(plan.whole, components, strict=True)
    for (part, own), after in zip(before, plan.whole[1:], strict=True):
        new = start_replay(runs, part, own, command)
        regenerate_vocabulary(runs, part, own)
        _until(own, new, after.run.forked_step or 0, watch, drain)
        if drain.drain_requested:
            return replace(new, status="interrupted")
    new = start_replay(runs, *last, command)
    regenerate_vocabulary(runs, *last)
    return work(last[1], new, watch, drain)


def _until(components: Components, run: Run, step: int, watch: ProgressCallback | None, drain: RunControl) -> None:
    """Run until the unit has ended a step, or a stop is requested."""
    here = RunControl()

    def on_node(progress: Progress) -> None:
        if progress.step > step:
            here.request_drain("far enough")
        if drain.drain_requested:
            here.request_drain(drain.drain_reason or "")
        if watch:
            watch(progress)

    work(components, run, on_node, here)


def start_replay(runs: RunStore, plan: Plan, components: Components, command: str = "") -> Run:
    """Return the recorded replay of a plan, or record a new one, ready for ``work``.

    Steering commands are scheduled for where they were applied before.

    Raises:
        UsageError: see ``replay_run``.
    """
    run, into = plan.run, components.runs
    if known := find_replay(into, plan):
        return known
    if plan.origin is None:
        return _start_replay(runs, plan, components, command)
    origin, unit, step = find_replay(into, plan.origin), run.forked_unit, run.forked_step
    assert origin is not None and unit is not None and step is not None
    with into.atomic():
        try:
            new = forking.fork(components, origin, unit, step, command=command, ended=True)
        except UsageError as error:
            diverges = f"run {run.id} cannot be replayed, as the replay of {plan.origin.run.id} differs"
            raise UsageError(
                f"{diverges}: {error.message}",
                f"line replay {plan.origin.run.id} {unit} shows how",
            ) from error
        _mark(into, new, plan)
        later = [command for command in commands(runs, run.id, unit) if (command.step or 0) > step]
        reschedule(into, new.id, unit, later)
    return new


def _start_replay(runs: RunStore, plan: Plan, components: Components, command: str) -> Run:
    run, into = plan.run, components.runs
    if into.names():
        raise UsageError(f"{into.path.parent} has runs of its own", "name a new folder with --into")
    new = replace(
        run,
        status="pending",
        created=time.time(),
        finished=None,
        error="",
        settings=recorded_settings(components.settings),
        fingerprints=components.fingerprints(run.layer),
        versions=installed_versions(),
        command=command,
    )
    with into.atomic():
        rows = [Unit(new.id, unit.unit, place, name=unit.name) for place, unit in enumerate(plan.units)]
        into.add_run(new, rows)
        record_environment(into, new, components, began=True)
        _mark(into, new, plan)
        for unit in plan.units:
            reschedule(into, new.id, unit.unit, commands(runs, run.id, unit.unit))
    record_trust(into, new)
    return new


def _mark(into: RunStore, new: Run, plan: Plan) -> None:
    into.add_event(new.id, _EVENT, **_named(plan))


def find_replay(into: RunStore, plan: Plan) -> Run | None:
    """Find the replay of a plan in a store of replays, or None."""
    for name in into.names():
        for event in into.events(name):
            if event["kind"] == _EVENT and event["detail"] == _named(plan):
                return into.run(name)
    return None


def _named(plan: Plan) -> dict[str, Any]:
    units = sorted(unit.unit for unit in plan.units)
    return {"of": plan.run.id, "created": plan.run.created, "units": units}


def replay_folder(runs: RunStore, plan: Plan) -> Path:
    """Return the default folder of a replay: that of an unfinished one of the same plan, or a new one."""
    base, number = runs.path.parent / "replays", 1
    while (folder := base / f"{plan.run.id}-{number}" / "runs.db").is_file():
        with closing(RunStore(folder.parent, read_only=True)) as into:
            done = find_replay(into, plan)
            fits = done or not into.names() or any(find_replay(into, part) for part in plan.whole)
        if fits and (done is None or done.status not in ENDED):
            break
        number += 1
    return folder.parent


def regenerate_vocabulary(runs: RunStore, plan: Plan, components: Components) -> None:
    """Generate the concepts that first boards of a cache were chosen from; nothing for other first boards.

    Raises:
        LineError: an image cannot be generated.
    """
    run = plan.run
    if components.settings.init != "cache":
        return
    words, generator = run.vocabulary or (), str(run.fingerprints.get("generator"))
    report = components.progress_for("generating the store's concepts")
    for done, word in enumerate(words):
        requests = image_requests(runs.path.parent, word, generator, components.settings.images)
        components.cache.images(requests, components.generator)
        if report:
            report(done + 1, len(words))


def _llm_overrides(
    runs: RunStore, plan: Plan, components: Components, own: Mapping[str, Any], machine: Settings
) -> dict[int, LLMOverride]:
    """Return the overrides of a run whose settings or language model changed while it ran."""
    run = plan.run
    changed = [event["detail"] for event in runs.events(run.id) if event["kind"] == "settings changed"]
    if not changed:
        return {}
    settings = dict(run.settings)
    before: dict[str, dict[str, Any]] = {}
    for detail in reversed(changed):
        settings |= current_names(detail.get("before") or {})
        before[str(detail.get("language_model_before"))] = dict(settings)

    @cache
    def model(fingerprint: str) -> LanguageModel:
        if fingerprint == run.fingerprints.get("language_model") or fingerprint not in before:
            return components.language_model
        earlier = Components(run.model, _settings(before[fingerprint], own, machine)).language_model
        return BoundedLanguageModel(earlier, components.settings.llm_parallel, check=lambda: None)

    return {
        step.seed: LLMOverride(model(step.model), step.temperature)
        for unit in plan.units
        for step in runs.steps(run.id, unit.unit)
        if step.seed is not None and step.temperature is not None and step.model is not None
    }
