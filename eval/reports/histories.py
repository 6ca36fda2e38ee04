"""Histories of recorded runs: what each search scored, and the settings in which runs differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Any

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import UsageError
from line_neurons.agent.presets import UNRECORDED
from line_neurons.agent.settings import revised
from line_neurons.tools.store.records import Run, Trial, Unit, score_of
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.steering_queue import applied_kinds
from line_neurons.tools.target_specs import short_spec

EXECUTION_SETTINGS = frozenset(
    {"device", "batch_size", "download", "max_concurrent_units", "llm_parallel", "batch_timeout",
     "max_consecutive_failures", "timeout", "langchain"}
)  # fmt: skip
"""Settings of how work is done, which do not change the results."""

LENGTH_SETTINGS = frozenset({"iterations", "max_iterations", "patience", "restarts", "summary"})
"""Settings of the length of a search: the shorter of two searches is the beginning of the longer."""

SteeredUnits = Mapping[int, tuple[str, ...]]
"""The kinds of applied steering commands, by unit."""

_NAMED = 20
"""Number of steered units of a run that are listed."""


@dataclass(frozen=True)
class UnitSearch:
    """The scored trials of a finished unit's own search, up to its first restart, in order."""

    unit: Unit
    trials: tuple[Trial, ...]

    def best_within(self, iterations: int, *, summary: bool = False) -> Trial:
        """Return the best trial of the initial scoreboard and a number of iterations; of equal scores the earlier.

        A search of N iterations is the beginning of a longer one: every request is seeded by its step, and none
        depends on the number of later ones. The summary is over the board after the last iteration, so it belongs
        to the whole search only.
        """
        within = (
            trial for trial in self.trials if (summary if trial.kind == "summary" else trial.step <= iterations)
        )
        return max(within, key=score_of)

    @cached_property
    def winner(self) -> Trial:
        """The best trial."""
        return max(self.trials, key=score_of)

    @property
    def iterations(self) -> int:
        """The last iteration."""
        return max((trial.step for trial in self.trials if trial.kind == "iteration"), default=0)


@dataclass(frozen=True)
class History:
    """A run with the searches of its finished units, by unit.

    Args:
        steered: the kinds of applied steering commands, by unit.
    """

    run: Run
    searches: Mapping[int, UnitSearch]
    steered: SteeredUnits = field(default_factory=dict)

    def unsteered(self) -> History:
        """Return the history without steered units.

        Raises:
            UsageError: no unit is left.
        """
        own = {unit: search for unit, search in self.searches.items() if unit not in self.steered}
        if not own:
            raise UsageError(
                f"every finished unit of run {self.run.id} was steered", "name a run without steering"
            )
        return replace(self, searches=own)

    @property
    def iterations(self) -> int:
        """N, or the last iteration of the longest search where patience extended it."""
        longest = max((search.iterations for search in self.searches.values()), default=0)
        return max(longest, int(self.run.settings.get("iterations", 0)))

    @property
    def place(self) -> tuple[str, str]:
        """Model and layer."""
        return self.run.target_name, self.run.layer


def by_layer(histories: Sequence[History]) -> list[list[int]]:
    """Group the positions of histories by layer, in the order in which layers are first named."""
    found: dict[tuple[str, str], list[int]] = {}
    for at, history in enumerate(histories):
        found.setdefault(history.place, []).append(at)
    return list(found.values())


def histories(runs: RunStore, names: Sequence[str]) -> list[History]:
    """Read the histories of runs, each once.

    Raises:
        UsageError: there is no such run, or one has no finished unit.
    """
    found = {run.id: run for run in map(runs.run, names)}
    return [history(runs, run) for run in found.values()]


def history(runs: RunStore, run: Run) -> History:
    """Read the history of a run.

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
    """Return the keys of the concepts that users typed."""
    return {concept_key(trial.concept) for trial in trials if trial.origin == "typed" and trial.concept}


def _with_origin(runs: RunStore, unit: Unit, typed: Mapping[int, set[str]]) -> Unit:
    """Return a unit with origin ``typed`` where a revisit found its label among those typed for another unit."""
    if unit.origin != "revisit" or unit.found_by is None or not unit.label:
        return unit
    here = unit.found_in in {None, unit.run}
    found = typed.get(unit.found_by, set()) if here else _typed(runs.trials(str(unit.found_in), unit.found_by))
    return replace(unit, origin="typed") if concept_key(unit.label) in found else unit


def steering_notes(runs: Sequence[tuple[Run, SteeredUnits]]) -> tuple[str, ...]:
    """Describe which units of runs were steered, and which runs are forks.

    Args:
        runs: runs, each with its applied steering commands by unit.
    """
    sentences = []
    for run, units in runs:
        if units:
            named = [f"{unit} ({', '.join(kinds)})" for unit, kinds in list(units.items())[:_NAMED]]
            others = [f"{len(units) - _NAMED} others"] if len(units) > _NAMED else []
            sentences.append(f"Steered units of run {run.id}: {'; '.join([*named, *others])}.")
        if run.forked_from:
            sentences.append(
                f"Run {run.id} is a fork: up to step {run.forked_step} it is unit {run.forked_unit} of run "
                f"{run.forked_from}."
            )
    return tuple(sentences)


def _first_search(trials: Iterable[Trial]) -> Iterator[Trial]:
    restarted = False
    for trial in trials:
        restarted = restarted or (trial.kind == "initial" and trial.step > 0)
        if not restarted and trial.score is not None:
            yield trial


def result_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recorded settings that affect results; settings newer than the record have their defaults."""
    # How queries are pooled is in the fingerprint of the target, on the layers where it matters.
    unseen = {*UNRECORDED, *EXECUTION_SETTINGS, "query_pool"}
    return revised(dict(settings), {}).model_dump(mode="json", exclude=unseen)


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the settings in which runs differ, with the value of each run."""
    rows = [
        {"model": run.shown_model, "layer": run.layer, **result_settings(run.settings), **_fingerprints(run)}
        for run in runs
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: [row.get(name) for row in rows] for name in names}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}


def _fingerprints(run: Run) -> dict[str, Any]:
    """Return the fingerprints of components, which may differ under equal settings."""
    return {f"{name} (fingerprint)": run.fingerprints.get(name) for name in ("target", "generator", "control")}


SHORT = {"iterations": "N", "images": "n", "llm": "", "modifiers": "", "generator": "", "layer": "", "model": ""}


def distinguishing_names(runs: Sequence[Run]) -> list[str]:
    """Name each run by the settings in which it differs from the others, or by its id."""
    found = {
        name: values
        for name, values in differences(runs).items()
        if not name.endswith("(fingerprint)")
        and all(isinstance(value, str | int | float | None) for value in values)
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
