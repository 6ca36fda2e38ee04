"""The prompt that a state leads to, and one request to the language model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.errors import ReplyError
from line_neurons.agent.ports import Prompt
from line_neurons.agent.prompts import (
    paper_propose_prompt,
    paper_summary_prompt,
    propose_prompt,
    summary_prompt,
)
from line_neurons.agent.settings import Settings
from line_neurons.graphs.loop.state import Deps, LineState, board_of

MAX_TEMPERATURE = 1.5
"""However often a question is asked again, it gets no hotter than this."""


@dataclass(frozen=True)
class ModelReply:
    """What the language model said, and how it was asked.

    Args:
        concept: the proposal; of an unusable answer the concept that it gave, if any.
        reasoning: the reasoning for it.
        reply: the answer as it came.
        seed: the seed with which the model was asked.
        temperature: the temperature with which it was asked.
        model: the fingerprint of the model.
        seconds: how long it took.
        refusal: why the answer cannot be used, in words for the model; empty for a proposal.
    """

    concept: str
    reasoning: str
    reply: str
    seed: int
    temperature: float
    model: str
    seconds: float
    refusal: str = ""


def request_proposal(deps: Deps, prompt: Prompt, seed: int, attempt: int) -> ModelReply:
    """Ask once; each attempt at the same question is hotter than the one before.

    Args:
        deps: the graph's parts.
        prompt: the question.
        seed: sampling seed in [0, 2**31).
        attempt: how often the question was asked before.

    Raises:
        BackendError: see ``LanguageModel.propose``.
    """
    settings, model = deps.settings, deps.language_model
    temperature = min(settings.temperature + settings.retry_temperature_step * attempt, MAX_TEMPERATURE)
    if llm_overrides := deps.llm_overrides.get(seed):
        model, temperature = llm_overrides.model, llm_overrides.temperature
    fingerprint, began = model.fingerprint, time.monotonic()
    try:
        said = model.propose(prompt, seed=seed, temperature=temperature)
    except ReplyError as error:
        concept, reasoning, reply = error.concept, error.reasoning, error.raw
        refusal = f"your answer was unusable: {error.detail}."
    else:
        concept, reasoning, reply, refusal = said.concept, said.reasoning, said.raw, ""
    return ModelReply(concept, reasoning, reply, seed, temperature, fingerprint, time.monotonic() - began, refusal)


def step_prompt(state: LineState, settings: Settings, hints: Sequence[str]) -> Prompt:
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
