"""Runs over units: start, resume, and what came of them."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from line_neurons.agent.errors import StoreError, UsageError
from line_neurons.agent.proposal import concept_key
from line_neurons.agent.settings import Settings
from line_neurons.graphs import initial, scoring
from line_neurons.graphs.assembly import Parts, installed_versions
from line_neurons.graphs.line import LineGraph, build
from line_neurons.graphs.state import Deps, LineState
from line_neurons.tools.file_lock import hold
from line_neurons.tools.language_models.langchain_chat import redacted
from line_neurons.tools.run_store import Run, RunStore, Step, Unit, run_lock
from line_neurons.tools.targets.lookup import find_layer
from line_neurons.tools.targets.registry import absolute_spec
from line_neurons.tools.targets.units import parse_units

# Nodes of a step, each asked again at most `retries` times; LangGraph counts every one.
_NODES_PER_STEP = 5


@dataclass(frozen=True)
class Progress:
    """Where a run stands, after each node.

    Args:
        run: id of the run.
        unit: index of the unit in hand.
        name: its name, if it is an output class.
        position: how many units of the run were done before it.
        units: number of units of the run.
        node: the node that ended.
        step: the step in hand, 0 while the first board is filled, N + 1 in the summary.
        steps: number of steps of a unit.
        concept: the concept in hand.
        best: the best concept so far and its score.
    """

    run: str
    unit: int
    name: str | None
    position: int
    units: int
    node: str
    step: int
    steps: int
    concept: str
    best: tuple[str, float] | None


Watcher = Callable[[Progress], None]


def select_units(parts: Parts, layer: str, selectors: Sequence[str]) -> tuple[list[int], Sequence[str] | None]:
    """The units that the user named, and the names of all units of the layer if they are output classes.

    Raises:
        UsageError: there is no such layer or unit, or a setting does not fit the layer.
    """
    info = find_layer(parts.target.layers(), layer, parts.model)
    names = parts.target.unit_names(layer)
    units = parse_units(selectors, info.units, names)
    parts.check(layer)
    return units, names


def start(parts: Parts, layer: str, selectors: Sequence[str], command: str = "") -> Run:
    """Write a new run, ready to be worked on; nothing is written unless everything fits.

    Args:
        parts: model and settings.
        layer: dotted path of the layer.
        selectors: units as numbers, ranges or class names.
        command: what the user typed, for the record.

    Raises:
        LineError: a model, layer, unit or setting does not fit, or a part is missing.
    """
    units, names = select_units(parts, layer, selectors)
    fingerprints = parts.fingerprints()
    vocabulary = parts.vocabulary()
    run = Run(
        id=_new_id(parts.runs, parts.model, layer),
        model=absolute_spec(parts.model),
        layer=layer,
        seed=parts.settings.seed,
        status="pending",
        created=time.time(),
        settings=recorded(parts.settings),
        fingerprints=fingerprints,
        versions=installed_versions(),
        command=command,
        vocabulary=vocabulary,
    )
    parts.layers.add(layer)
    while True:
        rows = [Unit(run.id, unit, place, name=names[unit] if names else None) for place, unit in enumerate(units)]
        try:
            parts.runs.add_run(run, rows)
        except StoreError:
            # Another process may have taken the name in between.
            if run.id not in {known.id for known in parts.runs.runs()}:
                raise
            run = replace(run, id=_new_id(parts.runs, parts.model, layer))
        else:
            return run


def recorded(settings: Settings) -> dict[str, Any]:
    """Settings as they are kept with a run: without folders and servers of this machine and without secrets."""
    kept = settings.model_dump(mode="json", exclude={"store", "assets", "ollama"})
    return kept | {"langchain": redacted(settings.langchain)}


def work(parts: Parts, run: Run, watch: Watcher | None = None) -> Run:
    """Finish what is not finished of a run, unit by unit, each from its last checkpoint.

    Where settings or the language model are not those that the run is recorded with, the record is brought up to
    date, and an event keeps what it was before.

    Raises:
        UsageError: another process works on the run.
        LineError: a part failed; the run can be resumed.
    """
    runs = parts.runs
    with _held(parts.store, run.id), _checkpoints(parts.store) as saver:
        graph = build(saver)
        deps = parts.deps(run.layer, run.vocabulary or ())
        left = [unit for unit in runs.units(run.id) if unit.status != "finished"]
        if not left and (now := runs.run(run.id)).status == "finished":
            return now
        _note_changes(parts, run)
        runs.update_run(run.id, status="running", error="")
        runs.add_event(run.id, "work", process=os.getpid())
        try:
            for unit in left:
                _work_unit(graph, deps, run, unit, watch)
        except BaseException as error:
            failed = isinstance(error, Exception)
            text = str(error).splitlines()[0] if failed and str(error) else type(error).__name__
            runs.update_run(run.id, status="failed" if failed else "interrupted", error=text)
            runs.add_event(run.id, "stopped", error=text)
            raise
        runs.update_run(run.id, status="finished", finished=time.time())
        runs.add_event(run.id, "finished")
    return runs.run(run.id)


def _note_changes(parts: Parts, run: Run) -> None:
    """Record that a run goes on with other settings or another language model, and what they were before."""
    settings, fingerprints = recorded(parts.settings), parts.fingerprints()
    if (settings, fingerprints) == (run.settings, run.fingerprints):
        return
    changed = {name: value for name, value in settings.items() if run.settings.get(name) != value}
    parts.runs.update_run(run.id, settings=settings, fingerprints=fingerprints)
    before = {name: run.settings.get(name) for name in changed}
    model = run.fingerprints.get("language_model")
    parts.runs.add_event(
        run.id, "settings changed", before=before, after=changed, language_model_before=model,
        language_model_after=fingerprints["language_model"],
    )  # fmt: skip


def _work_unit(graph: LineGraph, deps: Deps, run: Run, unit: Unit, watch: Watcher | None) -> None:
    runs, settings = deps.runs, deps.settings
    began = time.monotonic()
    done_before, count = runs.progress(run.id)
    steps = settings.iterations + settings.summary
    config: RunnableConfig = {
        "configurable": {"thread_id": f"{run.id}/{unit.unit}"},
        "recursion_limit": 10 + _NODES_PER_STEP * (settings.retries + 1) * (steps + 1),
    }
    snapshot = graph.get_state(config)
    fresh: LineState = {"run": run.id, "unit": unit.unit}
    given = None if snapshot.created_at else fresh
    state: dict[str, Any] = dict(snapshot.values) or dict(fresh)
    runs.update_unit(run.id, unit.unit, status="running", error="")
    if watch:
        watch(_progress(run, unit, done_before, count, steps, "", state))
    try:
        stream = graph.stream(given, config, context=deps, stream_mode="updates", durability="sync")
        for update in stream:
            for node, changes in update.items():
                state |= changes or {}
                if watch:
                    watch(_progress(run, unit, done_before, count, steps, node, state))
    except Exception as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        runs.update_unit(run.id, unit.unit, status="failed", error=text)
        raise
    spent = unit.seconds + time.monotonic() - began
    runs.update_unit(run.id, unit.unit, status="finished", seconds=spent, **_result(deps, run, unit))
    runs.add_event(run.id, "unit finished", unit.unit)


def _result(deps: Deps, run: Run, unit: Unit) -> dict[str, Any]:
    """The label of a unit, read off its history: the highest score seen, the earlier one of equals."""
    scored = [step for step in deps.runs.steps(run.id, unit.unit) if step.score is not None]
    best = max(scored, key=_score)
    first = max((step for step in scored if step.kind == "initial"), key=_score)
    activations = scoring.activate(deps, unit.unit, list(best.images))
    known = initial.vocabulary(deps) | {
        concept_key(step.concept or "") for step in scored if step.kind == "initial"
    }
    compared = deps.control() is not None
    return {
        "label": best.concept,
        "score": best.score,
        "origin": best.origin,
        "label_step": best.step,
        "discovered": concept_key(best.concept or "") not in known,
        "initial_label": first.concept,
        "initial_score": first.score,
        "auc": scoring.score(deps, unit.unit, activations, "auc") if compared else None,
        "mad": scoring.score(deps, unit.unit, activations, "mad") if compared else None,
    }


def _score(step: Step) -> float:
    return step.score if step.score is not None else float("-inf")


def _progress(
    run: Run, unit: Unit, done: int, units: int, steps: int, node: str, state: dict[str, Any]
) -> Progress:
    best = state.get("best")
    return Progress(
        run=run.id,
        unit=unit.unit,
        name=unit.name,
        position=done,
        units=units,
        node=node,
        step=state.get("step", 0),
        steps=steps,
        concept=state.get("concept", ""),
        best=(str(best[0]), float(best[1])) if best else None,
    )


def _new_id(runs: RunStore, model: str, layer: str) -> str:
    """A name that can be read and typed: model, layer and the first free number."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{model.partition(':')[2] or model}-{layer}")[:60]
    taken = {run.id for run in runs.runs()}
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


@contextmanager
def _held(store: Path, run: str) -> Iterator[None]:
    def taken(holder: str) -> UsageError:
        return UsageError(f"run {run} is being worked on by {holder}", "wait for it, or stop it first")

    try:
        with hold(run_lock(store, run), taken=taken):
            yield
    except OSError as error:
        raise StoreError(f"the store {str(store)!r} cannot be used: {error.strerror}") from error


@contextmanager
def _checkpoints(store: Path) -> Iterator[SqliteSaver]:
    """The store's checkpoints; only plain types are ever revived from it."""
    try:
        connection = sqlite3.connect(store / "checkpoints.db", timeout=30, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        saver = SqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
        saver.setup()
    except sqlite3.Error as error:
        raise StoreError(
            f"the checkpoints in {str(store)!r} cannot be used: {error}", "check that the folder is writable"
        ) from error
    try:
        yield saver
    finally:
        connection.close()
