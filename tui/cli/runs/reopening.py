"""Open recorded runs; failures that a resume cannot repair, with remedies that fit a recorded run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from line_neurons.agent.engine_settings import engine_of
from line_neurons.agent.errors import LineError, is_lasting
from line_neurons.agent.settings import Settings
from line_neurons.agent.settings_sources import flag_of
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.lifecycle import refuse_resume
from line_neurons.graphs.runs.reopening import reopen
from line_neurons.tools.language_models.arguments import langchain_here, servers_of
from line_neurons.tools.store.queries import lasting_failure
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore, default_store
from line_neurons.tools.targets.custom import in_memory
from line_neurons.tui.cli import options as opt
from line_neurons.tui.cli.progress import ProgressReporter

Job = tuple[Components, Run]
"""Components and the run to work on."""


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
            changes = {**servers_of(settings), **engine_of(settings), **self._changes, "langchain": arguments}
            components = reopen(run, settings.store, settings.assets, on_progress, changes)
            self._opened[key] = components
        components.layers.add(run.layer)
        return components, run

    def close(self) -> None:
        """Stop the workers."""
        for components in self._opened.values():
            components.close()


def lasting_failures(opened: RunStore, runs: Sequence[Run]) -> dict[str, str]:
    """Return why some runs would fail again if they were resumed as they are, by id."""
    reasons = {run.id: lasting_failure(opened, run.id) for run in runs}
    session = "its model lived in the memory of a Python session, where explain(model, resume=...) continues it"
    reasons |= {run.id: session for run in runs if in_memory(run.model)}
    return {run: reason for run, reason in reasons.items() if reason is not None}


@contextmanager
def recording_failure(settings: Settings, run: Run, changes: Mapping[str, Any]) -> Iterator[None]:
    """Record an error that every resume of a run would meet, and fit its remedy to a recorded run."""
    try:
        yield
    except LineError as error:
        # Of a changed setting the run itself may know nothing.
        if is_lasting(error) and not changes and not in_memory(run.model):
            with closing(RunStore(settings.store or default_store())) as runs:
                refuse_resume(runs, run.id, error)
        error.remedy = remedy_of_run(error.remedy)
        raise


def remedy_of_run(remedy: str) -> str:
    """Add to a remedy for a new run what holds for a recorded one, of which some settings cannot change."""
    changeable = {flag_of(name) for name in (*opt.CHANGES, *opt.COMPONENTS, *opt.FILES)} | {"--trust", "--config"}
    # Flags of a command that the remedy names are that command's.
    flags = set(re.findall(r"--[a-z][a-z-]*", re.sub(r"\bline [a-z].*", "", remedy)))
    if flags <= changeable:
        return remedy
    return f"{remedy}: in a new run, since a recorded one keeps its settings"
