"""Captions of images by a vision model of Ollama."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.agent.presets import OLLAMA_SAMPLING
from line_neurons.agent.text import clean_text
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.ollama.chat import OllamaEngine
from line_neurons.tools.language_models.ollama.client import Server
from line_neurons.tools.language_models.server_pool import ServerPool

if TYPE_CHECKING:
    from line_neurons.agent.ports import ImageData
    from line_neurons.tools.language_models.reply_cache import ReplyCache

QUESTION = "Describe in one sentence of at most fifteen words what this picture shows."
LONGEST = 300
"""Characters of a caption."""

_SIDE = 375
_TOKENS = 64
_CONTEXT = 4096


class OllamaCaptioner:
    """Captions images; each caption is requested once and cached.

    Args:
        name: a vision model, such as ``llava:7b``.
        urls: addresses of the servers, at least one.
        timeout: seconds that a reply may take.
        cache: stores the captions.

    Raises:
        UsageError: the name is not valid for a model.
    """

    def __init__(self, name: str, urls: Sequence[str], *, timeout: float, cache: ReplyCache) -> None:
        self._engine = OllamaEngine(
            name,
            urls,
            top_p=1,
            sampling=OLLAMA_SAMPLING,
            context=_CONTEXT,
            reply_tokens=_TOKENS,
            timeout=timeout,
            think="auto",
        )
        self._pool = ServerPool([Server(url, timeout=timeout, reply_tokens=_TOKENS) for url in urls])
        self._cache = cache

    @cached_property
    def fingerprint(self) -> str:
        """Name, digest and settings of the model.

        Raises:
            UsageError: it cannot read images.
            LineError: see ``OllamaEngine.fingerprint``.
        """
        fingerprint, name = self._engine.fingerprint, self._engine.name
        about = self._pool.ask(lambda server: server.about(name))
        if about.capabilities and "vision" not in about.capabilities:
            raise UsageError(
                f"the model {name} cannot read images", "name a vision model, such as ollama:llava:7b"
            )
        return f"captions {fingerprint}"

    def caption(self, image: ImageData) -> str:
        """Caption an image, encoded or as pixels, in one line of at most ``LONGEST`` characters.

        Raises:
            BackendError: it cannot be decoded, the reply is empty, or no server can answer.
            MissingPartError: no server has the model.
        """
        png = _as_png(image)
        key = json.dumps({"caption": QUESTION, "picture": hashlib.sha256(png).hexdigest()})
        said = self._cache.get_or_complete(key, self.fingerprint, lambda: self._ask(png)).text
        caption = clean_text(said, LONGEST)
        if not caption:
            raise BackendError(
                f"the model {self._engine.name} returned no caption for an image", "use another model"
            )
        return caption

    def _ask(self, png: bytes) -> Completion:
        from langchain_core.messages import HumanMessage

        url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        message = HumanMessage([{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": url}])
        options = {**self._engine.options, "num_predict": _TOKENS, "seed": 0, "temperature": 0}
        name = self._engine.name

        def ask(server: Server) -> Completion:
            reply = server.ask(lambda: server.chat.invoke([message], model=name, options=options), name)
            if reply.response_metadata.get("done") is not True:
                raise server.lost("the reply is incomplete")
            return Completion(text=str(reply.content), truncated=False)

        return self._pool.ask(ask)


def _as_png(image: ImageData) -> bytes:
    """Encode an image in the one format and size that every vision model gets."""
    try:
        shown = read_image(image)
    except ImageError as error:
        raise BackendError(f"an image cannot be decoded: {error}", error.remedy) from error
    shown.thumbnail((_SIDE, _SIDE))
    buffer = BytesIO()
    shown.save(buffer, "PNG")
    return buffer.getvalue()
