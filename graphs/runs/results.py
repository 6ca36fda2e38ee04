"""The result of a unit's search: its label with the evidence, from its history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from line_neurons.agent.concepts import concept_key, distinct, find_duplicate
from line_neurons.graphs.loop import initial_board as initial
from line_neurons.graphs.loop import scoring
from line_neurons.graphs.loop.state import Deps
from line_neurons.tools import label_marks as marks
from line_neurons.tools.label_marks import Evidence, Mark
from line_neurons.tools.scorers import auc_interval
from line_neurons.tools.store.records import Run, Trial, Unit, score_of
from line_neurons.tools.store.steering_queue import banned


@dataclass(frozen=True)
class SearchSummary:
    """A summary of a unit's history; of equal scores the earlier one counts.

    Args:
        second: the highest score of a concept that shares no word with the label; None if there is none.
        initial: the highest score on the first board.
        boards: keys of all concepts that came on a board without having been proposed in an iteration.
        steps: number of iterations and summaries.
        scored: number of them that scored a concept.
        concepts: number of distinct scored concepts.
        tied: another concept has the label's score.
        undecided: several concepts were scored, and all have the same score.
    """

    best: Trial
    second: Trial | None
    initial: Trial
    boards: frozenset[str]
    steps: int
    scored: int
    concepts: int
    tied: bool
    undecided: bool


def search_result(deps: Deps, run: Run, unit: Unit) -> dict[str, Any]:
    """Return the result of a search that has ended: status, label and evidence, by column of ``Unit``."""
    history = list(deps.runs.trials(run.id, unit.unit))
    mark = scoring.constant_mark(deps, unit.unit, history)
    if mark and not any(trial.score is not None for trial in history):
        return unlabelled_columns(mark)
    forbidden = banned(deps.runs, run.id).get(unit.unit, ())
    found = summarize_history(history, forbidden, deps.settings.duplicates)
    mark = mark or undecided(found)
    if mark and not deps.settings.label_dead:
        return unlabelled_columns(mark) | {"steps": found.steps}
    known = initial.vocabulary(deps) | found.boards
    row = label_columns(found) | evidence_columns(deps, unit.unit, text_of(found.best), found.best.images, known)
    return {"status": "finished", **row, **note_columns(deps, found, row, tied=found.tied, mark=mark)}


def undecided(found: SearchSummary) -> Mark | None:
    """Return the mark of a unit whose concepts all have the same score; None if they differ."""
    return marks.undecided_mark(found.concepts, score_of(found.best)) if found.undecided else None


def unlabelled_columns(mark: Mark) -> dict[str, Any]:
    """Return the columns of a unit without a label; the mark says why."""
    nothing = dict.fromkeys((*_OF_LABEL, "auc", "auc_low", "auc_high", "density", "mad", "discovered", "steps"))
    return {**nothing, "images": (), "status": mark.code, "note": marks.format_note([mark])}


def note_columns(
    deps: Deps, found: SearchSummary, row: Mapping[str, Any], *, tied: bool, mark: Mark | None = None
) -> dict[str, Any]:
    """Return the marks that speak against a label, by column of ``Unit``.

    Args:
        tied: another concept has the label's score.
        mark: why the unit should have no label, where the settings label it all the same.
    """
    has_interval = row["auc_low"] is not None
    of_label = marks.label_marks(
        Evidence(
            images=tuple(row["images"]),
            wanted=deps.settings.images,
            tied=tied,
            own=row["found_by"] is None,
            steps=found.steps,
            scored=found.scored,
            auc=row["auc"],
            interval=(row["auc_low"], row["auc_high"]) if has_interval else None,
            density=row["density"],
        )
    )
    return {"note": marks.format_note([mark, *of_label] if mark else of_label)}


def summarize_history(
    history: Iterable[Trial], forbidden: Sequence[str] = (), duplicates: str = "refuse"
) -> SearchSummary:
    """Summarize the history of a unit whose search has ended; ``forbidden`` concepts do not count.

    Where a new score overwrites the old one (``duplicates``), only the last counts.
    """
    entries = list(history)
    scored = [
        entry for entry in entries if entry.score is not None and not find_duplicate(text_of(entry), forbidden)
    ]
    if duplicates == "overwrite":
        scored = list({text_of(entry): entry for entry in scored}.values())
    best = max(scored, key=score_of)
    keys = {concept_key(text_of(entry)) for entry in scored}
    as_high = {concept_key(text_of(entry)) for entry in scored if entry.score == best.score}
    others = (entry for entry in scored if distinct(text_of(entry), text_of(best)))
    boards = [entry for entry in scored if entry.kind == "initial"]
    return SearchSummary(
        best=best,
        second=max(others, key=score_of, default=None),
        initial=max((entry for entry in boards if entry.step == 0), key=score_of, default=best),
        boards=frozenset(concept_key(text_of(entry)) for entry in boards),
        steps=len({entry.step for entry in entries if entry.kind != "initial"}),
        scored=len({entry.step for entry in entries if entry.score is not None and entry.kind != "initial"}),
        concepts=len(keys),
        tied=len(as_high) > 1,
        undecided=len(keys) > 1 and len({entry.score for entry in scored}) == 1,
    )


_OF_LABEL = (
    "label", "score", "origin", "label_step", "initial_label", "initial_score", "second_label", "second_score",
    "search_label", "search_score", "found_by", "found_in",
)  # fmt: skip


def label_columns(found: SearchSummary) -> dict[str, Any]:
    """Return the label and its rivals, by column of ``Unit``."""
    best, second = found.best, found.second
    return {
        "label": best.concept,
        "score": best.score,
        "origin": best.origin,
        "label_step": best.step,
        "images": best.images,
        "initial_label": found.initial.concept,
        "initial_score": found.initial.score,
        "second_label": second.concept if second else None,
        "second_score": second.score if second else None,
        "steps": found.steps,
        "search_label": best.concept,
        "search_score": best.score,
        "found_by": None,
        "found_in": None,
    }


def evidence_columns(deps: Deps, unit: int, label: str, images: Sequence[str], known: Set[str]) -> dict[str, Any]:
    """Compare a label with the control set, by column of ``Unit``.

    ``known`` are the keys of the concepts that the search began with; a label not among them is discovered.
    """
    control = deps.control()
    row: dict[str, Any] = dict.fromkeys(("auc", "auc_low", "auc_high", "mad", "density"))
    if control is not None:
        import numpy as np

        activations = scoring.activate(deps, unit, list(images))
        row |= {scorer: scoring.score(deps, unit, activations, scorer) for scorer in ("auc", "mad")}
        column = control.column(unit)
        row["auc_low"], row["auc_high"] = auc_interval(np.asarray(activations, np.float32), column)
        row["density"] = marks.density(column)
    return {**row, "discovered": concept_key(label) not in known}


def text_of(entry: Trial) -> str:
    """Return a trial's concept; empty where it has none."""
    return entry.concept or ""
