"""What searches of recorded runs tried and found, and in what these runs differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Any

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.agent.settings import revised
from line_neurons.tools.store.records import Run, Trial, Unit
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import applied_kinds
from line_neurons.tools.targets.registry import short_spec

EXECUTION_SETTINGS = frozenset(
    {"device", "batch_size", "download", "max_concurrent_units", "llm_parallel", "batch_timeout",
     "max_consecutive_failures", "timeout", "langchain"}
)  # fmt: skip
"""Settings that say how work is done and not what comes of it."""

LENGTH_SETTINGS = frozenset({"iterations", "max_iterations", "patience", "restarts", "summary"})
"""Settings that say how long a search goes on: the shorter of two searches is the beginning of the longer."""

SteeredUnits = Mapping[int, tuple[str, ...]]
"""What people asked of units of a run and were granted, by unit."""

_NAMED = 20
"""Steered units of a run that are named one by one."""


@dataclass(frozen=True)
class UnitSearch:
    """What a finished unit's own search scored, up to its first restart, in order.

    Args:
        unit: the unit.
        trials: what has a score.
    """

    unit: Unit
    trials: tuple[Trial, ...]

    def best_within(self, iterations: int, *, summary: bool = False) -> Trial:
        """The best of the first board and so many iterations; of equal scores the earlier.

        A search of N iterations is the beginning of a longer one: every question is seeded by its step, and none
        depends on how many are to come. The summary is asked over the board after the last of them, so it belongs
        to the whole search only.
        """
        within = (
            trial for trial in self.trials if (summary if trial.kind == "summary" else trial.step <= iterations)
        )
        return max(within, key=_score)

    @cached_property
    def winner(self) -> Trial:
        """The best of all."""
        return max(self.trials, key=_score)

    @property
    def iterations(self) -> int:
        """The last iteration."""
        return max((trial.step for trial in self.trials if trial.kind == "iteration"), default=0)


@dataclass(frozen=True)
class History:
    """A run with the searches of its finished units, by unit.

    Args:
        run: the run.
        searches: its searches.
        steered: what people asked of units and were granted, by unit.
    """

    run: Run
    searches: Mapping[int, UnitSearch]
    steered: SteeredUnits = field(default_factory=dict)

    def unsteered(self) -> History:
        """The searches that went their own way.

        Raises:
            UsageError: there are none.
        """
        own = {unit: search for unit, search in self.searches.items() if unit not in self.steered}
        if not own:
            raise UsageError(
                f"every finished unit of run {self.run.id} was steered", "name a run without steering"
            )
        return replace(self, searches=own)

    @property
    def iterations(self) -> int:
        """N, or the last iteration of the longest search where patience let it go on."""
        longest = max((search.iterations for search in self.searches.values()), default=0)
        return max(longest, int(self.run.settings.get("iterations", 0)))

    @property
    def place(self) -> tuple[str, str]:
        """Model and layer."""
        return self.run.target_name, self.run.layer


def by_layer(histories: Sequence[History]) -> list[list[int]]:
    """The positions of the histories, layer by layer, in the order in which layers are first named."""
    found: dict[tuple[str, str], list[int]] = {}
    for at, one in enumerate(histories):
        found.setdefault(one.place, []).append(at)
    return list(found.values())


def histories(runs: RunStore, names: Sequence[str]) -> list[History]:
    """The histories of runs, each once.

    Raises:
        UsageError: there is no such run, or one has no finished unit.
    """
    found = {run.id: run for run in map(runs.run, names)}
    return [history(runs, run) for run in found.values()]


def history(runs: RunStore, run: Run) -> History:
    """The history of a run.

    Raises:
        UsageError: it has no finished unit.
    """
    units = {unit.unit: unit for unit in runs.units(run.id) if unit.status == "finished"}
    trials: dict[int, tuple[Trial, ...]] = {}
    typed: dict[int, set[str]] = {}
    for unit, own in groupby(runs.trials(run.id), key=lambda trial: trial.unit):
        every = list(own)
        trials[unit] = tuple(_first_search(every))
        typed[unit] = _typed(every)
    searches = {}
    for unit, row in sorted(units.items()):
        if trials.get(unit):
            searches[unit] = UnitSearch(_with_origin(runs, row, typed), trials[unit])
    if not searches:
        raise UsageError(f"no unit of run {run.id} is finished", f"line resume {run.id}")
    return History(run, searches, applied_kinds(runs, run.id))


def _typed(trials: Iterable[Trial]) -> set[str]:
    """Keys of the concepts that people typed in."""
    return {concept_key(trial.concept) for trial in trials if trial.origin == "typed" and trial.concept}


def _with_origin(runs: RunStore, unit: Unit, typed: Mapping[int, set[str]]) -> Unit:
    """A label that a revisit found where a person had typed it in for another unit is a person's too."""
    if unit.origin != "revisit" or unit.found_by is None or not unit.label:
        return unit
    here = unit.found_in in {None, unit.run}
    found = typed.get(unit.found_by, set()) if here else _typed(runs.trials(str(unit.found_in), unit.found_by))
    return replace(unit, origin="typed") if concept_key(unit.label) in found else unit


def steering_notes(runs: Sequence[tuple[Run, SteeredUnits]]) -> tuple[str, ...]:
    """Which units of runs people steered, and which runs are forks; a sentence for each run of which there is one.

    Args:
        runs: runs, each with what people were granted by unit.
    """
    said = []
    for run, units in runs:
        if units:
            named = [f"{unit} ({', '.join(kinds)})" for unit, kinds in list(units.items())[:_NAMED]]
            others = [f"{len(units) - _NAMED} others"] if len(units) > _NAMED else []
            said.append(f"Steered units of run {run.id}: {'; '.join([*named, *others])}.")
        if run.forked_from:
            said.append(
                f"Run {run.id} is a fork: up to step {run.forked_step} it is unit {run.forked_unit} of run "
                f"{run.forked_from}."
            )
    return tuple(said)


def _first_search(trials: Iterable[Trial]) -> Iterator[Trial]:
    restarted = False
    for trial in trials:
        restarted = restarted or (trial.kind == "initial" and trial.step > 0)
        if not restarted and trial.score is not None:
            yield trial


def _score(trial: Trial) -> float:
    return float("-inf") if trial.score is None else trial.score


def result_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded settings that decide what comes of a run; what is newer than the record has its default."""
    return revised(dict(settings), {}).model_dump(
        mode="json", exclude={"store", "assets", "ollama", *EXECUTION_SETTINGS}
    )


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The settings in which runs differ, with the value of each run."""
    rows = [
        {"model": run.shown_model, "layer": run.layer, **result_settings(run.settings), **_parts(run)}
        for run in runs
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: [row.get(name) for row in rows] for name in names}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}


def _parts(run: Run) -> dict[str, Any]:
    """Parts that may differ though the settings do not: another checkpoint, another file of the same name."""
    return {f"{part} (fingerprint)": run.fingerprints.get(part) for part in ("target", "generator", "control")}


SHORT = {"iterations": "N", "images": "n", "llm": "", "modifiers": "", "generator": "", "layer": "", "model": ""}


def distinguishing_names(runs: Sequence[Run]) -> list[str]:
    """A short name of each run: in what it differs from the others, or its id where that says nothing."""
    found = {
        name: values
        for name, values in differences(runs).items()
        if not name.endswith("(fingerprint)") and all(isinstance(one, str | int | float | None) for one in values)
    }
    names = [
        ", ".join(_setting(name, values[place]) for name, values in found.items()) or run.id
        for place, run in enumerate(runs)
    ]
    unclear = len(set(names)) < len(names) or max(map(len, names), default=0) > 60
    return [run.id for run in runs] if unclear else names


def _setting(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else f"no {name}"
    if name in {"model"}:
        return short_spec(str(value))
    called = SHORT.get(name, name.replace("_", " "))
    return f"{called} = {value}" if isinstance(value, int | float) else f"{called} {value}".strip()
