"""Whether images show a concept, by a vision model of Ollama that answers yes or no."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from line_neurons.agent.errors import BackendError
from line_neurons.agent.text import clean_text
from line_neurons.tools.json_text import loads
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.ollama.vision import VisionModel, as_png

if TYPE_CHECKING:
    from line_neurons.agent.ports import ImageData
    from line_neurons.tools.language_models.reply_cache import ReplyCache

QUESTION = "Does this picture contain a {concept}? Answer yes or no."
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["answer"],
}

_LONGEST = 80


class OllamaPresence:
    """Says whether images show a concept; each question is asked once, at temperature 0, and cached.

    Args:
        name: a vision model, such as ``llava:7b``.
        urls: addresses of the servers, at least one.
        timeout: seconds that a reply may take.

    Raises:
        UsageError: the name is not valid for a model.
    """

    def __init__(self, name: str, urls: Sequence[str], *, timeout: float, cache: ReplyCache) -> None:
        self._model = VisionModel(name, urls, timeout=timeout, think="off")
        self._cache = cache

    @property
    def fingerprint(self) -> str:
        """Name, digest and settings of the model; errors as of ``VisionModel.fingerprint``."""
        return f"presence {self._model.fingerprint}"

    def is_shown(self, concept: str, image: ImageData) -> bool:
        """Return whether the model says that an image, encoded or as pixels, shows a concept.

        Raises:
            BackendError: the image cannot be decoded, the reply is neither yes nor no, or no server can answer.
            MissingPartError: no server has the model.
        """
        png = as_png(image)
        question = QUESTION.format(concept=clean_text(concept, _LONGEST))
        key = json.dumps({"question": question, "picture": hashlib.sha256(png).hexdigest()})
        reply = self._cache.get_or_complete(key, self.fingerprint, lambda: self._ask(question, png))
        return self._is_yes(reply.text)

    def _ask(self, question: str, png: bytes) -> Completion:
        reply = self._model.ask(question, png, SCHEMA)
        # What is no answer is not kept: another time there may be one.
        self._is_yes(reply.text)
        return reply

    def _is_yes(self, said: str) -> bool:
        try:
            return {"yes": True, "no": False}[loads(said)["answer"].strip().lower()]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BackendError(
                f"the model {self._model.name} answered neither yes nor no: {clean_text(said, 80)!r}",
                "use another model with --verify",
            ) from error
