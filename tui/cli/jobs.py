"""Work on runs and print their labels, for the commands of ``run``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import typer
from langgraph.runtime import RunControl

from line_neurons.agent.errors import DrainedError, LineError, TakenOverError, UsageError
from line_neurons.agent.fork_settings import fork_changes
from line_neurons.agent.presets import BATCH
from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.code_trust import record_trust
from line_neurons.graphs.runs.components import Components, reopen
from line_neurons.graphs.runs.fork import fork as start_fork
from line_neurons.graphs.runs.lifecycle import retry as mark_failed_again
from line_neurons.graphs.runs.lifecycle import select_units, start, work
from line_neurons.graphs.runs.revisit import revisit_recorded
from line_neurons.graphs.runs.runner import last_step
from line_neurons.tools.cache.activation_cache import CacheStats
from line_neurons.tools.language_models.arguments import langchain_here, servers_of
from line_neurons.tools.run_problems import run_problems
from line_neurons.tools.store.leases import refuse_leased
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore, default_store, find_unit, open_store
from line_neurons.tools.store.steering_queue import units_with_pending
from line_neurons.tui import formatting
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.exit_codes import ALL_REFUSED, INTERRUPTED, UNITS_FAILED
from line_neurons.tui.cli.invocation import command_line
from line_neurons.tui.cli.printing import run as run_output
from line_neurons.tui.cli.printing.run import store_flag
from line_neurons.tui.cli.progress import ProgressReporter
from line_neurons.tui.cli.signals import draining
from line_neurons.tui.formatting import counted, duration

DEMO_MODEL = "torchvision:mobilenet_v2@IMAGENET1K_V1"
DEMO_COMMAND = "line demo"
# Layer and units: classes whose names tell whether the label is right, and units of the layer before (its mean
# over positions is what the classifier sees), the first three of random.seed(42), random.sample(range(1280), 50).
DEMO_UNITS = (
    ("classifier.1", ("castle", "violin", "killer whale")),
    ("features.18", ("228", "51", "563")),
)

Job = tuple[Components, Run]
"""Components and the run to work on."""


def batch_settings(settings: Settings) -> Settings:
    """Return settings with the defaults of a batch, where flags, environment and line.toml name none.

    Raises:
        UsageError: an address of language model servers is invalid.
    """
    from line_neurons.tools.language_models.registry import default_parallel

    defaults = {**BATCH, "llm_parallel": default_parallel(settings)}
    missing = {name: value for name, value in defaults.items() if name not in settings.model_fields_set}
    return settings.model_copy(update=missing)


def explain(model: str, layers: Sequence[str], units: Sequence[str], settings: Settings, *, as_json: bool) -> None:
    """Start a run on each layer, work on them, and print the labels."""
    with ProgressReporter() as reporter:
        components = Components(model, settings, reporter.report_preparation)
        layers = list(dict.fromkeys(layer.strip() for layer in layers))
        for layer in layers:
            select_units(components, layer, units)
        _report_remarks(components)
        jobs = [(components, start(components, layer, units, command=command_line())) for layer in layers]
        work_on(jobs, reporter)
    if status := conclude(jobs, as_json=as_json):
        raise typer.Exit(status)


def resume(
    name: str | None, settings: Settings, changes: Mapping[str, Any], *, as_json: bool, trust: bool = False
) -> None:
    """Resume a run, or all unfinished ones, oldest first; one that cannot continue does not stop the others.

    Raises:
        LineError: nothing is left to do, or no run can continue.
        Exit: with status 2 if some could not continue, 1 if units failed, 3 if no reply was usable, 130 if it was
            interrupted.
    """
    store = settings.store or default_store()
    opened = open_store(store, read_only=False)
    if name is None:
        found = [run for run in reversed(opened.runs()) if _is_unfinished(opened, run)]
        if not found:
            failed = [run.id for run in opened.runs() if opened.states(run.id).get("failed")]
            remedy = f"retry failed units with: line retry {failed[0]}" if failed else "see `line runs`"
            raise UsageError(f"there is nothing to resume in {store}", remedy)
    else:
        found = [opened.run(name)]
    opened.close()
    trust_code(store, found, trust=trust)
    _continue(found, settings, changes, as_json=as_json)


def retry(
    name: str, settings: Settings, changes: Mapping[str, Any], *, as_json: bool, trust: bool = False
) -> None:
    """Retry the failed units of a run, and finish the others.

    Raises:
        LineError: no unit failed, or the run cannot continue.
        Exit: with status 1 if units failed again, 3 if no reply was usable, 130 if it was interrupted.
    """
    opened = open_store(settings.store or default_store(), read_only=False)
    run = opened.run(name)
    if not opened.states(run.id).get("failed"):
        remedy = f"line resume {run.id}" if _is_unfinished(opened, run) else "see `line show` for its labels"
        raise UsageError(f"no unit of run {run.id} has failed", remedy)
    opened.close()
    trust_code(settings.store or default_store(), [run], trust=trust)
    _continue([run], settings, changes, as_json=as_json, again=True)


def revisit(
    names: Sequence[str], settings: Settings, changes: Mapping[str, Any], *, as_json: bool, trust: bool = False
) -> None:
    """Relabel the units of recorded runs with the best concept of any of them, and print the changes.

    Raises:
        LineError: see ``graphs.runs.revisit.revisit_recorded``.
    """
    opened = open_store(settings.store or default_store(), read_only=False)
    runs = list({run.id: run for run in map(opened.run, names)}.values())
    opened.close()
    trust_code(settings.store or default_store(), runs, trust=trust)
    with ProgressReporter() as reporter, draining() as drain:
        try:
            found = revisit_recorded(
                runs, settings.store, settings.assets, reporter.report_preparation, changes, drain
            )
        except DrainedError:
            terminal.note(f"{_stopped(drain)}; nothing was changed.")
            raise typer.Exit(INTERRUPTED) from None
    run_output.revisited(found, as_json=as_json)


def fork(
    name: str,
    which: str,
    step: int,
    concept: str,
    settings: Settings,
    changes: Mapping[str, Any],
    *,
    working: bool,
    as_json: bool,
    trust: bool = False,
) -> None:
    """Start a run from a step of a unit of another one, and with ``working`` work on it.

    Raises:
        LineError: there is no such run, unit or step, or a setting cannot be changed.
        Exit: with status 1 if the unit failed, 3 if no reply was usable, 130 if it was interrupted.
    """
    store = settings.store or default_store()
    with closing(open_store(store, read_only=False)) as opened:
        run = opened.run(name)
        unit = find_unit(run, opened.units(run.id), which).unit
    allowed = fork_changes(run.settings, changes)
    trust_code(store, [run], trust=trust)
    with ProgressReporter() as reporter:
        components, _ = Reopening(settings, reporter, allowed).job(run)
        new = start_fork(components, run, unit, step, concept=concept, command=command_line())
        terminal.note(f"Forked unit {unit} of {run.id} after step {step} as {new.id}.")
        if working:
            work_on([(components, new)], reporter)
    if working:
        if status := conclude([(components, new)], as_json=as_json):
            raise typer.Exit(status)
    elif as_json:
        terminal.dump({"run": new.id, "forked_from": run.id, "unit": unit, "step": step})
    else:
        terminal.line(f"Start it with: {_resume(components, new)}")


def demo(settings: Settings, *, as_json: bool) -> None:
    """Install what the demo needs, label its units, and print them.

    Both layers share forward passes. Unfinished runs of an earlier demo are resumed.
    """
    from line_neurons.tools.assets.location import assets_root
    from line_neurons.tools.assets.packs import select
    from line_neurons.tui.cli.assets import install

    install(select(["demo"]), settings.assets or assets_root())
    started = time.monotonic()
    store = settings.store or default_store()
    with ProgressReporter() as reporter:
        reopening = Reopening(settings, reporter, {})
        jobs: list[Job] = []
        known = RunStore(store)
        for run in reversed(known.runs()):
            same = (run.command, run.settings["llm"], run.seed) == (DEMO_COMMAND, settings.llm, settings.seed)
            if same and _is_unfinished(known, run):
                # A demo of another version of a component cannot be resumed; a new one starts.
                with suppress(UsageError):
                    jobs.append(reopening.job(run))
        if not jobs:
            components = Components(
                DEMO_MODEL, settings, reporter.report_preparation, {layer for layer, _ in DEMO_UNITS}
            )
            jobs = [
                (components, start(components, layer, units, command=DEMO_COMMAND)) for layer, units in DEMO_UNITS
            ]
        work_on(jobs, reporter)
    status = conclude(jobs, as_json=as_json)
    if not as_json:
        terminal.line(f"Labelled in {duration(time.monotonic() - started)}.")
    if status:
        raise typer.Exit(status)


def _is_unfinished(opened: RunStore, run: Run) -> bool:
    return formatting.is_unfinished(run, opened.states(run.id), units_with_pending(opened, run.id))


def trust_code(store: Path, runs: Sequence[Run], *, trust: bool) -> None:
    """Allow the custom code of runs, if the user trusts it."""
    if not trust:
        return
    opened = RunStore(store)
    for run in runs:
        record_trust(opened, run)
    opened.close()


class Reopening:
    """Opens recorded runs; those with the same model and settings share their components."""

    def __init__(self, settings: Settings, reporter: ProgressReporter, changes: Mapping[str, Any]) -> None:
        self._settings = settings
        self._reporter = reporter
        self._changes = changes
        self._opened: dict[str, Components] = {}

    def job(self, run: Run) -> Job:
        """Return a recorded run with its components."""
        key = json.dumps([run.model, run.settings, run.fingerprints], sort_keys=True)
        components = self._opened.get(key)
        if components is None:
            settings, on_progress = self._settings, self._reporter.report_preparation
            arguments = settings.langchain
            if "llm" not in self._changes:
                arguments = langchain_here(run.settings, settings)
            changes = {**servers_of(settings), **self._changes, "langchain": arguments}
            components = reopen(run, settings.store, settings.assets, on_progress, changes)
            self._opened[key] = components
        components.layers.add(run.layer)
        return components, run


def _continue(
    runs: Sequence[Run], settings: Settings, changes: Mapping[str, Any], *, as_json: bool, again: bool = False
) -> None:
    """Work on recorded runs, with ``again`` on failed units, too; errors are printed at the end."""
    errors: list[LineError] = []
    jobs: list[Job] = []
    opened = open_store(settings.store or default_store())
    with ProgressReporter() as reporter:
        reopening = Reopening(settings, reporter, changes)
        for run in runs:
            with _collecting(errors):
                # Before components are opened, which may take minutes.
                refuse_leased(opened, run.id)
                components, _ = job = reopening.job(run)
                if again:
                    mark_failed_again(components.runs, run)
                jobs.append(job)
        done = work_on(jobs, reporter, errors)
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


def work_on(jobs: Sequence[Job], reporter: ProgressReporter, errors: list[LineError] | None = None) -> list[Job]:
    """Work on runs one after the other, and return those that were completed.

    Errors are collected in ``errors``, or raised if it is None.

    Raises:
        LineError: a run cannot continue, and there is no list for its error.
        Exit: it was interrupted; status 130.
    """
    steps = [_steps_of(components, run) for components, run in jobs]
    reporter.steps_in_all = sum(steps)
    done: list[Job] = []
    for index, (components, run) in enumerate(jobs):
        reporter.steps_before = sum(steps[:index])
        reporter.many = (
            components.settings.max_concurrent_units > 1 and sum(components.runs.states(run.id).values()) > 1
        )
        with _collecting(errors), _with_resume_command(components, run), draining() as drain:
            if work(components, run, reporter.report, drain).status == "interrupted":
                finished, units = components.runs.progress(run.id)
                rest = _resume(components, run) if len(jobs) == 1 else f"line resume{store_flag(components.store)}"
                terminal.note(
                    f"{_stopped(drain)} with {finished}/{units} units done; every finished step is kept. "
                    f"Continue with: {rest}"
                )
                raise typer.Exit(INTERRUPTED)
            done.append((components, run))
    return done


def _stopped(drain: RunControl) -> str:
    reason = drain.drain_reason or ""
    return f"{reason.capitalize()}; stopped" if reason.startswith("asked") else "Interrupted"


@contextmanager
def _with_resume_command(components: Components, run: Run) -> Iterator[None]:
    """Add to an error the command that resumes the run once the fault is gone."""
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
    """Return the number of a run's steps: initial scoreboards, iterations and summaries."""
    return sum(components.runs.states(run.id).values()) * (last_step(components.settings) + 1)


def _resume(components: Components, run: Run) -> str:
    return f"line resume {run.id}{store_flag(components.store)}"


def conclude(jobs: Sequence[Job], *, as_json: bool) -> int:
    """Print the labels and problems of runs, and return the exit status."""
    for components, run in jobs:
        _report_images_read(components, run)
    for cache in {id(components.cache): components.cache for components, _ in jobs}.values():
        _report_repairs(cache.snapshot())
    now = [(components.runs.run(run.id), components.runs.units(run.id)) for components, run in jobs]
    problems = [
        run_problems(components.store, components.runs, run)
        for (components, _), (run, _) in zip(jobs, now, strict=True)
    ]
    if as_json:
        printed = [
            run_output.run_json(components.store, components.runs, run, units)
            for (components, _), (run, units) in zip(jobs, now, strict=True)
        ]
        terminal.dump(printed[0] if len(printed) == 1 else printed)
    else:
        for (components, _), (run, units), found in zip(jobs, now, problems, strict=True):
            run_output.labels(components.store, run, units)
            run_output.remarks(found)
        for components, run in jobs:
            terminal.line(
                f"History, reasoning and images of a unit: line show {run.id} UNIT{store_flag(components.store)}"
            )
        terminal.line(f"Images: {jobs[0][0].store / 'images'}")
    for (components, run), (_, units) in zip(jobs, now, strict=True):
        failed = sum(unit.status == "failed" for unit in units)
        if failed:
            terminal.note(
                f"{counted(failed, 'unit')} of {run.id} failed; retry them with: "
                f"line retry {run.id}{store_flag(components.store)}"
            )
    if any(unit.status == "failed" for _, units in now for unit in units):
        return UNITS_FAILED
    return ALL_REFUSED if any(found.refusals.all_refused for found in problems) else 0


def _report_repairs(stats: CacheStats) -> None:
    """Print how many cache entries were repaired and images generated again; a run's events list each."""
    repairs = {
        "missing or corrupt: generated again": stats.regenerated,
        "of one plain colour: generated again with another seed": stats.retried,
        "with corrupt activations: measured again": stats.recomputed,
    }
    for what, count in repairs.items():
        if count:
            terminal.note(f"{counted(count, 'image')} {what}")


def _report_remarks(components: Components) -> None:
    for what, lines in components.remarks().items():
        terminal.remarks(what, lines)


def _report_images_read(components: Components, run: Run) -> None:
    control = components.control(run.layer)
    _report_remarks(components)
    reported = {line for lines in components.remarks().values() for line in lines}
    skipped = sorted({*(control.skipped if control else ()), *components.skipped()} - reported)
    if skipped:
        terminal.note(f"skipped, because they could not be read: {counted(len(skipped), 'image')}")
    for name in skipped[:10]:
        terminal.note(f"  {name}")
    for note in components.image_notes():
        terminal.note(note)
