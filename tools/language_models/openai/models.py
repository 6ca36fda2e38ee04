"""Models of OpenAI-compatible servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from line_neurons.tools.language_models.openai.client import ServedModel, Server
from line_neurons.tools.language_models.server import QUERY_SECONDS, ServerError


@dataclass(frozen=True)
class ServedModels:
    """The models of a server by id, or the error and remedy if it does not answer.

    ``server`` is its address without a password; ``api`` tells such servers from Ollama's.
    """

    server: str
    models: tuple[ServedModel, ...] = ()
    error: str = ""
    remedy: str = ""
    api: str = "openai"


def served(urls: Sequence[str], *, timeout: float = QUERY_SECONDS) -> list[ServedModels]:
    """List the models of each server, in order; ``timeout`` seconds per server."""
    return [_served(url, timeout) for url in urls]


def _served(url: str, timeout: float) -> ServedModels:
    server = Server(url, timeout=timeout)
    try:
        models = server.models()
    except ServerError as failure:
        return ServedModels(server.name, error=failure.error.message, remedy=failure.error.remedy)
    return ServedModels(server.name, tuple(sorted(models, key=lambda model: model.id)))
