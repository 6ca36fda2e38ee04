"""Text embeddings by a model of Ollama."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from line_neurons.agent.errors import BackendError, UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.language_models.ollama.chat import model_name
from line_neurons.tools.language_models.ollama.client import Server, missing
from line_neurons.tools.language_models.server_pool import ServerPool

_AT_ONCE = 64
_ANOTHER = "name another text encoder with --text-encoder"


class OllamaEncoder:
    """An embedding model of Ollama as a text encoder; makes no request before it is used.

    Args:
        name: the model, such as ``nomic-embed-text``.
        urls: addresses of the servers, at least one.
        timeout: seconds that a reply may take.

    Raises:
        UsageError: the name is not valid for a model.
    """

    def __init__(self, name: str, urls: Sequence[str], *, timeout: float) -> None:
        self._name = model_name(name)
        self._pool = ServerPool([Server(url, timeout=timeout) for url in urls])
        self._lock = threading.Lock()

    @cached_property
    def fingerprint(self) -> str:
        """Name and digest of the model.

        Raises:
            MissingPartError: a server does not have the model.
            BackendError: no server can be reached, or servers have different models of that name.
        """
        found = set(self._pool.survey(self._digest).values())
        if len(found) > 1:
            raise BackendError(
                f"the Ollama servers have different models {self._name}", f"line pull {self._name} on all of them"
            )
        return f"ollama-embedding:{self._name.lower()} digest={found.pop()[:16]}"

    def _digest(self, server: Server) -> str:
        for listed in server.models().models:
            if listed.digest and model_name(listed.model or "").lower() == self._name.lower():
                return clean_text(listed.digest, 80).removeprefix("sha256:")
        raise missing(self._name, server.name)

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed phrases; float32 [len(texts), d], rows of length 1.

        Raises:
            BackendError: no server can answer, or what it sent is not an embedding for each phrase.
            UsageError: an embedding is not finite, or 0.
        """
        with self._lock:
            parts = [self._part(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)

    def _part(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = self._pool.ask(lambda server: server.embed(self._name, texts))
        if len(rows) != len(texts) or len({len(row) for row in rows}) != 1 or not rows[0]:
            raise BackendError(
                f"the model {self._name} sent no embedding for each of {len(texts)} phrases", _ANOTHER
            )
        found = np.asarray(rows, np.float64)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        if not np.isfinite(found).all() or not lengths.all():
            raise UsageError(f"an embedding of the model {self._name} is not finite, or 0", _ANOTHER)
        return np.asarray(found / lengths, np.float32)
