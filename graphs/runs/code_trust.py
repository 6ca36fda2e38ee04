"""Trust in the code that a recorded run names: only of runs that the user started or trusts explicitly.

A store may come from somebody else, and what it names as model or language model is imported and called.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import UsageError
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.target_specs import is_custom_function, unversioned_spec

_EVENT = "own code vouched for"


def record_trust(runs: RunStore, run: Run) -> None:
    """Record that this user trusts the code that a run names; nothing where it names none."""
    key = _key()
    if _named(run, {}) and key and not _is_trusted(runs, run, key):
        runs.add_event(run.id, _EVENT, seal=_seal(run, key))


def require_trust(runs: RunStore, run: Run, changes: Mapping[str, Any], named: str | None = None) -> None:
    """Check that no code is run that only the record of a run names.

    ``changes`` are the user's settings in place of the recorded ones, and ``named`` is the run's model as the user
    named it; None where only the record names it.

    Raises:
        UsageError: the run names code, and this user neither started nor trusted it.
    """
    code = [spec for spec in _named(run, changes) if spec != named]
    key = _key()
    if code and not (key and _is_trusted(runs, run, key)):
        raise UsageError(
            f"the record of run {run.id} asks to run code, {' and '.join(repr(spec)[:100] for spec in code)}, "
            "and you did not start the run on this account",
            "if you trust that code and this store, add --trust; in Python name it in the call",
        )


def _named(run: Run, changes: Mapping[str, Any]) -> list[str]:
    llm = str(run.settings.get("llm", ""))
    named = [run.model] if is_custom_function(run.model) else []
    return [*named, llm] if llm.startswith("langchain:") and "llm" not in changes else named


def _is_trusted(runs: RunStore, run: Run, key: bytes) -> bool:
    # Runs of earlier versions were sealed without the version of their weights.
    valid = {_seal(variant, key) for variant in (run, replace(run, model=unversioned_spec(run.model)))}
    seals = [str(event["detail"].get("seal")) for event in runs.events(run.id) if event["kind"] == _EVENT]
    return any(hmac.compare_digest(seal.encode(), other.encode()) for other in seals for seal in valid)


def _seal(run: Run, key: bytes) -> str:
    code = [run.model, run.settings.get("llm"), run.settings.get("langchain")]
    return hmac.new(key, json.dumps(code, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _key() -> bytes | None:
    """Return the user's key, created when first needed; None where it can be neither read nor created."""
    import platformdirs

    # Not in the default store, which may be passed on.
    path: Path = platformdirs.user_config_path("line-neurons") / "key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".key.{os.getpid()}")
        if not path.exists():
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(os.urandom(32))
            try:
                # Of several processes the first one's counts.
                os.link(part, path)
            except FileExistsError:
                pass
            finally:
                part.unlink()
        return path.read_bytes() or None
    except OSError:
        return None
