"""Overview of a run in a report: labels, distributions, cost and provenance."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from line_neurons.graphs.replay.provenance import SEED_RULES, work_history
from line_neurons.tools.label_marks import codes
from line_neurons.tools.run_problems import run_problems
from line_neurons.tools.store.leases import lease_status
from line_neurons.tools.store.queries import cost
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.unit_table import UnitRow, UnitRows
from line_neurons.tui.formatting import (
    NOT_RECORDED,
    format_versions,
    is_worked_on,
    machine_rows,
    mapping_of,
    origin,
    setting_texts,
    state_of,
)
from line_neurons.tui.report.charts import Histogram, histogram, score_axis

ORIGINS = {
    "predefined": "predefined: on the initial board",
    "proposed": "proposed in an iteration",
    "summary": "proposed in the summary",
    "revisit": "revisit: found by another unit",
    "typed": "suggested by a user",
}
MAIN_SETTINGS = (
    "iterations", "summary", "images", "top", "random", "scorer", "seed", "llm", "generator", "init", "control",
    "hints", "hints_by", "candidates", "proposals", "generate", "until",
    "patience", "max_iterations", "restarts", "facets", "random_pool", "revisit",
)  # fmt: skip
"""Settings that are listed first."""


@dataclass(frozen=True)
class LabelRow:
    """A row of the table of labels: a unit, and the origin of its label in words."""

    row: UnitRow
    origin: str

    @property
    def marked(self) -> str:
        """Problems of the unit or its label, in few words."""
        return codes(self.row.marks)

    @property
    def missing(self) -> str:
        """Why the unit has no label: its state, and what is wrong."""
        return f"{self.row.status}: {self.row.error}" if self.row.error else self.row.status

    @property
    def margin(self) -> float | None:
        """Score of the label minus that of the best concept of the initial board."""
        if self.row.score is None or self.row.initial_score is None:
            return None
        return self.row.score - self.row.initial_score


@dataclass(frozen=True)
class Overview:
    """Content of the overview of a run.

    Args:
        model: short name of its vision model.
        holder: name of the process that works on it; empty if there is none.
        read: time of reading, in seconds since the epoch.
        total_units: number of units of the run; the report may have fewer.
        scores: those of the labels; None if there are none.
        aucs: their AUC against the control set; None if there are none.
        discovered: number of labels that are not in the initial vocabulary.
        remarks: problems of the run as a whole, a sentence each.
        doubts: those of them that were known when the run started.
        cost: cost of the units of the report, as name and value.
        settings: those that are listed first, as name and value.
        environments: versions, source and machine of each environment of the run.
        seeds: what each random choice depends on.
        prompts: fixed texts of requests and image prompts, as name, SHA-256 and text.
    """

    run: Run
    model: str
    state: str
    holder: str
    read: float
    total_units: int
    lines: tuple[LabelRow, ...]
    states: tuple[tuple[str, int], ...]
    score_axis: str
    scores: Histogram | None
    aucs: Histogram | None
    origins: tuple[tuple[str, int], ...]
    discovered: int
    labelled: int
    remarks: tuple[str, ...]
    doubts: tuple[str, ...]
    cost: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    more_settings: tuple[tuple[str, str], ...]
    environments: tuple[tuple[tuple[str, str], ...], ...]
    seeds: tuple[tuple[str, str], ...]
    prompts: tuple[tuple[str, str, str], ...]

    @property
    def has_control(self) -> bool:
        """Whether the run has a control set."""
        return self.run.fingerprints.get("control") != "none"

    @property
    def marked(self) -> int:
        """Number of labels with a mark."""
        return sum(line.row.label is not None and bool(line.marked) for line in self.lines)


def read_overview(runs: RunStore, run: Run, chosen: frozenset[int] | None, now: float) -> Overview:
    """Read the overview of a run.

    Args:
        chosen: the units of the report; None: all.
        now: in seconds since the epoch.

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
    known = setting_texts(run.settings)
    work = work_history(run, runs.events(run.id))
    problems = run_problems(runs.path.parent, runs, run)
    return Overview(
        run=run,
        model=run.target_name,
        state=state_of(run, held),
        holder=held.holder.name if held and worked_on else "",
        read=now,
        total_units=len(every),
        lines=tuple(LabelRow(row, origin(row)) for row in rows),
        states=tuple(Counter(row.status for row in rows).most_common()),
        score_axis=score_axis(run.settings.get("scorer")),
        scores=histogram(scores),
        aucs=histogram(aucs, low=min([0.5, *aucs]), high=1.0),
        origins=tuple((words, came[name]) for name, words in ORIGINS.items() if came[name]),
        discovered=sum(bool(row.discovered) for row in labelled),
        labelled=len(labelled),
        remarks=tuple(problems.remarks()),
        doubts=problems.doubts,
        cost=tuple(_cost(runs, run, rows, now, going_on=worked_on)),
        settings=tuple((name, known[name]) for name in MAIN_SETTINGS if name in known),
        more_settings=tuple((name, value) for name, value in known.items() if name not in MAIN_SETTINGS),
        environments=tuple(tuple(_environment(environment)) for environment in work.environments),
        seeds=(("run seed", str(run.seed)), *SEED_RULES.items()),
        prompts=tuple(_prompt(kind, mapping_of(text)) for kind, text in mapping_of(work.prompts).items()),
    )


def _environment(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("packages", format_versions(environment["versions"])),
        ("source of line-neurons, SHA-256", environment["code"] or NOT_RECORDED),
        *machine_rows(environment["machine"]),
    ]


def _prompt(kind: str, prompt: Mapping[str, Any]) -> tuple[str, str, str]:
    text = {name: value for name, value in prompt.items() if name != "sha256"}
    return kind, str(prompt.get("sha256")), json.dumps(text, indent=1, ensure_ascii=False)


def _cost(
    runs: RunStore, run: Run, rows: Sequence[UnitRow], now: float, *, going_on: bool
) -> list[tuple[str, str]]:
    """List requests, images and time from the histories of the units."""
    took = cost(runs, run.id, [row.unit for row in rows])
    ended = run.finished or (now if going_on else None)
    items = [
        ("requests to the language model", f"{took.requests:,}"),
        ("seconds waiting for replies", f"{took.reply_seconds:,.0f}"),
        ("concepts scored", f"{took.concepts:,}"),
        ("images measured", f"{took.images:,}"),
        ("seconds of work, all units", f"{sum(row.seconds or 0.0 for row in rows):,.0f}"),
    ]
    if ended is not None and ended >= run.created:
        items.append(("seconds from start to end" if run.finished else "seconds since the start",
                      f"{ended - run.created:,.0f}"))  # fmt: skip
    return items


def utc_time(seconds: float | None) -> str:
    """Format a time in UTC; empty for None."""
    if seconds is None:
        return ""
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return ""
