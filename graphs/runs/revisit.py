"""Revisit: score every unit against every concept that any unit of the same runs was scored on.

No image is generated and, where the cache has the vectors, nothing is measured. The result depends only on what
the searches scored, not on the order in which units ran, nor on earlier revisits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from langgraph.runtime import RunControl

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Progress
from line_neurons.agent.settings import revised
from line_neurons.graphs.loop import initial_board as initial
from line_neurons.graphs.loop import scoring
from line_neurons.graphs.loop.state import Deps
from line_neurons.graphs.runs.components import Components, OnProgress
from line_neurons.graphs.runs.cross_scores import Best, ImagedConcept, best_and_second
from line_neurons.graphs.runs.reopening import reopen
from line_neurons.graphs.runs.results import (
    SearchSummary,
    evidence_columns,
    label_columns,
    note_columns,
    summarize_history,
    text_of,
    undecided,
    unlabelled_columns,
)
from line_neurons.tools.label_marks import DONE, Mark
from line_neurons.tools.scorers import needs_control
from line_neurons.tools.store.leases import acquire
from line_neurons.tools.store.queries import searched_units
from line_neurons.tools.store.records import Run, Step, Unit, score_of
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import banned


@dataclass(frozen=True)
class Revisited:
    """A unit before and after a revisit.

    Args:
        name: its name, if it is an output class.
        label: its label now; None where no concept can be its label.
        search_label: the label of its own search; None where it found none.
        search_score: that label's score.
        found_by: the unit that the label comes from; None where its own search's label stays.
    """

    run: str
    unit: int
    name: str | None
    label: str | None
    score: float | None
    search_label: str | None
    search_score: float | None
    found_by: int | None = None
    found_in: str | None = None


@dataclass(frozen=True)
class _SearchedUnit:
    """A unit whose search has ended; ``mark`` says why its own search found no label."""

    run: Run
    unit: Unit
    summary: SearchSummary
    mark: Mark | None


@dataclass
class _Searches:
    """What the searches of all runs scored.

    ``sources`` holds for each concept the first run and unit that scored it, by id and number; ``recorded`` the
    scores that finished units recorded themselves, as (place, score); ``forbidden`` the places where a
    concept is banned, by its key.
    """

    places: list[_SearchedUnit] = field(default_factory=list)
    sources: dict[ImagedConcept, tuple[str, int]] = field(default_factory=dict)
    recorded: dict[ImagedConcept, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    forbidden: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))


def revisit(
    deps: Deps, runs: Sequence[Run], progress: Progress | None = None, own: Mapping[str, Deps] | None = None
) -> list[Revisited]:
    """Give every finished unit of the runs the best concept that any unit of them was scored on.

    A unit's label changes where another concept scores higher than the label of its own search; of equal ones the
    first by its text counts, and the label is marked as tied. So a unit may have a label although its own search
    could not tell one concept from another. The second-best concept is chosen among all concepts too. All runs are
    changed together or, after a crash, none. The caller holds the leases of the runs.

    Args:
        runs: runs of one layer in the store of ``deps``.
        progress: called with the number of concepts compared; each is compared twice.
        own: of single runs by id, where vocabulary or control set are not those of ``deps``.

    Returns:
        Every unit whose search has ended, by run and in order.

    Raises:
        UsageError: the runs cannot be compared.
        StoreError: an image to be measured again is missing, or the store cannot be written.
        BackendError: the target failed.
    """
    runs = list({run.id: run for run in runs}.values())
    check_comparable(runs)
    by_run = {run.id: (own or {}).get(run.id, deps) for run in runs}
    searches = _collect(deps.runs, runs, by_run)
    if not searches.places:
        return []
    concepts = sorted(searches.sources)
    firsts, seconds = best_and_second(
        deps,
        concepts,
        [place.unit.unit for place in searches.places],
        [(text_of(place.summary.best), score_of(place.summary.best)) for place in searches.places],
        searches.recorded,
        progress,
        searches.forbidden,
    )
    known = {run: initial.vocabulary(of_run) for run, of_run in by_run.items()}
    rows: list[tuple[_SearchedUnit, dict[str, Any], Step | None]] = []
    for place, best, second in zip(searches.places, firsts, seconds, strict=True):
        own_deps, own_known = by_run[place.run.id], known[place.run.id]
        rows.append((place, *_changes(deps, own_deps, own_known, searches, place, best, second)))
    _write(deps.runs, list(by_run), rows, len(concepts))
    return [
        Revisited(
            place.run.id,
            place.unit.unit,
            place.unit.name,
            *(row[name] for name in ("label", "score", "search_label", "search_score", "found_by", "found_in")),
        )
        for place, row, _ in rows
    ]


def _changes(
    deps: Deps,
    own: Deps,
    known: Set[str],
    searches: _Searches,
    place: _SearchedUnit,
    best: Best | None,
    second: Best | None,
) -> tuple[dict[str, Any], Step | None]:
    """Return the new columns of a unit, and an entry of its history where another unit found its label.

    ``own`` and ``known`` are the components and the initial vocabulary of the unit's run.
    """
    run, unit, summary = place.run.id, place.unit.unit, place.summary
    label = best.concept if best and best.score > score_of(summary.best) else None
    if label is None and place.mark is not None and not own.settings.label_dead:
        return unlabelled_columns(place.mark) | {"steps": summary.steps}, None
    row = label_columns(summary) | {
        "second_label": second.concept.text if second else None,
        "second_score": second.score if second else None,
    }
    entry = None
    if label is not None:
        if place.mark is not None:
            row |= dict.fromkeys(("search_label", "search_score", "initial_label", "initial_score"))
        row |= _adopted(deps, unit, label, searches.sources[label])
        entry = _history_entry(deps.runs, run, unit, row, len(searches.sources))
    row |= evidence_columns(own, unit, row["label"], row["images"], known | summary.boards)
    tied, mark = best is not None and best.tied, None if label else place.mark
    return row | {"status": "finished", **note_columns(own, summary, row, tied=tied, mark=mark)}, entry


def revisit_recorded(
    runs: Sequence[Run],
    store: Path | None,
    assets: Path | None,
    on_progress: OnProgress | None = None,
    changes: Mapping[str, Any] | None = None,
    drain: RunControl | None = None,
) -> list[Revisited]:
    """Revisit recorded runs that no other process works on; it needs no language model.

    ``changes`` are settings of this machine, such as the device; after a stop that ``drain`` requests, nothing is
    changed.

    Raises:
        DrainedError: a stop was requested.
        UsageError: the runs cannot be compared, another process works on one, or a component has changed since a
            run began.
        LineError: see ``revisit``.
    """
    check_comparable(runs)
    # The vocabulary is recorded with each run, and its file may be missing.
    changes = {**(changes or {}), "llm": "random", "vocabulary": None}
    first = reopen(runs[0], store, assets, on_progress, changes)
    deps = {runs[0].id: first.deps(runs[0].layer, runs[0].vocabulary or ())}
    for run in runs[1:]:
        settings = revised({**run.settings, "store": store, "assets": assets}, changes)
        shared = {
            name: getattr(first, name) for name in ("target", "generator", "language_model", "cache", "runs")
        }
        components = Components(run.model, settings, on_progress, {run.layer}).with_(**shared)
        if components.fingerprints(run.layer)["control"] != run.fingerprints.get("control"):
            raise UsageError(
                f"the control set {components.settings.control} of run {run.id} has changed since it began",
                "install what the run began with",
            )
        deps[run.id] = components.deps(run.layer, run.vocabulary or ())
    drain = drain or RunControl()
    with (
        acquire(first.runs, list(deps), drain.request_drain, first.reporter(drain)),
        first.phases.of(first.runs, runs[0].id),
        first.cache.events.record_to(first.runs, runs[0].id),
    ):
        return revisit(deps[runs[0].id], runs, first.progress_for("revisit", drain), deps)


def check_comparable(runs: Sequence[Run]) -> None:
    """Check that scores of all runs are comparable.

    Raises:
        UsageError: they are not; it names the first two runs that differ, and in what.
    """
    first, *others = runs
    for other in others:
        for (what, one, shown), (_, two, also_shown) in zip(_identity(first), _identity(other), strict=False):
            if one != two:
                values = f": {shown!r:.80} and {also_shown!r:.80}" if shown != also_shown else ""
                raise UsageError(
                    f"runs {first.id} and {other.id} differ in their {what}{values}",
                    "revisit runs of one layer together that share model, images and scorer",
                )


def _identity(run: Run) -> Iterator[tuple[str, Any, Any]]:
    """Yield what decides a score: its name, its value, and the value for users."""
    settings, fingerprints = run.settings, run.fingerprints
    yield "target", fingerprints.get("target"), run.target_name
    yield "layer", run.layer, run.layer
    yield "generator", fingerprints.get("generator"), settings.get("generator")
    for name in ("scorer", "images", "template", "modifiers"):
        yield name, settings.get(name), settings.get(name)
    if needs_control(settings.get("scorer", "mean")):
        yield "control set", fingerprints.get("control"), settings.get("control")


def _collect(store: RunStore, runs: Sequence[Run], by_run: Mapping[str, Deps]) -> _Searches:
    searches = _Searches()
    for run in runs:
        searched = searched_units(store, run.id)
        units = [unit for unit in store.units(run.id) if unit.status in DONE and unit.unit in searched]
        index = {unit.unit: place for place, unit in enumerate(units, len(searches.places))}
        summaries: dict[int, tuple[SearchSummary, Mark | None]] = {}
        bans = banned(store, run.id)
        for number, trials in groupby(store.trials(run.id), lambda trial: trial.unit):
            history = list(trials)
            for trial in history:
                if trial.score is None:
                    continue
                concept, source = ImagedConcept(text_of(trial), trial.images), (run.id, number)
                searches.sources[concept] = min(searches.sources.get(concept, source), source)
                if number in index:
                    searches.recorded[concept].append((index[number], trial.score))
            if number in index:
                summary = summarize_history(
                    history, bans.get(number, ()), run.settings.get("duplicates", "refuse")
                )
                summaries[number] = (
                    summary,
                    scoring.constant_mark(by_run[run.id], number, history) or undecided(summary),
                )
                for name in bans.get(number, ()):
                    searches.forbidden[concept_key(name)].append(index[number])
        searches.places += [_SearchedUnit(run, unit, *summaries[unit.unit]) for unit in units]
    return searches


def _adopted(deps: Deps, unit: int, label: ImagedConcept, source: tuple[str, int]) -> dict[str, Any]:
    """Return the columns of a unit that change with a label that another unit found."""
    activations = scoring.activate(deps, unit, list(label.images))
    return {
        "label": label.text,
        "score": scoring.score(deps, unit, activations),
        "origin": "revisit",
        "label_step": None,
        "images": label.images,
        "found_in": source[0],
        "found_by": source[1],
    }


def _history_entry(store: RunStore, run: str, unit: int, row: Mapping[str, Any], compared: int) -> Step:
    """Return the entry of the history that says where a unit's label came from."""
    last = [step for step in store.steps(run, unit) if step.kind != "revisit"][-1]
    return Step(
        run,
        unit,
        last.step + 1,
        0,
        "revisit",
        "scored",
        row["label"],
        row["score"],
        origin="revisit",
        images=row["images"],
        board=last.board,
        detail={"found_by": row["found_by"], "found_in": row["found_in"], "compared": compared},
    )


def _write(
    store: RunStore,
    runs: Sequence[str],
    rows: Sequence[tuple[_SearchedUnit, dict[str, Any], Step | None]],
    compared: int,
) -> None:
    with store.atomic():
        for run in runs:
            store.drop_steps(run, "revisit")
        for place, row, entry in rows:
            store.update_unit(place.run.id, place.unit.unit, **row)
            if entry is not None:
                store.put_step(entry)
        for run in runs:
            better = [entry is not None for place, _, entry in rows if place.run.id == run]
            store.add_event(
                run, "revisited", units=len(better), better=sum(better), compared=compared, runs=list(runs)
            )
