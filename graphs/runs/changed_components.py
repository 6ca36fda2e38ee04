"""Refuse to resume a run whose components have changed since it began."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import LanguageModel
from line_neurons.agent.presets import OLLAMA_SAMPLING
from line_neurons.tools.language_models.arguments import known_fingerprints
from line_neurons.tools.store.records import Run

LANGUAGE_MODEL_SETTINGS = frozenset({"llm", "top_p", *OLLAMA_SAMPLING, "context", "reply_tokens", "think"})
"""Settings that change the language model's replies; they may change when a run is resumed."""


def refuse_changed(run: Run, now: Mapping[str, str], model: LanguageModel, changes: Mapping[str, Any]) -> None:
    """Compare the recorded fingerprints of a run with the current ones.

    Args:
        run: the run.
        now: the fingerprints of its components.
        model: its language model.
        changes: settings that differ from the recorded ones; if they are of the language model, it may differ.

    Raises:
        UsageError: a component has changed.
    """
    for name, before in known_fingerprints(model, run).items():
        changed = bool(changes.keys() & LANGUAGE_MODEL_SETTINGS)
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
