"""What came of a unit's own search: its label with the evidence, read off its history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any

from line_neurons.agent.proposal import concept_key, distinct, find_duplicate
from line_neurons.graphs import initial, scoring
from line_neurons.graphs.state import Deps
from line_neurons.tools.run_store import Run, Trial, Unit
from line_neurons.tools.wishes import banned


@dataclass(frozen=True)
class Found:
    """What stands out in a unit's history; of equal scores the earlier one.

    Args:
        best: the highest score: the label.
        second: the highest score of a concept that shares no word with the label; None if there is none.
        initial: the highest score on the first board.
        boards: keys of all concepts that came on a board without having been proposed in an iteration.
        steps: number of iterations and summaries.
    """

    best: Trial
    second: Trial | None
    initial: Trial
    boards: frozenset[str]
    steps: int


def search_result(deps: Deps, run: Run, unit: Unit) -> dict[str, Any]:
    """The label that a unit's own search found, with its evidence, by column of ``Unit``.

    Args:
        deps: the graph's parts.
        run: the run.
        unit: a unit of it whose search has ended.
    """
    found = look_through(
        deps.runs.trials(run.id, unit.unit),
        banned(deps.runs, run.id).get(unit.unit, ()),
        deps.settings.duplicates,
    )
    known = initial.vocabulary(deps) | found.boards
    return columns(found) | evidence(deps, unit.unit, text_of(found.best), found.best.images, known)


def look_through(history: Iterable[Trial], forbidden: Sequence[str] = (), duplicates: str = "refuse") -> Found:
    """What stands out in the history of a unit whose search has ended, in order.

    Args:
        history: what the search tried.
        forbidden: concepts that people want not to be a label; they stand out in nothing.
        duplicates: the setting of the run; where a new score overwrites the old one, the last alone counts.
    """
    entries = list(history)
    scored = [
        entry for entry in entries if entry.score is not None and not find_duplicate(text_of(entry), forbidden)
    ]
    if duplicates == "overwrite":
        scored = list({text_of(entry): entry for entry in scored}.values())
    best = max(scored, key=score_of)
    others = (entry for entry in scored if distinct(text_of(entry), text_of(best)))
    boards = [entry for entry in scored if entry.kind == "initial"]
    return Found(
        best=best,
        second=max(others, key=score_of, default=None),
        initial=max((entry for entry in boards if entry.step == 0), key=score_of, default=best),
        boards=frozenset(concept_key(text_of(entry)) for entry in boards),
        steps=len({entry.step for entry in entries if entry.kind != "initial"}),
    )


def columns(found: Found) -> dict[str, Any]:
    """What a unit's own search found, by column of ``Unit``."""
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


def evidence(deps: Deps, unit: int, label: str, images: Sequence[str], known: Set[str]) -> dict[str, Any]:
    """How a label compares with the control set, and whether it is new, by column of ``Unit``.

    Args:
        deps: the graph's parts.
        unit: index of the unit.
        label: the concept.
        images: ids of its pictures.
        known: keys of the concepts that the search began with.
    """
    auc = mad = None
    if deps.control() is not None:
        activations = scoring.activate(deps, unit, list(images))
        auc, mad = (scoring.score(deps, unit, activations, scorer) for scorer in ("auc", "mad"))
    return {"auc": auc, "mad": mad, "discovered": concept_key(label) not in known}


def text_of(entry: Trial) -> str:
    """An entry's concept, which every scored entry has."""
    return entry.concept or ""


def score_of(entry: Trial) -> float:
    """An entry's score; below every other where it has none."""
    return float("-inf") if entry.score is None else entry.score
