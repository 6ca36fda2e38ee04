"""Provenance: everything recorded that decided a run's labels, in one document."""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from line_neurons.graphs.runs.environment import ENVIRONMENT_EVENT
from line_neurons.tools.steering.outcomes import CommandOutcome, outcomes
from line_neurons.tools.store.queries import step_times
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import commands

SCHEMA = "line-neurons/provenance/1"
"""Name and version of the document; a higher version may lack fields of this one."""

SEED_RULES = {
    "picture": "(run seed, concept, image index)",
    "angle and lighting": "(run seed, concept, image index)",
    "question": "(run seed, unit, step, attempt)",
    "question for a first board": "(run seed, question index, attempt, restart)",
    "first board": "(run seed, unit, restart)",
    "update of the scoreboard": "(run seed, unit, step)",
}
"""The arguments of each random choice; see ``agent.seeds.derive_seed``."""

_ENDS = {"drained": "stopped on request", "stopped": "failed", "finished": "finished"}
_CHANGES = {"settings changed", "retry", "begun again", "revisited"}
# Recorded in the steps, or under a key of their own.
_ELSEWHERE = {ENVIRONMENT_EVENT, "work", "unit finished", "steered", "forked", *_ENDS, *_CHANGES}


def provenance(store: Path | RunStore, run: str) -> dict[str, Any]:
    """Return everything recorded about how a run's labels came about, as JSON values.

    What was not recorded is None: runs of earlier versions have neither a machine nor the text of their prompts,
    and package versions only of their start. Nothing is read from the current machine.

    Args:
        run: the run's id, or an unambiguous prefix of it.

    Returns:
        ``schema``, ``run``, ``model``, ``layer``, ``status``, ``error``, ``command``, ``settings``;
        ``created`` and ``finished`` (ISO 8601, UTC; so all times);
        ``seeds``: the run's, and the rules by which all others derive from it;
        ``parts``, by name: ``fingerprint``, the values that it ``names``, and what a hash in it is ``made_of``;
        ``prompts``: what requests and images begin with, each with its SHA-256;
        ``versions`` of the packages when the run started;
        ``environments``: ``versions``, ``code``, ``machine``, ``fingerprints``, ``images`` (how those that are not
        ordinary were read), ``prompts`` (SHA-256);
        ``sessions``, one for each process that ran it: ``process``, ``host``, ``began``, ``ended``, ``how`` it
        ended, number of ``steps``, and the index of its ``environment``;
        ``resumes``; ``changes``: changed settings and models, restarted units, revisits;
        ``incidents``: corrupt entries found, doubts about labels; ``forked_from``: run, unit and step, or None;
        ``units``: the ``label`` with its evidence, ``sessions`` that ran it, steering commands as ``wishes``,
        ``pictures`` of the label, all ``steps`` with the hash of their prompts, and ``history_sha256`` over them.

    Raises:
        UsageError: there is no such run.
        DamagedError: a row of the store is corrupt.
        StoreError: the store cannot be read.
    """
    if isinstance(store, Path):
        with closing(RunStore(store, read_only=True)) as opened:
            return provenance(opened, run)
    found = store.run(run)
    starts = [event["created"] for event in store.events(found.id) if event["kind"] == "work"]
    units = [_unit(store, found, unit, starts) for unit in store.units(found.id)]
    return {**provenance_of_run(store, found), "units": units}


def provenance_of_run(store: RunStore, found: Run) -> dict[str, Any]:
    """Return ``provenance`` without the units, whose histories are not read."""
    events = store.events(found.id)
    work = work_history(found, events)
    starts = [event["created"] for event in events if event["kind"] == "work"]
    written = Counter(_session(created, starts) for created in step_times(store, found.id))
    for index, session in enumerate(work.sessions):
        session["steps"] = written[index]
    first = work.environments[0]
    return {
        "schema": SCHEMA,
        "run": found.id,
        "model": found.shown_model,
        "layer": found.layer,
        "status": found.status,
        "error": found.error,
        "command": found.command,
        "created": moment(found.created),
        "finished": moment(found.finished),
        "seeds": {"run": found.seed, "rules": SEED_RULES},
        "settings": found.settings,
        "vocabulary_sha256": _sha256(found.vocabulary) if found.vocabulary is not None else None,
        "parts": {
            name: {
                "fingerprint": text,
                "names": named_in(str(text)),
                "made_of": _mapping((work.made_of or {}).get(name)),
            }
            for name, text in found.fingerprints.items()
        },
        "prompts": work.prompts,
        "versions": first["versions"],
        "environments": work.environments,
        "sessions": work.sessions,
        "resumes": max(0, len(work.sessions) - 1),
        "changes": [_event(event) for event in events if event["kind"] in _CHANGES],
        "incidents": [_event(event) for event in events if event["kind"] not in _ELSEWHERE],
        "forked_from": _origin(found),
    }


@dataclass
class WorkHistory:
    """The sessions and environments of a run; ``prompts`` and ``made_of`` are those of its start."""

    environments: list[dict[str, Any]] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    prompts: dict[str, Any] | None = None
    made_of: dict[str, Any] | None = None


def work_history(run: Run, events: Sequence[Mapping[str, Any]]) -> WorkHistory:
    """Collect sessions and environments from a run's events; see ``provenance`` for the values."""
    work = WorkHistory()
    here: int | None = 0
    first: dict[str, Any] = next((event["detail"] for event in events if event["kind"] == ENVIRONMENT_EVENT), {})
    if first.get("began"):
        work.prompts, work.made_of = _mapping(first.get("prompts")), _mapping(first.get("made_of"))
    else:
        # An earlier version recorded the versions alone, with the run.
        work.environments.append(_environment({"versions": run.versions}))
    for event in events:
        kind, detail = event["kind"], event["detail"]
        if kind == ENVIRONMENT_EVENT:
            work.environments.append(_environment(detail))
            here = len(work.environments) - 1
        elif kind == "work":
            work.sessions.append(
                {
                    "process": detail.get("process"),
                    "host": detail.get("host"),
                    "began": moment(event["created"]),
                    "ended": None,
                    "how": "not known",
                    "error": None,
                    "environment": here,
                }
            )
            # Earlier versions recorded no environment when a run was resumed.
            here = here or (0 if first.get("began") else None)
        elif kind in _ENDS and work.sessions:
            work.sessions[-1] |= {
                "ended": moment(event["created"]),
                "how": _ENDS[kind],
                "error": detail.get("error"),
            }
    return work


def _environment(detail: Mapping[str, Any]) -> dict[str, Any]:
    prompts = _mapping(detail.get("prompts"))
    return {
        "versions": _mapping(detail.get("versions")),
        "code": detail.get("code"),
        "machine": _mapping(detail.get("machine")),
        "fingerprints": _mapping(detail.get("fingerprints")),
        "images": detail.get("images"),
        "prompts": {kind: (_mapping(text) or {}).get("sha256") for kind, text in prompts.items()}
        if prompts
        else None,
    }


def _unit(store: RunStore, run: Run, unit: Unit, starts: Sequence[float]) -> dict[str, Any]:
    history = store.steps(run.id, unit.unit)
    steps = [_step(step, starts) for step in history]
    return {
        "unit": unit.unit,
        "name": unit.name,
        "status": unit.status,
        "error": unit.error,
        "label": unit.label,
        "score": unit.score,
        "auc": unit.auc,
        "mad": unit.mad,
        "origin": unit.origin,
        "label_step": unit.label_step,
        "search_label": unit.search_label,
        "search_score": unit.search_score,
        "found_by": unit.found_by,
        "found_in": unit.found_in,
        "pictures": list(unit.images),
        "sessions": sorted({step["session"] for step in steps if step["session"] is not None}),
        "wishes": [_command(row) for row in outcomes(commands(store, run.id, unit.unit), history)],
        "steps": steps,
        "history_sha256": _sha256([_content(step) for step in history]),
    }


def _session(created: float, starts: Sequence[float]) -> int | None:
    """Return the index of the session that wrote a step; None for steps that a fork copied."""
    session = bisect_right(starts, created) - 1
    return session if session >= 0 else None


def _step(step: Step, starts: Sequence[float]) -> dict[str, Any]:
    return {
        "step": step.step,
        "attempt": step.attempt,
        "kind": step.kind,
        "outcome": step.outcome,
        "concept": step.concept,
        "score": step.score,
        "origin": step.origin,
        "written": moment(step.created),
        "session": _session(step.created, starts),
        "model": step.model,
        "prompt": step.prompt,
        "seed": step.seed,
        "temperature": step.temperature,
        "pictures": list(step.images),
    }


def _content(step: Step) -> list[Any]:
    """Return what a step records, without times, which differ between equal runs."""
    return [
        step.step, step.attempt, step.kind, step.outcome, step.concept, step.score, step.reasoning, step.reply,
        step.origin, step.images, step.board, step.removed, step.seed, step.temperature, step.model, step.detail,
        step.prompt,
    ]  # fmt: skip


def _command(row: CommandOutcome) -> dict[str, Any]:
    """Return a steering command without the name of its user."""
    command = row.command
    withdrawn = command.state == "withdrawn"
    return {
        "kind": command.kind,
        "concept": command.concept,
        "asked_on": command.by.rpartition(" on ")[2],
        "asked": moment(command.created),
        "taken": moment(command.taken),
        "step": command.step,
        "attempt": command.attempt,
        "before": command.node,
        "outcome": "withdrawn" if withdrawn else command.outcome,
        "state": row.state,
        "result": "" if withdrawn else row.text,
    }


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    return {**event["detail"], "kind": event["kind"], "unit": event["unit"], "at": moment(event["created"])}


def _origin(run: Run) -> dict[str, Any] | None:
    if run.forked_from is None:
        return None
    return {"run": run.forked_from, "unit": run.forked_unit, "step": run.forked_step}


def named_in(fingerprint: str) -> dict[str, str]:
    """Return the values that a fingerprint names as ``name=value``."""
    return dict(re.findall(r"(?:^|\s)([a-z][a-z0-9_]*)=(\S+)", fingerprint))


def moment(seconds: float | None) -> str | None:
    """Format a time as ISO 8601 in UTC, to the microsecond; None for None and times out of range."""
    try:
        at = None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return at.isoformat(timespec="microseconds") if at else None


def _mapping(value: Any) -> dict[str, Any] | None:
    """Return a value of the store if it is a mapping, else None."""
    return value if isinstance(value, dict) else None


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
