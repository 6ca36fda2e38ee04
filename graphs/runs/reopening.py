"""Open the components of a recorded run, and refuse those that have changed since it began."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import LanguageModel
from line_neurons.agent.presets import OLLAMA_SAMPLING
from line_neurons.agent.settings import Settings, revised
from line_neurons.graphs.runs.code_trust import require_trust
from line_neurons.graphs.runs.components import Components, OnProgress
from line_neurons.tools.language_models.arguments import known_fingerprints
from line_neurons.tools.store.records import Run
from line_neurons.tools.target_specs import absolute_spec, unversioned_spec
from line_neurons.tools.targets.base import ModelBundle
from line_neurons.tools.targets.custom import in_memory
from line_neurons.tools.targets.latents.target import UnitCode

_LANGUAGE_MODEL_SETTINGS = frozenset({"llm", "top_p", *OLLAMA_SAMPLING, "context", "reply_tokens", "think"})
"""Settings that change the language model's replies; they may change when a run is resumed."""


def reopen(
    run: Run,
    store: Path | None,
    assets: Path | None,
    on_progress: OnProgress | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    model: str | ModelBundle | None = None,
    code: Callable[[Settings], UnitCode | None] | None = None,
) -> Components:
    """Open the components of a recorded run with its own settings.

    Args:
        changes: settings that differ from the recorded ones from now on. If they are of the language model, a
            different one is accepted, and every step records which one it used.
        model: the run's model as the user named it, whose code then is trusted; or the model in memory that the
            run was started with.
        code: makes the autoencoder in memory that the run was started with, from its settings.

    Raises:
        UsageError: a component has changed since the run began, a changed setting does not fit, the run names code
            that the user does not trust, or its model lived in memory and was not passed.
    """
    changes = changes or {}
    bundle = None if isinstance(model, str) else model
    if bundle is None and in_memory(run.model):
        where = f", store={str(store)!r}" if store else ""
        raise UsageError(
            f"the model {run.model} of run {run.id} lived in the memory of a Python session",
            f"pass it there: line_neurons.graphs.explain(model, resume={run.id!r}{where})",
        )
    named = absolute_spec(model) if isinstance(model, str) else bundle.name if bundle else run.model
    # A spec without a version names the run's own.
    if named not in {run.model, unversioned_spec(run.model)}:
        raise UsageError(f"run {run.id} is of the model {run.model}, not of {named}", "name that one")
    settings = revised({**run.settings, "store": store, "assets": assets}, changes)
    units = code(settings) if code else None
    components = Components(
        run.model, settings, on_progress, {run.layer}, bundle=bundle, code=units, distributed=True
    )
    require_trust(components.runs, run, changes, named=run.model if model else None)
    components.target.activate([], [run.layer])
    refuse_changed(run, components.fingerprints(run.layer), components.language_model, changes)
    return components


def refuse_changed(run: Run, now: Mapping[str, str], model: LanguageModel, changes: Mapping[str, Any]) -> None:
    """Compare the recorded fingerprints of a run with the current ones.

    Args:
        changes: settings that differ from the recorded ones; if they are of the language model, it may differ.

    Raises:
        UsageError: a component has changed.
    """
    for name, before in known_fingerprints(model, run).items():
        changed = bool(changes.keys() & _LANGUAGE_MODEL_SETTINGS)
        # Another language model may need no guide.
        if now.get(name) == before or (changed and (name == "language_model" or name not in now)):
            continue
        remedy = "install what the run began with, or start a new run"
        if name == "language_model":
            remedy = "install what the run began with, or name another language model with --llm"
        then, today = _differing(str(before), str(now.get(name)))
        raise UsageError(
            f"the {name.replace('_', ' ')} of run {run.id} has changed since it began: "
            f"{then!r:.100} then, {today!r:.100} now",
            remedy,
        )


def _differing(before: str, now: str) -> tuple[str, str]:
    """Return the words of two fingerprints that differ."""
    old, new = before.split(), now.split()
    return " ".join(word for word in old if word not in new), " ".join(word for word in new if word not in old)
