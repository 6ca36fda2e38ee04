"""A run done again, from its record alone, in a store of its own: so that nothing comes from a cache."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langgraph.runtime import RunControl

from line_neurons.agent.errors import UsageError
from line_neurons.agent.renamed import current_names
from line_neurons.agent.settings import Settings, revised
from line_neurons.graphs.loop.state import LLMOverride
from line_neurons.graphs.runs import fork as forking
from line_neurons.graphs.runs.code_trust import record_trust
from line_neurons.graphs.runs.components import Components, OnProgress, installed_versions
from line_neurons.graphs.runs.environment import record_environment
from line_neurons.graphs.runs.lifecycle import recorded, work
from line_neurons.graphs.runs.runner import Progress, ProgressCallback
from line_neurons.tools.batching import BoundedLanguageModel
from line_neurons.tools.cache.reader import image_requests
from line_neurons.tools.label_marks import DONE, ENDED
from line_neurons.tools.language_models.langchain import with_secrets
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import commands, reschedule

if TYPE_CHECKING:
    from line_neurons.agent.ports import LanguageModel

_EVENT = "replay"
_MOST_FORKS = 100


@dataclass(frozen=True)
class Plan:
    """What of a run is done again.

    Args:
        run: the run.
        units: its units that are done again, in the order in which they were asked for.
        left_out: why others are not, by unit.
        revisit: its units are revisited at the end, as they were.
        searches_only: they were revisited, and that cannot be done again; what their searches found counts.
        note: what else is not done again, in words.
        origin: what it was forked from, and so is done before; None for a run of its own.
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
        """The plan after those of what it was forked from."""
        return [*(self.origin.whole if self.origin else ()), self]


def plan(runs: RunStore, run: Run, units: Sequence[int] = ()) -> Plan:
    """What of a recorded run can be done again.

    Args:
        runs: the run's store.
        run: the run.
        units: do these again; none: all of which something is recorded.

    Raises:
        UsageError: nothing is recorded of what is asked for, or what the run was forked from is not in the store.
    """
    every = runs.units(run.id)
    wanted = [unit for unit in every if not units or unit.unit in units]
    begun = [
        unit for unit in wanted if unit.status in DONE or next(runs.trials(run.id, unit.unit), None) is not None
    ]
    left_out = {unit.unit: "nothing of it is recorded" for unit in wanted if unit not in begun}
    if not begun:
        raise UsageError(
            f"of run {run.id} no step of what is asked for is recorded", f"line resume {run.id} works on it"
        )
    done = [event["detail"].get("runs") for event in runs.events(run.id) if event["kind"] == "revisited"]
    looked_at = "" if not done else "other runs too" if done[-1] != [run.id] else "all units"
    again = looked_at == "all units" and begun == every and runs.states(run.id).keys() <= DONE
    left = f"the revisit, which looked at {looked_at}, is left out: what the searches found is compared"
    return Plan(
        run,
        tuple(begun),
        left_out,
        revisit=again,
        searches_only=bool(done) and not again,
        note=left if done and not again else "",
        origin=None if run.forked_from is None else _origin(runs, run),
    )


def _origin(runs: RunStore, run: Run, depth: int = 0) -> Plan:
    name, unit, step = run.forked_from, run.forked_unit, run.forked_step
    if name not in runs.names() or unit is None or step is None or depth == _MOST_FORKS:
        raise UsageError(
            f"run {run.id} cannot be done again: it was forked from {name}, which is not in this store",
            "name a store that has both runs",
        )
    found = runs.run(name or "")
    units = tuple(one for one in runs.units(found.id) if one.unit == unit)
    return Plan(found, units, origin=None if found.forked_from is None else _origin(runs, found, depth + 1))


def components_of(
    runs: RunStore,
    plan: Plan,
    into: Path,
    machine: Settings,
    on_progress: OnProgress | None = None,
    changes: Mapping[str, Any] | None = None,
) -> list[Components]:
    """The parts of each replay of ``plan.whole``: by the recorded settings, as they are here, in another store.

    Args:
        runs: the store of what is done again.
        plan: what is done again.
        into: the folder of the replay's own store.
        machine: settings of this machine: where asset packs and servers are, and secrets.
        on_progress: told of long work.
        changes: settings that do not alter what comes out, such as the device.

    Raises:
        UsageError: a recorded setting does not fit any more.
    """
    made: list[Components] = []
    for one in plan.whole:
        failed = sum(unit.status == "failed" for unit in one.units)
        own = {
            **(changes or {}),
            "store": into,
            "assets": machine.assets,
            "ollama": machine.ollama,
            "revisit": one.revisit,
            # What failed may fail again, and that is to be found out.
            "max_consecutive_failures": max(one.run.settings.get("max_consecutive_failures", 1), failed + 1),
        }
        components = Components(
            one.run.model, _settings(one.run.settings, own, machine), on_progress, {one.run.layer}
        )
        components.llm_overrides.update(_llm_overrides(runs, one, components, own, machine))
        # No fork has another target.
        made.append(components.with_(target=made[0].target) if made else components)
    return made


def _settings(recorded: Mapping[str, Any], own: Mapping[str, Any], machine: Settings) -> Settings:
    secrets = with_secrets(recorded.get("langchain", {}), machine.langchain)
    return revised({**recorded, "langchain": secrets}, own)


def replay_run(
    runs: RunStore,
    plan: Plan,
    components: Sequence[Components],
    watch: ProgressCallback | None = None,
    drain: RunControl | None = None,
    command: str = "",
) -> Run:
    """Do a run again, or what is left of it; what it was forked from first, as far as the fork needs it.

    Args:
        runs: the store of what is done again.
        plan: what is done again.
        components: see ``components_of``.
        watch: told of the end of each node.
        drain: asks all units to stop at their next checkpoint; then the replay's status is ``interrupted``.
        command: what the user typed, for the record.

    Raises:
        UsageError: the store of the replay holds something else, or another process works on it; or what the run
            was forked from parts from its record before that step.
        LineError: a part failed or is missing; the same again goes on.
    """
    drain = drain or RunControl()
    *before, last = zip(plan.whole, components, strict=True)
    for (one, own), after in zip(before, plan.whole[1:], strict=True):
        new = begin(runs, one, own, command)
        regenerate_vocabulary(runs, one, own)
        _until(own, new, after.run.forked_step or 0, watch, drain)
        if drain.drain_requested:
            return replace(new, status="interrupted")
    new = begin(runs, *last, command)
    regenerate_vocabulary(runs, *last)
    return work(last[1], new, watch, drain)


def _until(components: Components, run: Run, step: int, watch: ProgressCallback | None, drain: RunControl) -> None:
    """Work on a run until its unit has ended a step, or is asked to stop."""
    here = RunControl()

    def look(progress: Progress) -> None:
        if progress.step > step:
            here.request_drain("far enough")
        if drain.drain_requested:
            here.request_drain(drain.drain_reason or "")
        if watch:
            watch(progress)

    work(components, run, look, here)


def begin(runs: RunStore, plan: Plan, components: Components, command: str = "") -> Run:
    """The replay of a run, as it stands in its own store, or a new one, ready to be worked on.

    What people asked of the units is asked again, to be granted where it was granted before.

    Raises:
        UsageError: see ``replay_run``.
    """
    run, into = plan.run, components.runs
    if known := find(into, plan):
        return known
    if plan.origin is None:
        return _begin(runs, plan, components, command)
    origin, unit, step = find(into, plan.origin), run.forked_unit, run.forked_step
    assert origin is not None and unit is not None and step is not None
    with into.atomic():
        try:
            new = forking.fork(components, origin, unit, step, command=command, ended=True)
        except UsageError as error:
            comes_out = f"run {run.id} cannot be done again, as {plan.origin.run.id} comes out differently"
            raise UsageError(
                f"{comes_out}: {error.message}",
                f"line replay {plan.origin.run.id} {unit} shows how",
            ) from error
        _mark(into, new, plan)
        later = [wish for wish in commands(runs, run.id, unit) if (wish.step or 0) > step]
        reschedule(into, new.id, unit, later)
    return new


def _begin(runs: RunStore, plan: Plan, components: Components, command: str) -> Run:
    run, into = plan.run, components.runs
    if into.names():
        raise UsageError(f"{into.path.parent} has runs of its own", "name a new folder with --into")
    new = replace(
        run,
        status="pending",
        created=time.time(),
        finished=None,
        error="",
        settings=recorded(components.settings),
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


def find(into: RunStore, plan: Plan) -> Run | None:
    """The replay of a plan in a store of replays; None if there is none."""
    for name in into.names():
        for event in into.events(name):
            if event["kind"] == _EVENT and event["detail"] == _named(plan):
                return into.run(name)
    return None


def _named(plan: Plan) -> dict[str, Any]:
    units = sorted(unit.unit for unit in plan.units)
    return {"of": plan.run.id, "created": plan.run.created, "units": units}


def replay_folder(runs: RunStore, plan: Plan) -> Path:
    """Where a replay goes unless the user says otherwise: to an unfinished one of the same, or a new folder."""
    base, number = runs.path.parent / "replays", 1
    while (folder := base / f"{plan.run.id}-{number}" / "runs.db").is_file():
        with closing(RunStore(folder.parent, read_only=True)) as into:
            done = find(into, plan)
            begun = done or not into.names() or any(find(into, one) for one in plan.whole)
        if begun and (done is None or done.status not in ENDED):
            break
        number += 1
    return folder.parent


def regenerate_vocabulary(runs: RunStore, plan: Plan, components: Components) -> None:
    """Draw again what a first board of the store's concepts was chosen from; nothing for other first boards.

    Raises:
        LineError: an image cannot be drawn.
    """
    run = plan.run
    if components.settings.init != "cache":
        return
    words, generator = run.vocabulary or (), str(run.fingerprints.get("generator"))
    told = components.progress_for("drawing the store's concepts")
    for done, word in enumerate(words):
        asked = image_requests(runs.path.parent, word, generator, components.settings.images)
        components.cache.images(asked, components.generator)
        if told:
            told(done + 1, len(words))


def _llm_overrides(
    runs: RunStore, plan: Plan, components: Components, own: Mapping[str, Any], machine: Settings
) -> dict[int, LLMOverride]:
    """The questions of a run whose settings or language model were changed on its way, by seed."""
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
