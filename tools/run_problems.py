"""Problems of a run: units without a label, marked labels, refused replies, unreadable images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from line_neurons.agent.text import counted
from line_neurons.tools.cache.reader import control_counts
from line_neurons.tools.label_marks import IN_DOUBT, UNLABELLED, read_marks
from line_neurons.tools.store.queries import last_detail, unit_verdicts
from line_neurons.tools.store.records import Run
from line_neurons.tools.store.refused_replies import Refusals, refusals, remedy, summary
from line_neurons.tools.store.runs import RunStore

DOUBTS_EVENT = "doubts"
"""The kind of the event that records why labels may be wrong from the start."""


@dataclass(frozen=True)
class RunProblems:
    """What went wrong in a run.

    Args:
        unlabelled: units that can have no label, by state.
        marked: labels that are marked, by mark; a label may have several.
        control: control images that were measured, and those that could not be read.
        settings: the run's settings, which decide what helps.
        doubts: why labels may be wrong or poor whatever the search finds, as recorded when the run started.
    """

    unlabelled: dict[str, int]
    marked: dict[str, int]
    labels: int
    refusals: Refusals
    control: tuple[int, int]
    settings: dict[str, object]
    doubts: tuple[str, ...] = ()

    def remarks(self) -> list[str]:
        """Return a sentence for each problem, with its remedy."""
        found = [f"{IN_DOUBT}: {doubt}" for doubt in self.doubts]
        if self.unlabelled:
            found.append(
                f"{counted(sum(self.unlabelled.values()), 'unit')} without a label: {_listed(self.unlabelled)}"
            )
        if self.marked:
            found.append(f"{counted(self.labels, 'label')} marked: {_listed(self.marked)}")
        if replies := summary(self.refusals):
            stalled = self.refusals.stalled
            steps = f"; {counted(stalled, 'step')} without a concept" if stalled else ""
            alone = ": no label comes from the language model" if self.refusals.all_refused else ""
            # Some refusals are part of the method.
            helps = f"; try {remedy(self.refusals, self.settings)}" if self.refusals.mostly else ""
            found.append(f"{replies}{steps}{alone}{helps}")
        measured, unread = self.control
        if unread:
            found.append(
                f"{unread:,} of {measured + unread:,} control images could not be read and are not counted"
            )
        return found

    def short(self) -> str:
        """Return the problems in a few words, for a column."""
        found = [IN_DOUBT] if self.doubts else []
        found += [f"{count} {state}" for state, count in self.unlabelled.items()]
        if self.labels:
            found.append(f"{counted(self.labels, 'label')} marked")
        if self.refusals.mostly:
            found.append(f"{self.refusals.refused:,} of {self.refusals.answers:,} replies refused")
        return ", ".join(found)


def run_problems(store: Path, runs: RunStore, run: Run) -> RunProblems:
    """Return the problems of a run.

    Raises:
        StoreError: the store cannot be read.
    """
    return _condition(runs, run, refusals(runs, run.id), control_counts(store, run.layer, run.fingerprints))


def recorded_doubts(runs: RunStore, run: str) -> tuple[str, ...]:
    """Return why the labels of a run may be wrong or poor, as recorded when it started."""
    detail = last_detail(runs, run, DOUBTS_EVENT)
    sentences = detail.get("sentences") if isinstance(detail, dict) else None
    return tuple(map(str, sentences)) if isinstance(sentences, list) else ()


def record_doubts(runs: RunStore, run: str, doubts: Sequence[str]) -> None:
    """Record why the labels of a run may be wrong or poor, a sentence each."""
    if doubts:
        runs.add_event(run, DOUBTS_EVENT, sentences=list(doubts))


def listed_run_problems(runs: RunStore, run: Run, refused: Refusals) -> RunProblems:
    """Return the problems of a run in a list, without those of its control set; see ``refusals_by_run``."""
    return _condition(runs, run, refused, (0, 0))


def _condition(runs: RunStore, run: Run, refused: Refusals, control: tuple[int, int]) -> RunProblems:
    rows = unit_verdicts(runs, run.id)
    states = Counter(str(status) for status, *_ in rows)
    marks = [
        read_marks(None if note is None else str(note), auc if isinstance(auc, float) else None)
        for _, note, auc, label in rows
        if label is not None
    ]
    return RunProblems(
        {state: states[state] for state in UNLABELLED if states[state]},
        dict(Counter(mark.code for several in marks for mark in several).most_common()),
        sum(bool(several) for several in marks),
        refused,
        control,
        dict(run.settings),
        recorded_doubts(runs, run.id),
    )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())
