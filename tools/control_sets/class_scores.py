"""Scores of the classes of a control set for a unit."""

from __future__ import annotations

from collections.abc import Mapping

from line_neurons.agent.concepts import class_concept
from line_neurons.agent.ports import Control
from line_neurons.tools.scorers import scorer_of


def rank_classes(control: Control, unit: int, scorer: str) -> dict[str, float]:
    """Score the control classes for a unit, best first; ties by name.

    AUC and MAD compare each class with the control images of all other classes.
    """
    column, ranking = control.column(unit), scorer_of(scorer)
    scored: dict[str, float] = {}
    for index, name in enumerate(control.classes):
        own = control.labels == index
        concept = class_concept(name)
        if not own.any() or not concept:
            continue
        value = ranking.one(column[own], column[~own] if ranking.needs_control else column)
        scored[concept] = max(value, scored.get(concept, value))
    return by_score(scored)


def by_score(scored: Mapping[str, float]) -> dict[str, float]:
    """Sort concepts by score, best first; ties by name."""
    return dict(sorted(scored.items(), key=lambda pair: (-pair[1], pair[0])))
