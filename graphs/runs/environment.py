"""What a run is worked with, recorded when it begins and whenever it has changed when it is gone on with.

Afterwards nobody can tell: a run may be finished on another machine, with other packages.
"""

from __future__ import annotations

import hashlib
import json
import platform
from functools import cache
from pathlib import Path
from typing import Any

from line_neurons.agent.prompts import ANGLES, LIGHTINGS, instructions
from line_neurons.graphs.runs.components import Components, installed_versions
from line_neurons.tools.hardware import machine
from line_neurons.tools.store.queries import last_detail
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore

WORKED_WITH = "worked with"
"""The kind of the events that hold circumstances."""


def circumstances(components: Components, layer: str) -> dict[str, Any]:
    """What runs on a layer with these parts are worked with here and now, as JSON values.

    Returns:
        ``versions`` of Python and of the packages that decide results; ``code``, a hash of the program's own
        source; ``machine``, see ``tools.machine``; ``fingerprints`` of the parts; ``made_of``, what those
        fingerprints that are a hash alone were made of; ``images``, how those that are not ordinary are read;
        ``prompts``, all that questions and images begin with, each with its SHA-256.
    """
    # First, as the machine tells of torch only once a part has imported it.
    fingerprints, made_of = components.fingerprints(layer), components.identities()
    return {
        "versions": {"python": platform.python_version(), **installed_versions()},
        "code": source_hash(),
        "machine": machine(),
        "fingerprints": fingerprints,
        "made_of": made_of,
        "images": list(components.image_notes()),
        "prompts": prompts(components.settings.template, paper=components.settings.forbidden == "proposed"),
    }


def record(runs: RunStore, run: Run, components: Components, *, began: bool = False) -> None:
    """Record what a run is worked with; nothing where the last record says the same.

    Args:
        runs: the run's store.
        run: the run.
        components: the parts.
        began: the run begins with it.
    """
    now = circumstances(components, run.layer)
    before = last_detail(runs, run.id, WORKED_WITH)
    if not isinstance(before, dict) or {name: before.get(name) for name in now} != now:
        runs.add_event(run.id, WORKED_WITH, began=began, **now)


def prompts(template: str, *, paper: bool) -> dict[str, Any]:
    """What questions of each kind begin with, and what images are asked for with; each with its SHA-256."""
    said: dict[str, dict[str, Any]] = {
        kind: {"messages": [[message.role, message.content] for message in messages]}
        for kind, messages in instructions(paper=paper).items()
    }
    said["picture"] = {"template": template, "angles": list(ANGLES), "lightings": list(LIGHTINGS)}
    return {
        kind: {"sha256": hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest(), **text}
        for kind, text in said.items()
    }


@cache
def source_hash() -> str:
    """SHA-256 of the source of the rooms that decide results, wherever they are installed."""
    digest, root = hashlib.sha256(), Path(__file__).parents[2]
    for name in ("agent", "tools", "graphs"):
        folder = root / name
        for file in sorted(folder.rglob("*.py")):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"line_neurons.{name}/{file.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()
