"""Captions of pictures by a vision model of Ollama."""

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
from line_neurons.tools.language_models.ollama.chat import OllamaEngine
from line_neurons.tools.language_models.ollama.client import Server, ServerPool
from line_neurons.tools.language_models.proposer import Completion

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
    """Describes pictures; each caption is asked for once and kept.

    Args:
        name: a vision model, such as ``llava:7b``.
        urls: addresses of the servers, at least one.
        timeout: seconds that an answer may take.
        cache: where captions are kept.

    Raises:
        UsageError: the name is not one that a model can have.
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
            UsageError: it cannot see pictures.
            LineError: see ``OllamaEngine.fingerprint``.
        """
        fingerprint, name = self._engine.fingerprint, self._engine.name
        about = self._pool.ask(lambda server: server.about(name))
        if about.capabilities and "vision" not in about.capabilities:
            raise UsageError(
                f"the model {name} cannot see pictures", "name a vision model, such as ollama:llava:7b"
            )
        return f"captions {fingerprint}"

    def caption(self, image: ImageData) -> str:
        """One line about a picture, at most ``LONGEST`` characters.

        Args:
            image: an encoded picture or its pixels.

        Raises:
            BackendError: it cannot be decoded, nothing was said, or no server can answer.
            MissingPartError: no server has the model.
        """
        png = _as_png(image)
        key = json.dumps({"caption": QUESTION, "picture": hashlib.sha256(png).hexdigest()})
        said = self._cache.get_or_ask(key, self.fingerprint, lambda: self._ask(png)).text
        caption = clean_text(said, LONGEST)
        if not caption:
            raise BackendError(f"the model {self._engine.name} said nothing about a picture", "use another model")
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
                raise server.lost("the answer has no end")
            return Completion(text=str(reply.content), truncated=False)

        return self._pool.ask(ask)


def _as_png(image: ImageData) -> bytes:
    """A picture in the one format and size that every vision model is given."""
    try:
        shown = read_image(image)
    except ImageError as error:
        raise BackendError(f"a picture cannot be decoded: {error}", error.remedy) from error
    shown.thumbnail((_SIDE, _SIDE))
    buffer = BytesIO()
    shown.save(buffer, "PNG")
    return buffer.getvalue()
