"""Parse and validate the replies of a language model."""

from __future__ import annotations

import json
from typing import Any

from line_neurons.agent.concepts import normalise_concept
from line_neurons.agent.errors import ReplyError
from line_neurons.agent.ports import Proposal
from line_neurons.agent.text import clean_text, storable_text

MAX_REASONING_CHARACTERS = 2000
MAX_THOUGHTS_CHARACTERS = 8000
TOKENS_OF_A_CONCEPT = 14
"""Most tokens that a concept of 40 characters takes in JSON."""

REPLY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reasoning": {"type": "string", "minLength": 1, "maxLength": 180},
        "concept": {"type": "string", "minLength": 1, "maxLength": 40},
    },
    "required": ["reasoning", "concept"],
    "additionalProperties": False,
}
"""JSON schema of a reply; by the order of its properties the model reasons before it names a concept."""


def reply_schema(concepts: int) -> dict[str, Any]:
    """Return the JSON schema of a reply that names one concept, or an array of several."""
    if concepts == 1:
        return REPLY_SCHEMA
    properties = dict(REPLY_SCHEMA["properties"])
    several = {"type": "array", "items": properties.pop("concept"), "minItems": 1, "maxItems": concepts}
    return {
        **REPLY_SCHEMA,
        "properties": {**properties, "concepts": several},
        "required": ["reasoning", "concepts"],
    }


def more_tokens(concepts: int) -> int:
    """Return by how many tokens a reply that names several concepts may be longer than one that names one."""
    return TOKENS_OF_A_CONCEPT * (concepts - 1)


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of ``pairs``; empty if a name comes twice, where JSON readers differ."""
    named = dict(pairs)
    return named if len(named) == len(pairs) else {}


def parse_reply(text: str, *, truncated: bool = False, thoughts: str = "", concepts: int = 1) -> Proposal:
    """Parse a reply, which must be one JSON object with ``reasoning`` and ``concept``; nothing is repaired.

    Where several concepts were requested it has an array ``concepts`` instead, whose entries are not validated: a
    broken one spoils no other.

    Args:
        text: the reply without a thinking model's thoughts.
        truncated: the engine stopped because the reply grew too long.
        thoughts: the thoughts, which are put before the reasoning.

    Raises:
        ReplyError: with kind ``truncated``, ``empty``, ``not_json``, ``schema`` or ``concept``.
    """
    raw, thought = storable_text(text), clean_text(thoughts, MAX_THOUGHTS_CHARACTERS)

    def refused(kind: str, detail: str, reasoning: str = thought, concept: str = "") -> ReplyError:
        return ReplyError(kind, detail, raw=raw, reasoning=reasoning, concept=concept)

    if truncated:
        raise refused("truncated", "the answer was cut off; be shorter")
    if not text.strip():
        raise refused("empty", "the answer was empty")
    try:
        reply = json.loads(text, object_pairs_hook=_named_once)
    except (ValueError, RecursionError):
        raise refused("not_json", "the answer was not a single JSON object") from None
    field = "concept" if concepts == 1 else "concepts"
    if not isinstance(reply, dict) or set(reply) != {"reasoning", field}:
        raise refused("schema", f'the answer must have exactly "reasoning" and "{field}"')
    reasoning, concept = reply["reasoning"], reply[field]
    if concepts > 1:
        if not isinstance(reasoning, str) or not isinstance(concept, list) or not concept:
            raise refused("schema", '"reasoning" must be text, and "concepts" an array of texts')
        named = tuple(entry if isinstance(entry, str) else "" for entry in concept)
        reasoning = f"{thought} {clean_text(reasoning, MAX_REASONING_CHARACTERS)}".strip()
        return Proposal(reasoning=reasoning, concept=clean_text(named[0], 80), raw=raw, named=named)
    if not isinstance(reasoning, str) or not isinstance(concept, str):
        raise refused("schema", '"reasoning" and "concept" must be text')
    reasoning = f"{thought} {clean_text(reasoning, MAX_REASONING_CHARACTERS)}".strip()
    try:
        normal = normalise_concept(concept)
    except ValueError as error:
        raise refused("concept", str(error), reasoning, clean_text(concept, 80)) from None
    return Proposal(reasoning=reasoning, concept=normal, raw=raw)
