"""What ``line explain``, ``resume`` and ``demo`` do: work with progress, then the labels."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import typer

from line_neurons.agent.errors import LineError, UsageError
from line_neurons.agent.settings import Settings
from line_neurons.graphs.assembly import Parts, reopen
from line_neurons.graphs.runs import select_units, start, work
from line_neurons.tools.language_models.langchain_chat import with_secrets
from line_neurons.tools.language_models.ollama_address import without_passwords
from line_neurons.tools.run_store import Run, RunStore, default_store
from line_neurons.tui import showing, terminal
from line_neurons.tui.watching import Watching

DEMO_MODEL = "torchvision:mobilenet_v2"
DEMO_COMMAND = "line demo"
# Layer and units: classes whose names tell whether the label is right, and units of the layer before (its mean
# over positions is what the classifier sees), the first three of random.seed(42), random.sample(range(1280), 50).
DEMO_UNITS = (
    ("classifier.1", ("castle", "violin", "killer whale")),
    ("features.18", ("228", "51", "563")),
)
DEMO_PARTS = {"llm": "embedded", "generator": "bank", "control": "bank", "init": "control"}

Job = tuple[Parts, Run]
"""A run to work on, with its parts."""


def explain(model: str, layers: Sequence[str], units: Sequence[str], settings: Settings, *, as_json: bool) -> None:
    """Start a run on each layer and work on them."""
    with Watching() as watching:
        parts = Parts(model, settings, watching.preparing)
        layers = list(dict.fromkeys(layer.strip() for layer in layers))
        for layer in layers:
            select_units(parts, layer, units)
        command = shlex.join(["line", *without_passwords(sys.argv[1:])])
        jobs = [(parts, start(parts, layer, units, command=command)) for layer in layers]
        _work(jobs, watching)
    _conclude(jobs, as_json=as_json)


def resume(name: str | None, settings: Settings, changes: Mapping[str, Any], *, as_json: bool) -> None:
    """Work on a run, or on every unfinished one, oldest first.

    Args:
        name: the run; None for every unfinished one.
        settings: where the store and the asset packs are.
        changes: settings that are other than recorded from now on.
        as_json: print JSON.
    """
    store = settings.store or default_store()
    opened = showing.open_store(store)
    if name is None:
        found = [run for run in reversed(opened.runs()) if run.status != "finished"]
        if not found:
            raise UsageError(f"there is nothing to resume in {store}", "`line runs` lists the runs")
    else:
        found = [opened.run(name)]
    opened.close()
    with Watching() as watching:
        reopening = _Reopening(settings, watching, changes)
        jobs = [reopening.job(run) for run in found]
        _work(jobs, watching)
    _conclude(jobs, as_json=as_json)


def demo(settings: Settings, *, as_json: bool) -> None:
    """Install what the demo needs, label its units, and show them.

    Both layers are measured in the same forward passes. Unfinished runs of an earlier demo are finished instead
    of started again.
    """
    from line_neurons.tools.assets.location import assets_root
    from line_neurons.tools.assets.packs import select
    from line_neurons.tui.asset_commands import install

    install(select(["demo"]), settings.assets or assets_root())
    began = time.monotonic()
    store = settings.store or default_store()
    with Watching() as watching:
        reopening = _Reopening(settings, watching, {})
        jobs: list[Job] = []
        for run in reversed(RunStore(store).runs()):
            same = (run.command, run.settings["llm"], run.seed) == (DEMO_COMMAND, settings.llm, settings.seed)
            if same and run.status != "finished":
                # A demo that another version of some part began stays as it is; a new one starts.
                with suppress(UsageError):
                    jobs.append(reopening.job(run))
        if not jobs:
            parts = Parts(DEMO_MODEL, settings, watching.preparing, {layer for layer, _ in DEMO_UNITS})
            jobs = [(parts, start(parts, layer, units, command=DEMO_COMMAND)) for layer, units in DEMO_UNITS]
        _work(jobs, watching)
    _conclude(jobs, as_json=as_json)
    if not as_json:
        minutes = (time.monotonic() - began) / 60
        terminal.line(f"Labelled in {minutes:.1f} minutes.")


class _Reopening:
    """Opens recorded runs; those with the same model and settings share their parts."""

    def __init__(self, settings: Settings, watching: Watching, changes: Mapping[str, Any]) -> None:
        self._settings = settings
        self._watching = watching
        self._changes = changes
        self._opened: dict[str, Parts] = {}

    def job(self, run: Run) -> Job:
        key = json.dumps([run.model, run.settings, run.fingerprints], sort_keys=True)
        parts = self._opened.get(key)
        if parts is None:
            settings, told = self._settings, self._watching.preparing
            arguments = settings.langchain
            if "llm" not in self._changes:
                arguments = with_secrets(run.settings.get("langchain", {}), arguments)
            changes = {"ollama": settings.ollama, **self._changes, "langchain": arguments}
            parts = reopen(run, settings.store, settings.assets, told, changes)
            self._opened[key] = parts
        parts.layers.add(run.layer)
        return parts, run


def _work(jobs: Sequence[Job], watching: Watching) -> None:
    steps = [_steps_of(parts, run) for parts, run in jobs]
    watching.steps_in_all = sum(steps)
    for index, (parts, run) in enumerate(jobs):
        watching.steps_before = sum(steps[:index])
        try:
            work(parts, run, watching.watch)
        except KeyboardInterrupt:
            rest = _resume(parts, run) if len(jobs) == 1 else f"line resume{_store_flag(parts)}"
            terminal.note(f"\nInterrupted; every finished step is kept. Go on with: {rest}")
            raise typer.Exit(130) from None
        except UsageError:
            raise
        except LineError as error:
            error.remedy = f"{error.remedy}; then {_resume(parts, run)}" if error.remedy else _resume(parts, run)
            raise


def _steps_of(parts: Parts, run: Run) -> int:
    """Steps of a run as the progress counts them: filling the first board, the iterations, the summary."""
    each = 1 + parts.settings.iterations + parts.settings.summary
    return len(parts.runs.units(run.id)) * each


def _resume(parts: Parts, run: Run) -> str:
    return f"line resume {run.id}{_store_flag(parts)}"


def _store_flag(parts: Parts) -> str:
    """What a command needs to find a store that is not the user's default."""
    return f" --store {shlex.quote(str(parts.store))}" if parts.settings.store else ""


def _conclude(jobs: Sequence[Job], *, as_json: bool) -> None:
    for parts, run in jobs:
        _say_skipped(parts, run)
    if as_json:
        found = [showing.run_json(parts.runs.run(run.id), parts.runs.units(run.id)) for parts, run in jobs]
        terminal.dump(found[0] if len(found) == 1 else found)
        return
    showing.labels([(run, unit) for parts, run in jobs for unit in parts.runs.units(run.id)])
    for parts, run in jobs:
        terminal.line(f"History, reasoning and pictures of a unit: line show {run.id} UNIT{_store_flag(parts)}")
    terminal.line(f"Pictures: {jobs[0][0].store / 'images'}")


def _say_skipped(parts: Parts, run: Run) -> None:
    control = parts.control(run.layer)
    skipped = sorted({*(control.skipped if control else ()), *parts.skipped()})
    if skipped:
        terminal.note(f"skipped, because they could not be read: {terminal.counted(len(skipped), 'picture')}")
    for name in skipped[:10]:
        terminal.note(f"  {name}")
