"""Open recorded runs; those with the same model and settings share their components."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from line_neurons.agent.engine_settings import engine_of
from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.components import Components
from line_neurons.graphs.runs.reopening import reopen
from line_neurons.tools.language_models.arguments import langchain_here, servers_of
from line_neurons.tools.store.records import Run
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
