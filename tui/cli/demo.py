"""The demo: its units, labelled once; later calls continue it, or show what it found."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing

import typer

from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import start
from line_neurons.graphs.runs.loading import LoadingRecord
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore, default_store
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.invocation import command_line
from line_neurons.tui.cli.jobs import conclude, is_unfinished, print_results, work_on
from line_neurons.tui.cli.printing.run import store_flag
from line_neurons.tui.cli.progress import ProgressReporter
from line_neurons.tui.cli.runs.demo_runs import DEMO_COMMAND, DEMO_MODEL, DEMO_UNITS, earlier_runs
from line_neurons.tui.cli.runs.reopening import Job, Reopening
from line_neurons.tui.formatting import duration, when


def demo(settings: Settings, record: LoadingRecord, *, as_json: bool) -> None:
    """Install what the demo needs, label its units, and print them.

    Both layers share forward passes. An unfinished demo is continued; of a finished one the labels are printed.
    ``record`` is that of its runs while they load.

    Raises:
        Exit: with status 1 if units failed, 3 if no reply was usable, 130 if it was interrupted.
    """
    from line_neurons.tools.assets.location import assets_root
    from line_neurons.tools.assets.packs import select
    from line_neurons.tui.cli.assets import install

    store = settings.store or default_store()
    with closing(RunStore(store)) as known:
        earlier = earlier_runs(known, settings)
        unfinished = [run for run in earlier if is_unfinished(known, run)]
        if len(earlier) == len(DEMO_UNITS) and not unfinished:
            _show(known, earlier, as_json=as_json)
            return
    record.report("installing asset packs")
    install(select(["demo"]), settings.assets or assets_root())
    started = time.monotonic()
    with ProgressReporter(record=record) as reporter:
        done_before = [run for run in earlier if run not in unfinished]
        try:
            reopening = Reopening(settings, reporter, {})
            jobs = [reopening.job(run) for run in unfinished]
        except UsageError as error:
            # A demo of another version of a component cannot be continued.
            terminal.note(f"the earlier demo cannot be continued, and a new one starts: {error.message}")
            jobs, earlier, done_before = [], [], []
        layers = {run.layer for run in earlier}
        jobs += _started(settings, reporter, [layer for layer, _ in DEMO_UNITS if layer not in layers])
        work_on(jobs, reporter, done_before=done_before, command=command_line())
    status = conclude(jobs, as_json=as_json, done_before=done_before)
    if not as_json:
        terminal.line(f"Labelled in {duration(time.monotonic() - started)}.")
    if status:
        raise typer.Exit(status)


def _started(settings: Settings, reporter: ProgressReporter, layers: Sequence[str]) -> list[Job]:
    """Start runs on some layers of the demo."""
    if not layers:
        return []
    every = {layer for layer, _ in DEMO_UNITS}
    components = Components(DEMO_MODEL, settings, reporter.report_preparation, every)
    units = dict(DEMO_UNITS)
    return [(components, start(components, layer, units[layer], command=DEMO_COMMAND)) for layer in layers]


def _show(known: RunStore, runs: Sequence[Run], *, as_json: bool) -> None:
    """Print the labels of a finished demo."""
    status = print_results(known, runs, as_json=as_json)
    if not as_json:
        names = " ".join(run.id for run in runs)
        ended = when(max(run.finished or run.created for run in runs))
        terminal.line(f"This demo was finished on {ended}; nothing was labelled again.")
        terminal.line(
            f"To label again: line rm {names}{store_flag(known.path.parent)}, then line demo; "
            "or line demo --store FOLDER"
        )
    if status:
        raise typer.Exit(status)
