"""Captions of images by a vision model of Ollama."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from line_neurons.agent.errors import BackendError
from line_neurons.agent.text import clean_text
from line_neurons.tools.language_models.ollama.vision import VisionModel, as_png

if TYPE_CHECKING:
    from line_neurons.agent.ports import ImageData
    from line_neurons.tools.language_models.reply_cache import ReplyCache

QUESTION = "Describe in one sentence of at most fifteen words what this picture shows."
LONGEST = 300
"""Characters of a caption."""


class OllamaCaptioner:
    """Captions images; each caption is requested once and cached.

    Args:
        name: a vision model, such as ``llava:7b``.
        urls: addresses of the servers, at least one.
        timeout: seconds that a reply may take.

    Raises:
        UsageError: the name is not valid for a model.
    """

    def __init__(self, name: str, urls: Sequence[str], *, timeout: float, cache: ReplyCache) -> None:
        self._model = VisionModel(name, urls, timeout=timeout)
        self._cache = cache

    @property
    def fingerprint(self) -> str:
        """Name, digest and settings of the model; errors as of ``VisionModel.fingerprint``."""
        return f"captions {self._model.fingerprint}"

    def caption(self, image: ImageData) -> str:
        """Caption an image, encoded or as pixels, in one line of at most ``LONGEST`` characters.

        Raises:
            BackendError: it cannot be decoded, the reply is empty, or no server can answer.
            MissingPartError: no server has the model.
        """
        png = as_png(image)
        key = json.dumps({"caption": QUESTION, "picture": hashlib.sha256(png).hexdigest()})
        said = self._cache.get_or_complete(key, self.fingerprint, lambda: self._model.ask(QUESTION, png)).text
        caption = clean_text(said, LONGEST)
        if not caption:
            raise BackendError(
                f"the model {self._model.name} returned no caption for an image", "use another model"
            )
        return caption
