"""The whole of a run in a report: its labels, how they are distributed, what they cost and came from."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from line_neurons.graphs.replay.provenance import SEED_RULES, work_history
from line_neurons.graphs.replay.provenance_text import NOT_RECORDED, format_versions, machine_rows, mapping_of
from line_neurons.tools.label_marks import codes
from line_neurons.tools.run_problems import run_problems
from line_neurons.tools.store.leases import lease_status
from line_neurons.tools.store.queries import cost
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.unit_table import UnitRow, UnitRows
from line_neurons.tui.formatting import is_worked_on, origin, state_of
from line_neurons.tui.report.charts import Histogram, histogram

ORIGINS = {
    "predefined": "predefined: on the first board",
    "proposed": "generated in an iteration",
    "summary": "generated in the summary",
    "revisit": "revisit: found by another unit",
    "typed": "typed in by a person",
}
MAIN = (
    "iterations", "summary", "images", "top", "random", "scorer", "seed", "llm", "generator", "init", "control",
    "hints", "patience", "max_iterations", "restarts", "random_pool", "revisit",
)  # fmt: skip
"""Settings that are named first."""


@dataclass(frozen=True)
class Line:
    """A unit in the table of labels, with where its label came from in words."""

    row: UnitRow
    origin: str

    @property
    def marked(self) -> str:
        """What is wrong with the unit or its label, in few words."""
        return codes(self.row.marks)

    @property
    def margin(self) -> float | None:
        """How much the label exceeds the best of the first board."""
        if self.row.score is None or self.row.initial_score is None:
            return None
        return self.row.score - self.row.initial_score


@dataclass(frozen=True)
class Overview:
    """What a report says of a run.

    Args:
        run: the run.
        model: its vision model, in short.
        state: its state as it is now.
        holder: the process that works on it; empty if none does.
        read: when all of this was read, in seconds since the epoch.
        of_run: how many units the run has; the report may have fewer.
        lines: the units of the report.
        states: how many of them are in each state.
        scores: their scores; None where there are none.
        aucs: their AUC against the control set; None where there are none.
        origins: how many labels came from where.
        discovered: how many labels were not in the first vocabulary.
        labelled: how many labels there are.
        remarks: what is wrong with the run as a whole, a sentence each.
        cost: what the units of the report took, as name and value.
        settings: those that are named first, as name and value.
        more_settings: all others.
        worked_with: versions, source and machine of each environment that the run was worked on with.
        seeds: what each random choice is a function of.
        prompts: what questions and images begin with, as name, SHA-256 and text.
    """

    run: Run
    model: str
    state: str
    holder: str
    read: float
    of_run: int
    lines: tuple[Line, ...]
    states: tuple[tuple[str, int], ...]
    scores: Histogram | None
    aucs: Histogram | None
    origins: tuple[tuple[str, int], ...]
    discovered: int
    labelled: int
    remarks: tuple[str, ...]
    cost: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    more_settings: tuple[tuple[str, str], ...]
    worked_with: tuple[tuple[tuple[str, str], ...], ...]
    seeds: tuple[tuple[str, str], ...]
    prompts: tuple[tuple[str, str, str], ...]


def read_overview(runs: RunStore, run: Run, chosen: frozenset[int] | None, now: float) -> Overview:
    """Look over a run.

    Args:
        runs: the store.
        run: the run.
        chosen: the units of the report; None: all.
        now: the time, in seconds since the epoch.

    Raises:
        StoreError: the store cannot be read.
    """
    held = lease_status(runs, check_liveness=False).get(run.id)
    worked_on = is_worked_on(held)
    every = UnitRows(run.id, lambda row: row).read(runs, worked_on=worked_on)
    rows = [row for row in every if chosen is None or row.unit in chosen]
    labelled = [row for row in rows if row.label is not None]
    scores = [row.score for row in labelled if row.score is not None]
    aucs = [row.auc for row in labelled if row.auc is not None]
    came = Counter(row.origin for row in labelled)
    known = {name: _said(value, name) for name, value in run.settings.items()}
    work = work_history(run, runs.events(run.id))
    return Overview(
        run=run,
        model=run.target_name,
        state=state_of(run, held),
        holder=held.holder.name if held and worked_on else "",
        read=now,
        of_run=len(every),
        lines=tuple(Line(row, origin(row)) for row in rows),
        states=tuple(Counter(row.status for row in rows).most_common()),
        scores=histogram(scores),
        aucs=histogram(aucs, low=min([0.5, *aucs]), high=1.0),
        origins=tuple((words, came[name]) for name, words in ORIGINS.items() if came[name]),
        discovered=sum(bool(row.discovered) for row in labelled),
        labelled=len(labelled),
        remarks=tuple(run_problems(runs.path.parent, runs, run).remarks()),
        cost=tuple(_cost(runs, run, rows, now, going_on=worked_on)),
        settings=tuple((name, known[name]) for name in MAIN if name in known),
        more_settings=tuple((name, value) for name, value in known.items() if name not in MAIN),
        worked_with=tuple(tuple(_circumstances(one)) for one in work.environments),
        seeds=(("run seed", str(run.seed)), *SEED_RULES.items()),
        prompts=tuple(_prompt(kind, mapping_of(text)) for kind, text in mapping_of(work.prompts).items()),
    )


def _circumstances(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("packages", format_versions(environment["versions"])),
        ("source of line-neurons, SHA-256", environment["code"] or NOT_RECORDED),
        *machine_rows(environment["machine"]),
    ]


def _prompt(kind: str, told: Mapping[str, Any]) -> tuple[str, str, str]:
    text = {name: value for name, value in told.items() if name != "sha256"}
    return kind, str(told.get("sha256")), json.dumps(text, indent=1, ensure_ascii=False)


def _cost(
    runs: RunStore, run: Run, rows: Sequence[UnitRow], now: float, *, going_on: bool
) -> list[tuple[str, str]]:
    """Questions, images and time, read off the histories of the units."""
    took = cost(runs, run.id, [row.unit for row in rows])
    ended = run.finished or (now if going_on else None)
    found = [
        ("questions to the language model", f"{took.requests:,}"),
        ("seconds for answers", f"{took.reply_seconds:,.0f}"),
        ("concepts scored", f"{took.concepts:,}"),
        ("images looked at", f"{took.images:,}"),
        ("seconds of work, all units", f"{sum(row.seconds or 0.0 for row in rows):,.0f}"),
    ]
    if ended is not None and ended >= run.created:
        found.append(("seconds from start to end" if run.finished else "seconds since the start",
                      f"{ended - run.created:,.0f}"))  # fmt: skip
    return found


def moment(seconds: float | None) -> str:
    """A time as a calendar has it, in UTC, so that it says the same to everybody; empty for none."""
    if seconds is None:
        return ""
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return ""


def _said(value: Any, name: str) -> str:
    """A setting in words. Arguments of a chat model of one's own may be secrets, so they are counted only."""
    if name == "langchain" and isinstance(value, Mapping):
        return f"{len(value)} arguments, not shown" if value else "none"
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return (
            ", ".join(f"{key} {_said(one, str(key))}" for key, one in value.items() if one is not None) or "none"
        )
    if isinstance(value, list | tuple):
        return ", ".join(_said(one, "") for one in value)
    return str(value)
