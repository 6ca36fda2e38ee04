"""Work on runs and print their labels, for the commands of ``run``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import typer
from langgraph.runtime import RunControl

from line_neurons.agent.engine_settings import engine_flags
from line_neurons.agent.errors import DrainedError, LineError, TakenOverError, UsageError
from line_neurons.agent.setting_groups.forks import fork_changes
from line_neurons.agent.settings import Settings
from line_neurons.agent.text import shell_word
from line_neurons.graphs.runs.code_trust import record_trust
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.fork import fork as start_fork
from line_neurons.graphs.runs.lifecycle import retry as mark_failed_again
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.graphs.runs.loading import LIBRARIES, LoadingRecord, loading, planned_again
from line_neurons.graphs.runs.revisit import revisit_recorded
from line_neurons.graphs.runs.runner import last_step, steps_of_unit
from line_neurons.graphs.runs.unit_selection import select_units
from line_neurons.tools.cache.activation_cache import CacheStats
from line_neurons.tools.label_marks import ENDED
from line_neurons.tools.run_problems import run_problems
from line_neurons.tools.store.best_so_far import with_best_so_far
from line_neurons.tools.store.leases import refuse_leased
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore, default_store, find_unit, open_store
from line_neurons.tools.store.steering_queue import units_with_pending
from line_neurons.tools.store.time_left import time_left
from line_neurons.tui import formatting
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.exit_codes import ALL_REFUSED, INTERRUPTED, UNITS_FAILED
from line_neurons.tui.cli.invocation import command_line
from line_neurons.tui.cli.printing import run as run_output
from line_neurons.tui.cli.printing.run import store_flag
from line_neurons.tui.cli.process.signals import draining
from line_neurons.tui.cli.progress import AgeingEstimate, ProgressReporter
from line_neurons.tui.cli.runs.announce import report_names
from line_neurons.tui.cli.runs.disk import report_disk
from line_neurons.tui.cli.runs.reopening import Job, Reopening, lasting_failures, recording_failure, remedy_of_run
from line_neurons.tui.formatting import counted


def batch_settings(settings: Settings) -> Settings:
    """Return settings with the defaults of a batch, where flags, environment and line.toml name none.

    Raises:
        UsageError: an address of language model servers is invalid.
    """
    missing = {
        name: value
        for name, value in opt.batch_defaults(settings).items()
        if name not in settings.model_fields_set
    }
    return settings.model_copy(update=missing)


def explain(
    model: str,
    layers: Sequence[str],
    units: Sequence[str],
    settings: Settings,
    announced: Sequence[str],
    record: LoadingRecord,
    *,
    as_json: bool,
) -> None:
    """Start a run on each layer, work on them, and print the labels; see ``announce`` for names and record."""
    with ProgressReporter(record=record) as reporter, ExitStack() as stack:
        components = Components(model, settings, reporter.report_preparation, distributed=True)
        stack.callback(components.close)
        for layer in layers:
            select_units(components, layer, units)
        _report_remarks(components)
        jobs = [(components, start(components, layer, units, command=command_line())) for layer in layers]
        report_names(announced, [run.id for _, run in jobs])
        report_disk(components, [run for _, run in jobs])
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
        unfinished = [run for run in reversed(opened.runs()) if is_unfinished(opened, run)]
        # With something changed, whatever failed may succeed.
        blocked = {} if changes or trust else lasting_failures(opened, unfinished)
        found = [run for run in unfinished if run.id not in blocked]
        refusals = [
            UsageError(
                f"{run} is not tried again, since it would fail as before: {reason}",
                f"once that is repaired: line resume {run}{store_flag(store)}",
            )
            for run, reason in blocked.items()
        ]
        for refusal in refusals if found else refusals[1:]:
            terminal.note(str(refusal))
        if not found and refusals:
            raise refusals[0]
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
        remedy = f"line resume {run.id}" if is_unfinished(opened, run) else "see `line show` for its labels"
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


def is_unfinished(opened: RunStore, run: Run) -> bool:
    """Return whether a recorded run has work that a resume would do."""
    return formatting.is_unfinished(run, opened.states(run.id), units_with_pending(opened, run.id))


def trust_code(store: Path, runs: Sequence[Run], *, trust: bool) -> None:
    """Allow the custom code of runs, if the user trusts it."""
    if not trust:
        return
    opened = RunStore(store)
    for run in runs:
        record_trust(opened, run)
    opened.close()


def _continue(
    runs: Sequence[Run], settings: Settings, changes: Mapping[str, Any], *, as_json: bool, again: bool = False
) -> None:
    """Work on recorded runs, with ``again`` on failed units, too; errors are printed at the end."""
    errors: list[LineError] = []
    jobs: list[Job] = []
    store = settings.store or default_store()
    opened = open_store(store)
    with (
        loading(store, planned_again(runs), LIBRARIES) as record,
        ProgressReporter(record=record) as reporter,
        closing(Reopening(settings, reporter, changes)) as reopening,
    ):
        for run in runs:
            with _collecting(errors):
                # Before components are opened, which may take minutes.
                refuse_leased(opened, run.id)
                with recording_failure(settings, run, changes):
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


def work_on(
    jobs: Sequence[Job],
    reporter: ProgressReporter,
    errors: list[LineError] | None = None,
    *,
    done_before: Sequence[Run] = (),
    command: str = "",
) -> list[Job]:
    """Work on runs one after the other, and return those that were completed.

    Args:
        errors: collects errors; None: they are raised.
        done_before: other runs of the same work, whose units count too.
        command: what continues all of it after an interruption; empty: ``line resume``.

    Raises:
        LineError: a run cannot continue, and there is no list for its error.
        Exit: it was interrupted; status 130.
    """
    steps = [_steps_of(components, run) for components, run in jobs]
    reporter.steps_in_all = sum(steps)
    done: list[Job] = []
    for index, (components, run) in enumerate(jobs):
        reporter.steps_before = sum(steps[:index])
        reporter.seconds_left = AgeingEstimate(partial(_seconds_left, jobs[index:]))
        reporter.many = (
            components.settings.max_concurrent_units > 1 and sum(components.runs.states(run.id).values()) > 1
        )
        reporter.leave_loading(run.id)
        with _collecting(errors), _with_resume_command(components, run), draining() as drain:
            if work(components, run, reporter.report, drain).status == "interrupted":
                every = [*done_before, *(recorded for _, recorded in jobs)]
                counts = [components.runs.progress(recorded.id) for recorded in every]
                finished, units = (sum(count) for count in zip(*counts, strict=True))
                every_run = f"line resume{_worker_flags(components)}{store_flag(components.store)}"
                rest = command or (_resume(components, run) if len(jobs) == 1 else every_run)
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
    except (UsageError, TakenOverError) as error:
        error.remedy = remedy_of_run(error.remedy)
        raise
    except LineError as error:
        error.remedy = (
            f"{error.remedy}; then {_resume(components, run)}" if error.remedy else _resume(components, run)
        )
        raise


def _steps_of(components: Components, run: Run) -> int:
    """Return the number of a run's steps: iterations and summaries of all its units."""
    return sum(components.runs.states(run.id).values()) * steps_of_unit(components.settings)


def _seconds_left(jobs: Sequence[Job]) -> float | None:
    """Estimate how long the first of some runs, which is in progress, and the ones after it still take."""
    (components, run), *later = jobs
    found = time_left(components.runs, components.runs.run_by_id(run.id), time.time())
    if found is None:
        return None
    seconds = found.seconds
    for components, run in later:
        states, settings = components.runs.states(run.id), components.settings
        units = sum(count for state, count in states.items() if state not in ENDED)
        workers = max(min(settings.max_concurrent_units, units), 1)
        seconds += units * found.pace.of_unit(last_step(settings)) / workers
    return seconds


def _resume(components: Components, run: Run) -> str:
    return f"line resume {run.id}{_worker_flags(components)}{store_flag(components.store)}"


def _worker_flags(components: Components) -> str:
    return "".join(f" {shell_word(word)}" for word in engine_flags(components.settings))


def conclude(jobs: Sequence[Job], *, as_json: bool, done_before: Sequence[Run] = ()) -> int:
    """Print the labels and problems of runs, after those of others of the same work; return the exit status."""
    for components, run in jobs:
        _report_images_read(components, run)
    for cache in {id(components.cache): components.cache for components, _ in jobs}.values():
        _report_repairs(cache.snapshot())
    return print_results(jobs[0][0].runs, [*done_before, *(run for _, run in jobs)], as_json=as_json)


def print_results(opened: RunStore, runs: Sequence[Run], *, as_json: bool) -> int:
    """Print the labels and problems of runs as they are recorded, and return the exit status."""
    store = opened.path.parent
    now = [(opened.run_by_id(run.id), with_best_so_far(opened, run.id, opened.units(run.id))) for run in runs]
    problems = [run_problems(store, opened, run) for run, _ in now]
    if as_json:
        printed = [run_output.run_json(store, opened, run, units) for run, units in now]
        terminal.dump(printed[0] if len(printed) == 1 else printed)
    else:
        for (run, units), found in zip(now, problems, strict=True):
            run_output.labels(store, run, units, in_doubt=bool(found.doubts))
            run_output.remarks(found)
        for run in runs:
            terminal.line(f"History, reasoning and images of a unit: line show {run.id} UNIT{store_flag(store)}")
        terminal.line(f"Images: {store / 'images'}")
    for run, units in now:
        failed = sum(unit.status == "failed" for unit in units)
        if failed:
            terminal.note(
                f"{counted(failed, 'unit')} of {run.id} failed; retry them with: "
                f"line retry {run.id}{store_flag(store)}"
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
