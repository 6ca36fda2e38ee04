"""What follows a node, and what follows a step: an iteration, the summary, a new board, or the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

from langgraph.graph import END

from line_neurons.agent import loop
from line_neurons.agent.scoreboard import Entry
from line_neurons.agent.setting_groups.guidance import promises_little
from line_neurons.agent.settings import Settings
from line_neurons.graphs.loop.state import ConceptScore, LineState, StepKind, board_of


def after_step(state: LineState, kind: StepKind, settings: Settings) -> LineState:
    """Return what the end of a step changes in a state; ``state`` has the step's own changes already."""
    following: LineState = {"step": state["step"] + 1, "attempt": 0, "refused": [], "outcome": ""}
    if "aside" in state:
        following |= {"aside": [], "siblings": 0}
    if "held" in state:
        following |= {"refused": state["held"], "held": []}
    # A checkpoint of an earlier version knows nothing of restarts.
    defaults: LineState = {"restart": 0, "begin": 0, "gained": state["step"], "found": []}
    now = defaults | state | following
    following |= next_kind(now, kind, settings)
    if following["kind"] == "initial":
        following |= next_search(now, settings)
    return following


def next_search(state: LineState, settings: Settings) -> LineState:
    """Return what a further search of the unit changes in the state at the end of one."""
    ended = board_of(state, settings.capacity).best.concept
    return {"restart": state.get("restart", 0) + 1, "found": [*state.get("found", []), ended]}


def next_kind(state: LineState, kind: StepKind, settings: Settings) -> LineState:
    """Choose the kind of the next step; ``state`` is that of the next step, ``kind`` that of the last."""
    scheduled, typed, further = _scheduled(state, kind, settings), state.get("typed", []), state.get("further", 0)
    if further:
        scheduled = "iteration" if further > 1 else "end"
        further -= 1
    if typed and scheduled == "end":
        return {"kind": "iteration", "further": len(typed)}
    if typed and scheduled == "summary":
        return {"kind": "iteration"}
    return {"kind": scheduled, "further": further} if "further" in state else {"kind": scheduled}


def _scheduled(state: LineState, kind: StepKind, settings: Settings) -> StepKind:
    """Choose the kind of the next step by the settings alone.

    With patience a search ends when the last iterations found nothing better, and may continue beyond N if they
    did; with ``until`` when no candidate promises enough.
    """
    if kind != "summary":
        last = state["step"] - 1
        done, without_gain = last - state["begin"], last - state["gained"]
        most = settings.max_iterations or settings.iterations
        patient = not settings.patience or without_gain < settings.patience
        best = float(state["board"][0][1])
        if done < most and patient and not promises_little(state.get("expected", -1.0), best, settings.until):
            return "iteration"
        if settings.summary:
            return "summary"
    return "initial" if state["restart"] < settings.restarts + settings.facets or state.get("facets") else "end"


def best_after(
    best: ConceptScore | None, concept: str, score: float, on_board: Entry, settings: Settings
) -> ConceptScore:
    """Return the best concept after one more was scored; ``on_board`` is the best of the board after it.

    Where a new score overwrites the old one (``duplicates``), the best can fall.
    """
    if best and settings.duplicates == "overwrite" and concept == best[0]:
        return [on_board.concept, on_board.score]
    return better(best, concept, score)


def effective_scores(scored: Sequence[Entry], duplicates: str) -> list[Entry]:
    """Return the scores that count, in order: where ``duplicates`` overwrites, each concept's last."""
    return list({entry.concept: entry for entry in scored}.values()) if duplicates == "overwrite" else list(scored)


def better(best: ConceptScore | None, concept: str, score: float) -> ConceptScore:
    """Return the better of the best so far and another concept; of equal ones the first."""
    return best if best and float(best[1]) >= score else [concept, score]


def after_prompting(state: LineState) -> Literal["ask", "synthesize", "update"]:
    """Choose what follows a request: generate images, prompt again, or record the stall."""
    return _AFTER_PROMPTING[state["outcome"]]


def after_generation(state: LineState) -> Literal["activate", "propose", "summarize", "update"]:
    """Choose what follows the images: measure, prompt for another concept, or record the stall."""
    if state["outcome"] == "refused":
        return "summarize" if state["kind"] == "summary" else "propose"
    return _AFTER_GENERATION[state["outcome"]]


def next_step(state: LineState) -> StepKind:
    """Choose what follows a step: the next iteration, the summary, a new board, or the end."""
    return state["kind"]


_AFTER_PROMPTING: dict[str, Literal["ask", "synthesize", "update"]] = {
    "proposed": "synthesize",
    "refused": "ask",
    "stalled": "update",
}
_AFTER_GENERATION: dict[str, Literal["activate", "update"]] = {"drawn": "activate", "stalled": "update"}
_STEPS: dict[Any, str] = {"initial": "init", "iteration": "propose", "summary": "summarize", "end": END}

CHOICES: Mapping[str, tuple[Callable[[LineState], Any], Any]] = {
    "init": (next_step, _STEPS),
    "propose": (after_prompting, {"ask": "propose", "synthesize": "synthesize", "update": "update"}),
    "summarize": (after_prompting, {"ask": "summarize", "synthesize": "synthesize", "update": "update"}),
    "synthesize": (after_generation, {name: name for name in ("activate", "propose", "summarize", "update")}),
    "update": (next_step, _STEPS),
}
"""Nodes whose outcome decides what follows; every other leads to its successor in the table of nodes."""


def node_after(ended: str, state: Mapping[str, Any]) -> str:
    """Return the node that follows one that ended with a state; empty where the unit is done."""
    if ended not in CHOICES:
        return loop.successor(ended)
    choose, targets = CHOICES[ended]
    following: str = targets[choose(cast("LineState", state))]
    return following.removeprefix(END)
