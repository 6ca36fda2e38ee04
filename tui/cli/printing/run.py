"""Printing of runs and their units, for several commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.text import shell_word
from line_neurons.tools.label_marks import DONE, IN_DOUBT, OF_AUC, codes
from line_neurons.tools.run_problems import RunProblems, run_problems
from line_neurons.tools.spreads import Spreads
from line_neurons.tools.store.activity import WorkerStatus, work_counts
from line_neurons.tools.store.leases import LeaseStatus
from line_neurons.tools.store.records import Run, Unit
from line_neurons.tools.store.runs import RunStore, default_store
from line_neurons.tui.cli import output as terminal
from line_neurons.tui.formatting import (
    counted,
    estimate,
    found_by,
    is_worked_on,
    label_text,
    origin,
    plain,
    workers_text,
)

if TYPE_CHECKING:
    from line_neurons.graphs.runs.revisit import Revisited

_ROWS = 200
"""Most rows of a table of units on a terminal."""
_WHOLE = 30
"""Longest label in characters for which other columns make room."""


def store_flag(store: Path) -> str:
    """Return the option that a command needs for a store other than the user's default."""
    return "" if store == default_store() else f" --store {shell_word(str(store))}"


def outcome_json(problems: RunProblems) -> dict[str, Any]:
    """Return the outcome of a run as JSON."""
    return {
        "units_unlabelled": problems.unlabelled,
        "labels_marked": problems.marked,
        "answers": problems.refusals.answers,
        "answers_refused": problems.refusals.reasons,
        "steps_stalled": problems.refusals.stalled,
    }


def labels(store: Path, shown: Run, units: Sequence[Unit], *, in_doubt: bool = False) -> None:
    """Print the units of a run with their labels; on a terminal at most ``_ROWS``."""
    done = all(unit.status in DONE for unit in units)
    marked = in_doubt or any(unit.marks for unit in units)
    compared = any(mark.code in OF_AUC for unit in units for mark in unit.marks)
    first = units[:_ROWS] if terminal.out.is_terminal else units
    failed = [unit for unit in units[len(first) :] if unit.status == "failed"][:_ROWS]
    printed = [*first, *failed]
    terminal.table(
        [
            "unit",
            "name",
            "label",
            "score",
            "margin",
            "origin",
            "steps",
            *(["AUC"] if compared else []),
            *(["marked"] if marked else []),
            *([] if done else ["state"]),
        ],
        [
            [
                str(unit.unit),
                unit.name,
                label_text(unit),
                estimate(unit.score, spread),
                unit.margin,
                origin(unit),
                _steps(shown, unit),
                *([unit.auc] if compared else []),
                *([_codes(unit, in_doubt=in_doubt)] if marked else []),
                *([] if done else [unit.status + (f": {unit.error}" if unit.error else "")]),
            ]
            for unit, spread in zip(printed, Spreads(store, shown).of_units(printed), strict=True)
        ],
        f"{shown.target_name} {shown.layer}",
        drop=("margin", "steps", "origin"),
        whole=("label",) if all(len(label_text(unit) or "") <= _WHOLE for unit in printed) else (),
    )
    if hidden := len(units) - len(first):
        named = f", of which the failed are shown ({len(failed)})" if failed else ""
        terminal.line(f"and {counted(hidden, 'unit')} more{named}; all of them: line results {shown.id}")


def _codes(unit: Unit, *, in_doubt: bool) -> str:
    """Return a unit's marks; of a label in doubt that it is comes last."""
    return ", ".join(filter(None, [codes(unit.marks), IN_DOUBT if in_doubt and unit.label is not None else ""]))


def remarks(problems: RunProblems) -> None:
    """Print the problems of a run, one per line."""
    for remark in problems.remarks():
        terminal.line(remark, style="bold")


def revisited(units: Sequence[Revisited], *, as_json: bool) -> None:
    """Print the units whose label a revisit changed."""
    if as_json:
        terminal.dump(units)
        return
    better = [unit for unit in units if unit.found_by is not None]
    if better:
        terminal.table(
            ["run", "unit", "name", "label before", "label", "gain", "origin"],
            [
                [
                    unit.run,
                    str(unit.unit),
                    unit.name,
                    unit.search_label,
                    unit.label,
                    _gain(unit),
                    found_by(unit),
                ]
                for unit in better
            ],
        )
    terminal.line(f"{len(better)} of {counted(len(units), 'unit')} have a better label than before.")


def _gain(unit: Revisited) -> float | None:
    return None if unit.score is None or unit.search_score is None else unit.score - unit.search_score


def _steps(shown: Run, unit: Unit) -> str:
    """Return the steps of a unit; earlier versions did not record them, and took as many as the settings say."""
    if unit.steps is None and unit.status == "finished":
        return str(shown.settings.get("iterations", 0) + bool(shown.settings.get("summary")))
    return plain(unit.steps)


def unit_counts(states: Mapping[str, int]) -> str:
    """Return how many units are done, of how many, and how many failed."""
    failed = f" ({states['failed']} failed)" if states.get("failed") else ""
    return f"{sum(states.get(state, 0) for state in DONE)}/{sum(states.values())}{failed}"


def run_json(store: Path, opened: RunStore, shown: Run, units: Sequence[Unit]) -> dict[str, Any]:
    """Return a run with its units and outcome as JSON."""
    problems = run_problems(store, opened, shown)
    control = dict(zip(("control_images", "control_images_unread"), problems.control, strict=True))
    return (
        asdict(shown)
        | {"units": list(map(unit_json, units, Spreads(store, shown).of_units(units)))}
        | outcome_json(problems)
        | (control if problems.control[1] else {})
        | {"remarks": problems.remarks()}
    )


def unit_json(unit: Unit, spread: float | None) -> dict[str, Any]:
    """Return a unit as JSON; ``spread`` is the standard error of its score."""
    marks = [mark._asdict() for mark in unit.marks]
    return asdict(unit) | {"margin": unit.margin, "spread": spread, "marks": marks}


def holder_text(lease: LeaseStatus | None) -> str:
    """Return the process that holds a run; empty if none does."""
    return f"{lease.holder.name}{' (gone)' if lease.stale else ''}" if lease else ""


def workers_of(opened: RunStore, run: str, lease: LeaseStatus | None) -> tuple[WorkerStatus, ...]:
    """Return the workers of the process that holds a run; none of a dead one."""
    counts = work_counts(opened).get(run) if is_worked_on(lease) else None
    return counts.workers if counts else ()


def print_workers(workers: Sequence[WorkerStatus]) -> None:
    """Print what each worker has done, if there are any."""
    if workers:
        terminal.line(f"{workers_text(workers)}:")
    for worker in workers:
        terminal.line(f"{worker.place}: {worker.busy:.0%} busy, {worker.rate:.1f} images/s", lead="  ")


def holder_json(lease: LeaseStatus | None, workers: Sequence[WorkerStatus] = ()) -> dict[str, Any] | None:
    """Return the process that holds a run as JSON, with its workers."""
    if lease is None:
        return None
    holder = lease.holder
    return {
        "process": holder.process,
        "host": holder.host,
        "since": holder.began,
        "last_beat": holder.beat,
        "units": lease.units,
        "stop_asked_by": holder.stop,
        "stale": lease.stale,
        **({"workers": [*map(asdict, workers)]} if workers else {}),
    }
