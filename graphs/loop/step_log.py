"""Log the steps of a search as entries of the unit's history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.graphs.loop.state import Deps, LineState, board_of
from line_neurons.tools.store.records import Step
from line_neurons.tools.store.runs import RunStore


def log_step(
    state: LineState,
    deps: Deps,
    outcome: str,
    *,
    concept: str | None = None,
    score: float | None = None,
    images: tuple[str, ...] = (),
    removed: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Log the outcome of the current proposal; the same step and attempt again replaces the entry.

    ``state`` has the board after the step; the other arguments are columns of ``Step``.
    """
    bare = state.get("origin") == "typed" or not state.get("own_request", True)
    # With the hints the prompt can be rebuilt without the generator.
    hints = {"hints": state["hints"]} if state.get("hints") else {}
    guidance = {"guidance": state["guidance"]} if state.get("guidance") else {}
    proposals = {"proposals": state["proposals"]} if state.get("proposals") else {}
    deps.runs.put_step(
        Step(
            run=state["run"],
            unit=state["unit"],
            step=state["step"],
            attempt=state["attempt"],
            kind=state["kind"],
            outcome=outcome,
            concept=concept,
            score=score,
            reasoning=state.get("reasoning", ""),
            reply=state.get("reply", ""),
            origin=state.get("origin") or ("summary" if state["kind"] == "summary" else "proposed"),
            images=images,
            board=board_pairs(board_of(state, deps.settings.capacity)),
            removed=removed,
            seed=None if bare else state["llm_seed"],
            temperature=None if bare else state["temperature"],
            seconds=state["seconds"],
            model=None if bare else state["model"],
            detail={**(detail or {}), **hints, **guidance, **proposals} or None,
            prompt=state.get("prompt") or None,
        )
    )


def scored_before(runs: RunStore, state: LineState) -> list[Entry]:
    """Return what the unit was scored on before the current place; a killed process may have recorded more."""
    if "step" not in state:
        return []
    here = (state["step"], state["attempt"])
    return [
        Entry(trial.concept, trial.score)
        for trial in runs.trials(state["run"], state["unit"])
        if trial.concept and trial.score is not None and (trial.step, trial.attempt) < here
    ]


def board_pairs(board: Scoreboard) -> tuple[tuple[str, float], ...]:
    """Return a scoreboard as (concept, score) pairs."""
    return tuple((entry.concept, entry.score) for entry in board.entries)
