"""Names of the runs of a command, printed and recorded before anything is loaded; imports nothing slow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.loading import LIBRARIES, LoadingRecord, PlannedRun, loading, planned_again
from line_neurons.graphs.runs.names import free_name
from line_neurons.tools.store.queries import used_names
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore, default_store, has_runs
from line_neurons.tools.target_specs import absolute_spec
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.cli.printing.run import store_flag
from line_neurons.tui.cli.runs.demo_runs import DEMO_MODEL, DEMO_UNITS, earlier_runs


def announce(model: str, layers: Sequence[str], settings: Settings, known: Sequence[Run] = ()) -> list[str]:
    """Print the names that the runs on some layers have, how to watch them, and what is loading.

    No run is written: a refused command leaves the store as it is.

    Args:
        settings: the settings, of which the store counts.
        known: earlier runs that are continued.

    Returns:
        The names of the new runs.

    Raises:
        StoreError: the store cannot be read.
    """
    store = settings.store or default_store()
    used = _used(store)
    new: list[str] = []
    for layer in layers:
        new.append(free_name({*used, *new}, absolute_spec(model), layer))
    for name in [*(run.id for run in known), *new]:
        terminal.note(f"run {name}; watch it with: line tui {name}{store_flag(store)}")
    terminal.note(f"loading {model} ...")
    return new


def loading_new(
    model: str, layers: Sequence[str], names: Sequence[str], settings: Settings
) -> AbstractContextManager[LoadingRecord]:
    """Show new runs of these names in the app while they load; see ``graphs.runs.loading``."""
    planned = [
        PlannedRun(name, model, layer, settings.seed, settings.llm)
        for name, layer in zip(names, layers, strict=True)
    ]
    return loading(settings.store or default_store(), planned, LIBRARIES)


@contextmanager
def announce_demo(settings: Settings) -> Iterator[LoadingRecord]:
    """Print the names of the demo's runs, and show them in the app while they load; see ``announce``.

    One that has ended loads nothing.
    """
    store = settings.store or default_store()
    earlier: list[Run] = []
    if has_runs(store):
        with closing(RunStore(store, read_only=True)) as runs:
            earlier = earlier_runs(runs, settings)
    missing = [layer for layer, _ in DEMO_UNITS if layer not in {run.layer for run in earlier}]
    unfinished = [run for run in earlier if not run.concluded]
    planned = planned_again(unfinished)
    if unfinished or missing:
        names = announce(DEMO_MODEL, missing, settings, unfinished)
        planned += [
            PlannedRun(name, DEMO_MODEL, layer, settings.seed, settings.llm)
            for name, layer in zip(names, missing, strict=True)
        ]
    with loading(store, planned, LIBRARIES) as record:
        yield record


def report_names(announced: Sequence[str], names: Sequence[str]) -> None:
    """Print the names of runs that are not as announced: another process started a run meanwhile."""
    for before, name in zip(announced, names, strict=True):
        if name != before:
            terminal.note(f"run {name}: its name, since another process has started {before} meanwhile")


def _used(store: Path) -> set[str]:
    if not has_runs(store):
        return set()
    with closing(RunStore(store, read_only=True)) as runs:
        return used_names(runs)
