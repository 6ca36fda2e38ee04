"""Choose concepts by what was measured, and record what was expected of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.agent.text import format_score
from line_neurons.graphs.loop.guidance import By, Guess, Ranking, uses_response_model
from line_neurons.graphs.loop.prompting import ModelReply
from line_neurons.graphs.loop.state import Deps, LineState, board_of
from line_neurons.graphs.loop.step_log import scored_before

_RECORDED = 5
"""Candidates whose expected improvement a step records."""
_CHOOSERS: dict[str, By] = {"guided": "guided", "near": "near"}


def chooser(deps: Deps, seed: int) -> By | None:
    """Return what chooses the concept of a request without a language model; None where one is asked."""
    override = deps.llm_overrides.get(seed)
    return _CHOOSERS.get((override.model if override else deps.language_model).fingerprint)


def rank(state: LineState, deps: Deps, by: By | None) -> Ranking | None:
    """Rank the candidates of a step for hints, or to choose from; None where nothing needs them."""
    settings = deps.settings
    if by is None and not (settings.hints_by == "improvement" and settings.hints):
        return None
    avoid = [*state["tried"], *state.get("banned", [])]
    return deps.guide.rank(
        state["unit"],
        scored_before(deps.runs, state),
        board_of(state, settings.capacity),
        avoid,
        max(settings.hints, _RECORDED),
        by or "guided",
    )


def choose(deps: Deps, ranking: Ranking | None, by: By, seed: int) -> ModelReply:
    """Return the first of the ranked candidates, in the place of a language model's reply."""
    began, model = time.monotonic(), str(by)
    assert ranking is not None
    if not ranking.concepts:
        return ModelReply("", "", "", seed, 0.0, model, 0.0, "every candidate was tried.")
    total = f"{ranking.total:,} candidates"
    if by == "guided" and not ranking.fell_back:
        why = f"Highest expected improvement of {total}: {format_score(ranking.improvements[0])}."
    else:
        why = f"Nearest of {total} to the best concepts."
    if ranking.fell_back:
        why = f"The response model knows nothing of this unit. {why}"
    return ModelReply(ranking.concepts[0], why, "", seed, 0.0, model, time.monotonic() - began)


def guidance_of(
    state: LineState, deps: Deps, concept: str, ranking: Ranking | None, *, nearness: bool = False
) -> LineState:
    """Return what the response model expects of a proposal, for the history; nothing where it takes no part.

    ``nearness``: the concept was chosen by nearness, as the response model knows nothing of the unit.
    """
    if not uses_response_model(deps.settings):
        return {}
    if not concept:
        return {"guidance": {}}
    scored, board = scored_before(deps.runs, state), board_of(state, deps.settings.capacity)
    guess = deps.guide.guess(state["unit"], scored, board, concept)
    found: dict[str, Any] = _detail(guess)
    if nearness or (ranking is not None and ranking.fell_back):
        found["by"] = "nearness"
    if ranking is not None and ranking.improvements:
        best = zip(ranking.concepts[:_RECORDED], ranking.improvements, strict=False)
        found["candidates"] = [[name, rounded(improvement)] for name, improvement in best]
    return {"guidance": found}


def expected_improvement(
    deps: Deps, unit: int, scored: Sequence[Entry], board: Scoreboard, avoid: Sequence[str]
) -> float:
    """Return the highest expected improvement of a candidate; -1 where the response model knows nothing."""
    ranking = deps.guide.rank(unit, scored, board, avoid, 1, "guided")
    if ranking.fell_back:
        return -1.0
    return rounded(ranking.improvements[0]) if ranking.improvements else 0.0


def _detail(guess: Guess) -> dict[str, Any]:
    """Return a guess as numbers by name."""
    named = {"score": guess.score, "deviation": guess.deviation, "improvement": guess.improvement}
    known = {} if guess.knows is None else {"knows": round(guess.knows, 3)}
    return {name: rounded(value) for name, value in named.items()} | known


def rounded(value: float) -> float:
    """Round to four digits: the last bits depend on the number of threads."""
    return float(f"{value:.4g}")
