"""Settings that a fork of a run may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.presets import OLLAMA_SAMPLING, UNRECORDED
from line_neurons.agent.settings_sources import current_names

FORKABLE = frozenset({
    "seed", "iterations", "summary", "patience", "max_iterations", "until", "llm", *UNRECORDED, "context",
    "reply_tokens", "timeout", "think", "langchain", "temperature", "top_p", "retries", "retry_temperature_step",
    "hints", "proposals", "generate",
    "diffusion", "device", "batch_size", "download", "max_concurrent_units", "llm_parallel",
    "batch_timeout", "max_consecutive_failures", "revisit", *OLLAMA_SAMPLING,
})  # fmt: skip
"""Settings a fork may change without invalidating copied scores."""


def fork_changes(recorded: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in which a fork differs from the run it branches from.

    Raises:
        UsageError: a changed setting would make new scores incomparable with the copied ones.
    """
    changes = current_names(changes)
    if refused := sorted(changes.keys() - FORKABLE):
        raise UsageError(
            f"a fork cannot change setting {refused[0]}: scores before and after it would not be comparable",
            "start a new run with it",
        )
    if "seed" not in changes or recorded.get("control_seed") is not None:
        return dict(changes)
    # A new seed keeps the control images that scores are compared with.
    return {**changes, "control_seed": recorded.get("seed")}
