"""The question that a state leads to."""

from __future__ import annotations

from collections.abc import Sequence

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.ports import Prompt
from line_neurons.agent.prompts import paper_propose_prompt, paper_summary_prompt, propose_prompt, summary_prompt
from line_neurons.agent.settings import Settings
from line_neurons.graphs.loop.state import LineState, board_of


def question(state: LineState, settings: Settings, hints: Sequence[str]) -> Prompt:
    """What the language model is asked for the next concept, or for the summary.

    Args:
        state: the unit's state.
        settings: the run's settings.
        hints: drawable things to name.
    """
    board = board_of(state, settings.capacity)
    if settings.forbidden == "proposed":
        if state["kind"] == "summary":
            return paper_summary_prompt(board, state["refused"])
        proposed = dict.fromkeys([*state.get("proposed", []), *state.get("banned", [])])
        return paper_propose_prompt(board, list(proposed), state["refused"], state.get("found", []))
    on_board = {concept_key(entry.concept) for entry in board.entries}
    forbidden = [concept for concept in state["tried"] if concept_key(concept) not in on_board]
    make = summary_prompt if state["kind"] == "summary" else propose_prompt
    return make(board, list(dict.fromkeys(forbidden)), hints, state["refused"], state.get("found", []))
