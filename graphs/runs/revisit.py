"""Revisit: score every unit against every concept that any unit of the same runs was scored on.

Nothing is drawn and, where the bank has the vectors, nothing is measured. What comes of it depends on what the
searches scored alone, not on the order in which units ran, nor on earlier revisits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langgraph.runtime import RunControl

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import revised
from line_neurons.graphs.loop import initial_board as initial
from line_neurons.graphs.loop import scoring
from line_neurons.graphs.loop.state import Deps
from line_neurons.graphs.runs.components import Components, OnProgress, reopen
from line_neurons.graphs.runs.cross_scores import Concept, best_and_second
from line_neurons.graphs.runs.results import (
    Found,
    columns,
    evidence,
    noted,
    score_of,
    summarize_history,
    text_of,
    undecided,
    unlabelled,
)
from line_neurons.tools.label_marks import DONE, Mark
from line_neurons.tools.scorers import needs_control
from line_neurons.tools.store.leases import acquire
from line_neurons.tools.store.queries import searched_units
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import banned

if TYPE_CHECKING:
    from line_neurons.agent.ports import Progress


@dataclass(frozen=True)
class Revisited:
    """A unit before and after.

    Args:
        run: id of the run.
        unit: index of the unit.
        name: its name, if it is an output class.
        label: its label now; None where nothing could be its label.
        score: that label's score.
        search_label: the label that its own search found; None where it found none.
        search_score: that label's score.
        found_by: the unit that the label comes from; None where the own search's stays.
        found_in: the run of that unit.
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
class _Place:
    """A unit that is done with, and what its search found.

    ``mark`` is that of a unit of which the own search tells that nothing could be its label.
    """

    run: Run
    unit: Unit
    found: Found
    mark: Mark | None


@dataclass
class _Gathered:
    """What the searches of all runs scored.

    ``sources`` holds, for each concept, the first run and unit that scored it, by name and number; ``recorded``
    the scores that finished units recorded themselves, as (index of the place, score); ``forbidden`` the places
    that must not have a concept as their label, by its key.
    """

    places: list[_Place] = field(default_factory=list)
    sources: dict[Concept, tuple[str, int]] = field(default_factory=dict)
    recorded: dict[Concept, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    forbidden: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))


def revisit(
    deps: Deps, runs: Sequence[Run], progress: Progress | None = None, own: Mapping[str, Deps] | None = None
) -> list[Revisited]:
    """Give every finished unit of the runs the best concept that any unit of them was scored on.

    A unit's label changes where another concept's score is higher than that of the label that its own search
    found; of equal ones the first by its text counts, and the label is marked as tied. So a unit may have a label
    although its own search could not tell one concept from another; one that was not searched has none. The
    second-best concept is chosen among all concepts too.
    All runs are changed together or, after a crash, none. The caller keeps other processes off the runs.

    Args:
        deps: the graph's parts.
        runs: runs of one layer in the store of ``deps``.
        progress: told of the concepts compared; each is compared twice, for the label and for the second best.
        own: parts of single runs by id, where vocabulary or control set are not those of ``deps``.

    Returns:
        Every unit that was searched to the end, by run and in the order in which they were asked for.

    Raises:
        UsageError: the runs cannot be compared.
        StoreError: an image that has to be measured anew is not here, or the store cannot be written.
        BackendError: the target failed.
    """
    runs = list({run.id: run for run in runs}.values())
    check_comparable(runs)
    by_run = {run.id: (own or {}).get(run.id, deps) for run in runs}
    gathered = _gather(deps.runs, runs, by_run)
    if not gathered.places:
        return []
    concepts = sorted(gathered.sources)
    found, seconds = best_and_second(
        deps,
        concepts,
        [place.unit.unit for place in gathered.places],
        [(text_of(place.found.best), score_of(place.found.best)) for place in gathered.places],
        gathered.recorded,
        progress,
        gathered.forbidden,
    )
    known = {run: initial.vocabulary(of_run) for run, of_run in by_run.items()}
    rows: list[tuple[_Place, dict[str, Any], Step | None]] = []
    for place, best, second in zip(gathered.places, found, seconds, strict=True):
        run, unit = place.run.id, place.unit.unit
        label = best.concept if best and best.score > score_of(place.found.best) else None
        if label is None and place.mark is not None and not by_run[run].settings.label_dead:
            rows.append((place, unlabelled(place.mark) | {"steps": place.found.steps}, None))
            continue
        row = columns(place.found) | {
            "second_label": second.concept.text if second else None,
            "second_score": second.score if second else None,
        }
        entry = None
        if label is not None:
            if place.mark is not None:
                row |= dict.fromkeys(("search_label", "search_score", "initial_label", "initial_score"))
            row |= _taken_over(deps, unit, label, gathered.sources[label])
            entry = _entry(deps.runs, run, unit, row, len(concepts))
        row |= evidence(by_run[run], unit, row["label"], row["images"], known[run] | place.found.boards)
        tied, mark = best is not None and best.tied, None if label else place.mark
        row |= {"status": "finished", **noted(by_run[run], place.found, row, tied=tied, mark=mark)}
        rows.append((place, row, entry))
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


def revisit_recorded(
    runs: Sequence[Run],
    store: Path | None,
    assets: Path | None,
    on_progress: OnProgress | None = None,
    changes: Mapping[str, Any] | None = None,
    drain: RunControl | None = None,
) -> list[Revisited]:
    """Revisit recorded runs that no other process works on; no language model is needed for it.

    Args:
        runs: the recorded runs.
        store: the folder that they are kept in.
        assets: folder of asset packs.
        on_progress: told of long work.
        changes: settings of this machine, such as the device.
        drain: asks to stop; nothing is changed then.

    Raises:
        DrainedError: it was asked to stop.
        UsageError: the runs cannot be compared, another process works on one, or a part is no longer the one that
            a run began with.
        LineError: see ``revisit``.
    """
    check_comparable(runs)
    # The vocabulary is recorded with each run, and its file may have gone.
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
        first.cache.events.record_to(first.runs, runs[0].id),
    ):
        return revisit(deps[runs[0].id], runs, first.progress_for("revisit", drain), deps)


def check_comparable(runs: Sequence[Run]) -> None:
    """See that a score means the same in all runs.

    Raises:
        UsageError: it does not; the first two runs that differ are named, and in what.
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
    """What decides a score: its name, its value, and the value as a person knows it."""
    settings, fingerprints = run.settings, run.fingerprints
    yield "target", fingerprints.get("target"), run.target_name
    yield "layer", run.layer, run.layer
    yield "generator", fingerprints.get("generator"), settings.get("generator")
    for name in ("scorer", "images", "template", "modifiers"):
        yield name, settings.get(name), settings.get(name)
    if needs_control(settings.get("scorer", "mean")):
        yield "control set", fingerprints.get("control"), settings.get("control")


def _gather(store: RunStore, runs: Sequence[Run], by_run: Mapping[str, Deps]) -> _Gathered:
    gathered = _Gathered()
    for run in runs:
        searched = searched_units(store, run.id)
        units = [unit for unit in store.units(run.id) if unit.status in DONE and unit.unit in searched]
        index = {unit.unit: place for place, unit in enumerate(units, len(gathered.places))}
        found: dict[int, tuple[Found, Mark | None]] = {}
        bans = banned(store, run.id)
        for number, trials in groupby(store.trials(run.id), lambda trial: trial.unit):
            history = list(trials)
            for trial in history:
                if trial.score is None:
                    continue
                concept, source = Concept(text_of(trial), trial.images), (run.id, number)
                gathered.sources[concept] = min(gathered.sources.get(concept, source), source)
                if number in index:
                    gathered.recorded[concept].append((index[number], trial.score))
            if number in index:
                looked = summarize_history(history, bans.get(number, ()), run.settings.get("duplicates", "refuse"))
                found[number] = looked, scoring.unvarying(by_run[run.id], number, history) or undecided(looked)
                for name in bans.get(number, ()):
                    gathered.forbidden[concept_key(name)].append(index[number])
        gathered.places += [_Place(run, unit, *found[unit.unit]) for unit in units]
    return gathered


def _taken_over(deps: Deps, unit: int, label: Concept, source: tuple[str, int]) -> dict[str, Any]:
    """The columns of a unit that change with a label that another unit found."""
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


def _entry(store: RunStore, run: str, unit: int, row: Mapping[str, Any], compared: int) -> Step:
    """The entry of the history that tells where a unit's label came from."""
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
    store: RunStore, runs: Sequence[str], rows: Sequence[tuple[_Place, dict[str, Any], Step | None]], compared: int
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
