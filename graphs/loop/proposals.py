"""Several proposals of one request: which are usable, which is generated next, and which wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from line_neurons.agent.concepts import find_duplicate, normalise_concept
from line_neurons.agent.settings import Settings
from line_neurons.agent.text import clean_text
from line_neurons.graphs.loop.choosing import guidance_of, rounded
from line_neurons.graphs.loop.guidance import Ranking, ranks_proposals
from line_neurons.graphs.loop.state import Deps, LineState, WaitingConcept, board_of
from line_neurons.graphs.loop.step_log import log_step, scored_before

_MOST_WAITING = 50
"""Most concepts that wait; of more, the least promising are forgotten."""


@dataclass(frozen=True)
class RefusedConcept:
    """A concept of a reply that cannot be used; ``reason`` is in words for the model."""

    concept: str
    outcome: str
    reason: str


@dataclass(frozen=True)
class Sifted:
    """The concepts of a reply.

    Args:
        waiting: the usable ones, after those that waited before.
        cut: number of concepts beyond those that were requested.
    """

    waiting: list[WaitingConcept]
    refused: list[RefusedConcept]
    cut: int


def waiting_concepts(state: LineState, settings: Settings) -> list[WaitingConcept]:
    """Return the concepts that wait and may still be generated."""
    return [entry for entry in state.get("waiting", []) if not _refusal(str(entry[0]), state, settings)]


def sift(named: Sequence[str], waiting: Sequence[WaitingConcept], state: LineState, settings: Settings) -> Sifted:
    """Validate each concept of a reply; a broken one spoils no other."""
    usable, fresh, refused = list(waiting), list[str](), list[RefusedConcept]()
    for text in named[: settings.proposals]:
        shown = clean_text(text, 80)
        try:
            concept = normalise_concept(text)
        except ValueError as error:
            refused.append(RefusedConcept(shown, "invalid", f'"{shown}" is unusable: {error}.'))
            continue
        if reason := _refusal(concept, state, settings):
            refused.append(RefusedConcept(concept, "duplicate", reason))
        elif (known := find_duplicate(concept, fresh)) is not None:
            refused.append(RefusedConcept(concept, "duplicate", f'"{known}" was named already.'))
        else:
            fresh.append(concept)
            if find_duplicate(concept, [str(entry[0]) for entry in usable]) is None:
                usable.append([concept, state["step"]])
    return Sifted(usable, refused, max(0, len(named) - settings.proposals))


def _refusal(concept: str, state: LineState, settings: Settings) -> str:
    """Say why a concept may not be proposed, in words for the model; empty if it may."""
    if (forbidden := find_duplicate(concept, state.get("banned", []))) is not None:
        return f'"{forbidden}" is forbidden.'
    if settings.duplicates == "refuse" and (known := find_duplicate(concept, state["tried"])) is not None:
        return f'"{known}" was tried already.'
    return ""


def choose_waiting(
    state: LineState,
    deps: Deps,
    waiting: Sequence[WaitingConcept],
    left: int,
    hinted: Ranking | None = None,
    **request: Any,
) -> LineState:
    """Propose the concept with the highest expected improvement of those that wait.

    Where all proposals are generated anyhow, they come in the order of the reply.

    Args:
        waiting: the concepts that wait, at least one.
        left: number of concepts, this one included, to generate before the next request.
        hinted: the candidates of the request's hints.
        request: what the history records of the request.
    """
    named = {str(concept): int(step) for concept, step in waiting}
    ranking = Ranking(tuple(named), (), len(named))
    if ranks_proposals(deps.settings):
        board = board_of(state, deps.settings.capacity)
        ranking = deps.guide.order(state["unit"], scored_before(deps.runs, state), board, tuple(named))
    concept, *others = ranking.concepts[: 1 + _MOST_WAITING]
    improvements: list[float | None] = [rounded(value) for value in ranking.improvements]
    improvements += [None] * (len(ranking.concepts) - len(improvements))
    promises = dict(zip(ranking.concepts, improvements, strict=True))
    return {
        "concept": concept,
        "waiting": [[other, named[other]] for other in others],
        "left": left - 1,
        "proposals": {
            **request,
            "step": named[concept],
            "left": left - 1,
            "waiting": [[other, promises[other], named[other]] for other in others],
        },
        **guidance_of(state, deps, concept, hinted, nearness=ranking.fell_back),
        "outcome": "proposed",
    }


def log_refused(state: LineState, deps: Deps, refused: Sequence[RefusedConcept]) -> list[str]:
    """Log concepts of a reply that were refused, each as an attempt after the current one; returns the reasons."""
    bare: LineState = {
        "reasoning": "", "reply": "", "seconds": 0.0, "prompt": "", "hints": [], "guidance": {}, "proposals": {},
        "own_request": False, "origin": "proposed",
    }  # fmt: skip
    for at, entry in enumerate(refused, state["attempt"] + 1):
        attempt: LineState = {"attempt": at, "concept": entry.concept}
        detail = {"reason": entry.reason, "proposals": {"step": state["step"]}}
        log_step(state | bare | attempt, deps, entry.outcome, concept=entry.concept or None, detail=detail)
    return [entry.reason for entry in refused]
