"""A proposer that draws random words: the floor that a language model has to beat."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from line_neurons.agent.concepts import concept_key
from line_neurons.agent.ports import Prompt
from line_neurons.agent.seeds import derive_rng
from line_neurons.tools.language_models.proposer import Completion

_TRIED = re.compile(r"^(?:-?[\d.]+ (?P<scored>.+)|Forbidden: (?P<forbidden>.+))$", re.MULTILINE)


class RandomWords:
    """Answers each prompt with a word drawn uniformly from a vocabulary, never one tried already.

    Args:
        words: the vocabulary.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = sorted(set(words))

    def complete(self, prompt: Prompt, *, seed: int, temperature: float) -> Completion:
        """See ``ChatEngine.complete``; the temperature has no effect."""
        tried = set()
        for match in _TRIED.finditer(prompt.messages[-1].content):
            names = [match["scored"]] if match["scored"] else match["forbidden"].split(", ")
            tried |= {concept_key(name) for name in names}
        fresh = [word for word in self._words if concept_key(word) not in tried] or self._words
        word = derive_rng("random words", seed).choice(fresh)
        reply = {"reasoning": "Drawn at random from the vocabulary.", "concept": word}
        return Completion(text=json.dumps(reply), truncated=False)
