"""The environment of a run: recorded when it starts, and when it is resumed in a different one."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import Any

from line_neurons.agent.prompts import ANGLES, LIGHTINGS, instructions
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.devices import machine
from line_neurons.tools.packages import installed_versions, source_hash
from line_neurons.tools.store.queries import last_detail
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore

ENVIRONMENT_EVENT = "worked with"
"""The kind of the events that record environments."""


def current_environment(components: Components, layer: str) -> dict[str, Any]:
    """Describe the environment of runs on a layer here and now, as JSON values.

    Returns:
        ``versions`` of Python and of the packages that decide results; ``code``, a hash of the program's source;
        ``machine``, see ``tools.hardware``; ``fingerprints`` of the components; ``made_of``, the values behind
        fingerprints that are only a hash; ``images``, how unusual ones are read; ``prompts``, what requests and
        images begin with, each with its SHA-256.
    """
    # First: the machine's part about torch needs torch imported.
    fingerprints, made_of = components.fingerprints(layer), components.identities()
    return {
        "versions": {"python": platform.python_version(), **installed_versions()},
        "code": source_hash(),
        "machine": machine(),
        **({"worker": components.engine.machine} if components.engine else {}),
        "fingerprints": fingerprints,
        "made_of": made_of,
        "images": list(components.image_notes()),
        "prompts": prompts(
            components.settings.template,
            paper=components.settings.forbidden == "proposed",
            concepts=components.settings.proposals,
        ),
    }


def record_environment(runs: RunStore, run: Run, components: Components, *, began: bool = False) -> None:
    """Record the environment of a run unless the last record equals it; ``began``: at the run's start."""
    now = current_environment(components, run.layer)
    before = last_detail(runs, run.id, ENVIRONMENT_EVENT)
    if not isinstance(before, dict) or {name: before.get(name) for name in now} != now:
        runs.add_event(run.id, ENVIRONMENT_EVENT, began=began, **now)


def prompts(template: str, *, paper: bool, concepts: int = 1) -> dict[str, Any]:
    """Return what requests of each kind and images begin with, each with its SHA-256."""
    said: dict[str, dict[str, Any]] = {
        kind: {"messages": [[message.role, message.content] for message in messages]}
        for kind, messages in instructions(paper=paper, concepts=concepts).items()
    }
    said["picture"] = {"template": template, "angles": list(ANGLES), "lightings": list(LIGHTINGS)}
    return {
        kind: {"sha256": hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest(), **text}
        for kind, text in said.items()
    }
