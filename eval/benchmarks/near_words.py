"""A cheap proposer that searches as a small language model does: near the board's best, and with modifiers.

The words of an image bank are few, and a proposer that draws from them alone would soon repeat what other units
of the layer proposed. This one names things near the unit's best concepts, and a share of its answers puts a
colour or a surrounding to one of them: 8,000 phrases with the bundled bank's 360 captions, and more with two
modifiers.
"""

from __future__ import annotations

import json
import re

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.ports import Prompt
from line_neurons.agent.seeds import derive_rng
from line_neurons.tools.image_bank.phrases import COLOURS
from line_neurons.tools.language_models.proposer import Completion

MODIFIERS = (
    *sorted(COLOURS),
    "snowy",
    "foggy",
    "rainy",
    "stormy",
    "grassy",
    "autumnal",
    "nighttime",
    "underwater",
)
_SCORED = re.compile(r"^-?[\d.]+ (.+)$", re.MULTILINE)
_FORBIDDEN = re.compile(r"^Forbidden: (.+)$", re.MULTILINE)
_NEAR = re.compile(r"^Images can be made of, for example: (.+)$", re.MULTILINE)


class NearWords:
    """Answers with one of the drawable things that the prompt names near the best, or with a modified concept.

    Args:
        composed: share in [0, 1] of answers that put a modifier to a concept.
    """

    def __init__(self, composed: float) -> None:
        self.composed = composed

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        """See ``ChatEngine.complete``; the temperature has no effect."""
        request = prompt.messages[-1].content
        board = _SCORED.findall(request)
        near = _listed(_NEAR, request)
        tried = {concept_key(name) for name in (*board, *_listed(_FORBIDDEN, request))}
        rng = derive_rng("near words", seed)
        modified = [
            phrase
            for thing in (*board[:3], *near)
            for modifier in MODIFIERS
            if len((phrase := f"{modifier} {thing}").split()) <= 3
            and not thing.startswith(modifier)
            and concept_key(phrase) not in tried
        ]
        chosen = modified if rng.random() < self.composed or not near else near
        reply = {"reasoning": "Near the strongest.", "concept": rng.choice(chosen or near or board)}
        return Completion(text=json.dumps(reply), truncated=False)


def _listed(line: re.Pattern[str], request: str) -> list[str]:
    found = line.search(request)
    return found[1].split(", ") if found else []
