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
"""Bound of the temperature, which rises with each attempt."""


@dataclass(frozen=True)
class ModelReply:
    """A reply of the language model, and the request it answers.

    Args:
        concept: the proposal; of a refused reply the concept that it named, if any.
        named: the concepts of a reply where several were requested, not validated.
        refusal: why the reply cannot be used, in words for the model; empty for a proposal.
    """

    concept: str
    reasoning: str
    reply: str
    seed: int
    temperature: float
    model: str
    seconds: float
    refusal: str = ""
    named: tuple[str, ...] = ()


def step_prompt(state: LineState, settings: Settings, hints: Sequence[str]) -> Prompt:
    """Write the prompt for the next concept, or for the summary; ``hints`` are drawable things to name."""
    board = board_of(state, settings.capacity)
    if settings.forbidden == "proposed":
        if state["kind"] == "summary":
            return paper_summary_prompt(board, state["refused"])
        proposed = dict.fromkeys([*state.get("proposed", []), *state.get("banned", [])])
        found, concepts = state.get("found", []), settings.proposals
        return paper_propose_prompt(board, list(proposed), state["refused"], found, concepts)
    on_board = {concept_key(entry.concept) for entry in board.entries}
    forbidden = [concept for concept in state["tried"] if concept_key(concept) not in on_board]
    said = board, list(dict.fromkeys(forbidden)), hints, state["refused"], state.get("found", [])
    return summary_prompt(*said) if state["kind"] == "summary" else propose_prompt(*said, settings.proposals)


def request_proposal(deps: Deps, prompt: Prompt, seed: int, attempt: int) -> ModelReply:
    """Send a prompt once; ``attempt`` counts earlier requests of the step, and raises the temperature.

    Raises:
        BackendError: see ``LanguageModel.propose``.
    """
    settings, model = deps.settings, deps.language_model
    temperature = min(settings.temperature + settings.retry_temperature_step * attempt, MAX_TEMPERATURE)
    if override := deps.llm_overrides.get(seed):
        model, temperature = override.model, override.temperature
    fingerprint, began, named = model.fingerprint, time.monotonic(), tuple[str, ...]()
    try:
        proposal = model.propose(prompt, seed=seed, temperature=temperature)
    except ReplyError as error:
        concept, reasoning, reply = error.concept, error.reasoning, error.raw
        refusal = f"your answer was unusable: {error.detail}."
    else:
        concept, reasoning, reply, refusal = proposal.concept, proposal.reasoning, proposal.raw, ""
        named = proposal.named or (concept,)
    seconds = time.monotonic() - began
    return ModelReply(concept, reasoning, reply, seed, temperature, fingerprint, seconds, refusal, named)
