"""What ``line explain``, ``batch``, ``resume``, ``retry``, ``revisit`` and ``demo`` do: work, then the labels."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer
from langgraph.runtime import RunControl

from line_neurons.agent.errors import DrainedError, LineError, TakenOverError, UsageError
from line_neurons.agent.settings import Settings
from line_neurons.agent.text import shell_word
from line_neurons.graphs.runs.code_trust import record_trust
from line_neurons.graphs.runs.components import Components, reopen
from line_neurons.graphs.runs.lifecycle import retry as mark_failed_again
from line_neurons.graphs.runs.lifecycle import select_units, start, work
from line_neurons.graphs.runs.revisit import revisit_recorded
from line_neurons.graphs.runs.runner import last_step
from line_neurons.tools.cache.activation_cache import CacheStats
from line_neurons.tools.language_models.langchain import with_secrets
from line_neurons.tools.language_models.ollama.address import without_passwords
from line_neurons.tools.store.leases import refuse_leased
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.run_problems import run_problems
from line_neurons.tools.store.runs import RunStore, default_store, open_store
from line_neurons.tools.store.steering_queue import units_with_pending
from line_neurons.tui import formatting as wording
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli import show as showing
from line_neurons.tui.cli.exit_codes import ALL_REFUSED, INTERRUPTED, UNITS_FAILED
from line_neurons.tui.cli.progress import Watching
from line_neurons.tui.cli.signals import draining

DEMO_MODEL = "torchvision:mobilenet_v2@IMAGENET1K_V1"
DEMO_COMMAND = "line demo"
# Layer and units: classes whose names tell whether the label is right, and units of the layer before (its mean
# over positions is what the classifier sees), the first three of random.seed(42), random.sample(range(1280), 50).
DEMO_UNITS = (
    ("classifier.1", ("castle", "violin", "killer whale")),
    ("features.18", ("228", "51", "563")),
)
DEMO_PARTS = {"llm": "embedded", "generator": "bank", "control": "bank", "init": "control"}
_BATCH = {"max_concurrent_units": 16, "max_consecutive_failures": 10, "revisit": True}

Job = tuple[Components, Run]
"""A run to work on, with its parts."""


def batch_settings(settings: Settings) -> Settings:
    """Settings of a batch: what neither flags, the environment nor line.toml say is as it suits many units.

    Raises:
        UsageError: an address of language model servers is not one.
    """
    from line_neurons.tools.language_models.registry import default_parallel

    defaults = {**_BATCH, "llm_parallel": default_parallel(settings)}
    unsaid = {name: value for name, value in defaults.items() if name not in settings.model_fields_set}
    return settings.model_copy(update=unsaid)


def explain(model: str, layers: Sequence[str], units: Sequence[str], settings: Settings, *, as_json: bool) -> None:
    """Start a run on each layer and work on them."""
    with Watching() as watching:
        components = Components(model, settings, watching.preparing)
        layers = list(dict.fromkeys(layer.strip() for layer in layers))
        for layer in layers:
            select_units(components, layer, units)
        command = shlex.join(["line", *without_passwords(sys.argv[1:])])
        _say_remarks(components)
        jobs = [(components, start(components, layer, units, command=command)) for layer in layers]
        work_on(jobs, watching)
    if status := conclude(jobs, as_json=as_json):
        raise typer.Exit(status)


def resume(
    name: str | None, settings: Settings, changes: Mapping[str, Any], *, as_json: bool, trust: bool = False
) -> None:
    """Work on a run, or on every unfinished one, oldest first; failed units are left alone.

    Args:
        name: the run; None for every unfinished one. One that cannot go on keeps no other from its turn.
        settings: where the store and the asset packs are.
        changes: settings that are other than recorded from now on.
        as_json: print JSON.
        trust: run code of one's own that a run names, whoever began it.

    Raises:
        LineError: nothing is left to do, or the run, or each of the unfinished ones, cannot go on.
        Exit: with status 2 if some could not go on, 1 if units failed, 3 if no answer was usable, 130 if it was
            interrupted.
    """
    store = settings.store or default_store()
    opened = open_store(store, read_only=False)
    if name is None:
        found = [run for run in reversed(opened.runs()) if _is_unfinished(opened, run)]
        if not found:
            failed = [run.id for run in opened.runs() if opened.states(run.id).get("failed")]
            remedy = f"failed units are taken again by: line retry {failed[0]}" if failed else "see `line runs`"
            raise UsageError(f"there is nothing to resume in {store}", remedy)
    else:
        found = [opened.run(name)]
    opened.close()
    vouch_for(store, found, trust=trust)
    _go_on(found, settings, changes, as_json=as_json)


def retry(
    name: str, settings: Settings, changes: Mapping[str, Any], *, as_json: bool, trust: bool = False
) -> None:
    """Work on the failed units of a run again, and on those that are not finished.

    Args:
        name: the run.
        settings: where the store and the asset packs are.
        changes: settings that are other than recorded from now on.
        as_json: print JSON.
        trust: run code of one's own that a run names, whoever began it.

    Raises:
        LineError: no unit failed, or the run cannot go on.
        Exit: with status 1 if units failed again, 3 if no answer was usable, 130 if it was interrupted.
    """
    opened = open_store(settings.store or default_store(), read_only=False)
    run = opened.run(name)
    if not opened.states(run.id).get("failed"):
        remedy = f"line resume {run.id}" if _is_unfinished(opened, run) else "see `line show` for its labels"
        raise UsageError(f"no unit of run {run.id} has failed", remedy)
    opened.close()
    vouch_for(settings.store or default_store(), [run], trust=trust)
    _go_on([run], settings, changes, as_json=as_json, again=True)


def revisit(
    names: Sequence[str], settings: Settings, changes: Mapping[str, Any], *, as_json: bool, trust: bool = False
) -> None:
    """Give the units of recorded runs the best concept that any unit of them found, and show what changed.

    Args:
        names: runs of one layer of one model.
        settings: where the store and the asset packs are.
        changes: settings of the machine that are other than recorded.
        as_json: print JSON.
        trust: run code of one's own that a run names, whoever began it.

    Raises:
        LineError: see ``graphs.revisit.revisit_recorded``.
    """
    opened = open_store(settings.store or default_store(), read_only=False)
    runs = list({run.id: run for run in map(opened.run, names)}.values())
    opened.close()
    vouch_for(settings.store or default_store(), runs, trust=trust)
    with Watching() as watching, draining() as drain:
        try:
            found = revisit_recorded(runs, settings.store, settings.assets, watching.preparing, changes, drain)
        except DrainedError:
            terminal.note(f"{_stopped(drain)}; nothing was changed.")
            raise typer.Exit(INTERRUPTED) from None
    showing.revisited(found, as_json=as_json)


def demo(settings: Settings, *, as_json: bool) -> None:
    """Install what the demo needs, label its units, and show them.

    Both layers are measured in the same forward passes. Unfinished runs of an earlier demo are finished instead
    of started again.
    """
    from line_neurons.tools.assets.location import assets_root
    from line_neurons.tools.assets.packs import select
    from line_neurons.tui.cli.assets import install

    install(select(["demo"]), settings.assets or assets_root())
    began = time.monotonic()
    store = settings.store or default_store()
    with Watching() as watching:
        reopening = Reopening(settings, watching, {})
        jobs: list[Job] = []
        known = RunStore(store)
        for run in reversed(known.runs()):
            same = (run.command, run.settings["llm"], run.seed) == (DEMO_COMMAND, settings.llm, settings.seed)
            if same and _is_unfinished(known, run):
                # A demo that another version of some part began stays as it is; a new one starts.
                with suppress(UsageError):
                    jobs.append(reopening.job(run))
        if not jobs:
            components = Components(DEMO_MODEL, settings, watching.preparing, {layer for layer, _ in DEMO_UNITS})
            jobs = [
                (components, start(components, layer, units, command=DEMO_COMMAND)) for layer, units in DEMO_UNITS
            ]
        work_on(jobs, watching)
    status = conclude(jobs, as_json=as_json)
    if not as_json:
        minutes = (time.monotonic() - began) / 60
        terminal.line(f"Labelled in {minutes:.1f} minutes.")
    if status:
        raise typer.Exit(status)


def _is_unfinished(opened: RunStore, run: Run) -> bool:
    return wording.is_unfinished(run, opened.states(run.id), units_with_pending(opened, run.id))


def vouch_for(store: Path, runs: Sequence[Run], *, trust: bool) -> None:
    """Let the code that runs name be run, where the user trusts it."""
    if not trust:
        return
    opened = RunStore(store)
    for run in runs:
        record_trust(opened, run)
    opened.close()


class Reopening:
    """Opens recorded runs; those with the same model and settings share their parts."""

    def __init__(self, settings: Settings, watching: Watching, changes: Mapping[str, Any]) -> None:
        self._settings = settings
        self._watching = watching
        self._changes = changes
        self._opened: dict[str, Components] = {}

    def job(self, run: Run) -> Job:
        """A recorded run with its parts."""
        key = json.dumps([run.model, run.settings, run.fingerprints], sort_keys=True)
        components = self._opened.get(key)
        if components is None:
            settings, told = self._settings, self._watching.preparing
            arguments = settings.langchain
            if "llm" not in self._changes:
                arguments = with_secrets(run.settings.get("langchain", {}), arguments)
            changes = {"ollama": settings.ollama, **self._changes, "langchain": arguments}
            components = reopen(run, settings.store, settings.assets, told, changes)
            self._opened[key] = components
        components.layers.add(run.layer)
        return components, run


def _go_on(
    runs: Sequence[Run], settings: Settings, changes: Mapping[str, Any], *, as_json: bool, again: bool = False
) -> None:
    """Work on recorded runs, with ``again`` on their failed units too; what cannot go on is told at the end."""
    errors: list[LineError] = []
    jobs: list[Job] = []
    opened = open_store(settings.store or default_store())
    with Watching() as watching:
        reopening = Reopening(settings, watching, changes)
        for run in runs:
            with _collecting(errors):
                # Before parts are opened, which may take minutes.
                refuse_leased(opened, run.id)
                components, _ = job = reopening.job(run)
                if again:
                    mark_failed_again(components.runs, run)
                jobs.append(job)
        done = work_on(jobs, watching, errors)
    if len(runs) == len(errors) == 1:
        raise errors[0]
    status = conclude(done, as_json=as_json) if done else 0
    for error in errors:
        terminal.complain(error)
    if errors or status:
        raise typer.Exit(2 if errors else status)


@contextmanager
def _collecting(errors: list[LineError] | None) -> Iterator[None]:
    try:
        yield
    except LineError as error:
        if errors is None:
            raise
        errors.append(error)


def work_on(jobs: Sequence[Job], watching: Watching, errors: list[LineError] | None = None) -> list[Job]:
    """Work on runs one after the other, and give those that went through.

    Args:
        jobs: the runs.
        watching: shows how far they are.
        errors: where the error of a run that cannot go on is put; None to stop there.

    Raises:
        LineError: a run cannot go on, and there is no list for it.
        Exit: it was interrupted; status 130.
    """
    steps = [_steps_of(components, run) for components, run in jobs]
    watching.steps_in_all = sum(steps)
    done: list[Job] = []
    for index, (components, run) in enumerate(jobs):
        watching.steps_before = sum(steps[:index])
        watching.many = (
            components.settings.max_concurrent_units > 1 and sum(components.runs.states(run.id).values()) > 1
        )
        with _collecting(errors), _naming_the_run(components, run), draining() as drain:
            if work(components, run, watching.watch, drain).status == "interrupted":
                finished, units = components.runs.progress(run.id)
                rest = _resume(components, run) if len(jobs) == 1 else f"line resume{_store_flag(components)}"
                terminal.note(
                    f"{_stopped(drain)} with {finished}/{units} units done; every finished step is kept. "
                    f"Go on with: {rest}"
                )
                raise typer.Exit(INTERRUPTED)
            done.append((components, run))
    return done


def _stopped(drain: RunControl) -> str:
    reason = drain.drain_reason or ""
    return f"{reason.capitalize()}; stopped" if reason.startswith("asked") else "Interrupted"


@contextmanager
def _naming_the_run(components: Components, run: Run) -> Iterator[None]:
    """Add to an error how the run goes on once what failed works again."""
    try:
        yield
    except (UsageError, TakenOverError):
        raise
    except LineError as error:
        error.remedy = (
            f"{error.remedy}; then {_resume(components, run)}" if error.remedy else _resume(components, run)
        )
        raise


def _steps_of(components: Components, run: Run) -> int:
    """Steps of a run as the progress counts them: filling boards, the iterations, the summaries."""
    return sum(components.runs.states(run.id).values()) * (last_step(components.settings) + 1)


def _resume(components: Components, run: Run) -> str:
    return f"line resume {run.id}{_store_flag(components)}"


def _store_flag(components: Components) -> str:
    """What a command needs to find a store that is not the user's default."""
    return f" --store {shell_word(str(components.store))}" if components.settings.store else ""


def conclude(jobs: Sequence[Job], *, as_json: bool) -> int:
    """Show the labels of runs, and say what is wrong with them; the exit status that tells so."""
    for components, run in jobs:
        _say_how_images_were_read(components, run)
    for bank in {id(components.cache): components.cache for components, _ in jobs}.values():
        _say_mended(bank.snapshot())
    now = [(components.runs.run(run.id), components.runs.units(run.id)) for components, run in jobs]
    conditions = [
        run_problems(components.store, components.runs, run)
        for (components, _), (run, _) in zip(jobs, now, strict=True)
    ]
    if as_json:
        found = [
            showing.run_json(components.store, components.runs, run, units)
            for (components, _), (run, units) in zip(jobs, now, strict=True)
        ]
        terminal.dump(found[0] if len(found) == 1 else found)
    else:
        for (run, units), came in zip(now, conditions, strict=True):
            showing.labels(run, units)
            showing.remarks(came)
        for components, run in jobs:
            terminal.line(
                f"History, reasoning and images of a unit: line show {run.id} UNIT{_store_flag(components)}"
            )
        terminal.line(f"Images: {jobs[0][0].store / 'images'}")
    for (components, run), (_, units) in zip(jobs, now, strict=True):
        failed = sum(unit.status == "failed" for unit in units)
        if failed:
            terminal.note(
                f"{terminal.counted(failed, 'unit')} of {run.id} failed; to take them again: "
                f"line retry {run.id}{_store_flag(components)}"
            )
    if any(unit.status == "failed" for _, units in now for unit in units):
        return UNITS_FAILED
    return ALL_REFUSED if any(came.refusals.all_refused for came in conditions) else 0


def _say_mended(stats: CacheStats) -> None:
    """Say what was damaged in the store or of no use from the generator; a run's events have it one by one."""
    found = {
        "whose file had gone or was damaged: drawn anew": stats.regenerated,
        "of one plain colour: drawn again with another seed": stats.retried,
        "whose activations were damaged: measured anew": stats.recomputed,
    }
    for what, count in found.items():
        if count:
            terminal.note(f"{terminal.counted(count, 'image')} {what}")


def _say_remarks(components: Components) -> None:
    for what, lines in components.remarks().items():
        terminal.remarks(what, lines)


def _say_how_images_were_read(components: Components, run: Run) -> None:
    control = components.control(run.layer)
    _say_remarks(components)
    told = {line for lines in components.remarks().values() for line in lines}
    skipped = sorted({*(control.skipped if control else ()), *components.skipped()} - told)
    if skipped:
        terminal.note(f"skipped, because they could not be read: {terminal.counted(len(skipped), 'image')}")
    for name in skipped[:10]:
        terminal.note(f"  {name}")
    for note in components.image_notes():
        terminal.note(note)
