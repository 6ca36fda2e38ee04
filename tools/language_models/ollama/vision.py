"""Questions about images to a vision model of Ollama."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.agent.presets import OLLAMA_SAMPLING
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.ollama.chat import OllamaEngine, Think
from line_neurons.tools.language_models.ollama.client import Server
from line_neurons.tools.language_models.server_pool import ServerPool

if TYPE_CHECKING:
    from line_neurons.agent.ports import ImageData

_SIDE = 375
_TOKENS = 64
_CONTEXT = 4096


class VisionModel:
    """A vision model that is asked about one image at a time.

    Args:
        name: of the model, such as ``llava:7b``.
        urls: addresses of the servers, at least one.
        timeout: seconds that a reply may take.
        think: ``off`` for models that would think before they answer.

    Raises:
        UsageError: the name is not valid for a model.
    """

    def __init__(self, name: str, urls: Sequence[str], *, timeout: float, think: Think = "auto") -> None:
        self._engine = OllamaEngine(
            name,
            urls,
            top_p=1,
            sampling=OLLAMA_SAMPLING,
            context=_CONTEXT,
            reply_tokens=_TOKENS,
            timeout=timeout,
            think=think,
        )
        self._pool = ServerPool([Server(url, timeout=timeout, reply_tokens=_TOKENS) for url in urls])

    @property
    def name(self) -> str:
        """The model's name."""
        return self._engine.name

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
        return fingerprint

    def ask(self, question: str, png: bytes, schema: Mapping[str, Any] | None = None) -> Completion:
        """Ask about an image, at temperature 0.

        Args:
            png: the image, as ``as_png`` writes it.
            schema: JSON schema that the reply is held to; None: free text.

        Raises:
            BackendError: no server can answer.
            MissingPartError: no server has the model.
        """
        from langchain_core.messages import HumanMessage

        url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        message = HumanMessage([{"type": "text", "text": question}, {"type": "image_url", "image_url": url}])
        options = {**self._engine.options, "num_predict": _TOKENS, "seed": 0, "temperature": 0}
        arguments: dict[str, Any] = {"model": self.name, "options": options}
        if self._engine.thinks is False:
            arguments["reasoning"] = False
        if schema is not None:
            arguments["format"] = dict(schema)

        def ask(server: Server) -> Completion:
            reply = server.ask(lambda: server.chat.invoke([message], **arguments), self.name)
            if reply.response_metadata.get("done") is not True:
                raise server.lost("the reply is incomplete")
            return Completion(text=str(reply.content), truncated=False)

        return self._pool.ask(ask)


def as_png(image: ImageData) -> bytes:
    """Encode an image in the one format and size that every vision model gets.

    Raises:
        BackendError: it cannot be decoded.
    """
    try:
        shown = read_image(image)
    except ImageError as error:
        raise BackendError(f"an image cannot be decoded: {error}", error.remedy) from error
    shown.thumbnail((_SIDE, _SIDE))
    buffer = BytesIO()
    shown.save(buffer, "PNG")
    return buffer.getvalue()
