"""Models of the configured servers, to be chosen from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from line_neurons.agent.errors import LineError
from line_neurons.agent.settings import Settings
from line_neurons.tools.language_models.ollama import address as ollama_address
from line_neurons.tools.language_models.ollama.models import installed
from line_neurons.tools.language_models.openai.address import configured
from line_neurons.tools.language_models.openai.address import server_urls as openai_urls
from line_neurons.tools.language_models.openai.models import served
from line_neurons.tools.language_models.server import QUERY_SECONDS


@dataclass(frozen=True)
class AvailableModels:
    """Models of one kind of server.

    Args:
        prefix: ``ollama:`` or ``openai:``.
        models: a note on each model, such as its number of parameters, by spec.
        faults: why servers did not list theirs, each with a remedy.
    """

    prefix: str
    models: dict[str, str]
    faults: tuple[str, ...] = ()


def available_models(settings: Settings, *, timeout: float = QUERY_SECONDS) -> list[AvailableModels]:
    """List the models of the Ollama servers, and of OpenAI-compatible ones if any are configured.

    ``timeout`` is in seconds per server.
    """
    found = [_listed("ollama:", lambda: _of_ollama(settings, timeout))]
    if configured(settings.base_url):
        found.append(_listed("openai:", lambda: _of_openai(settings, timeout)))
    return found


def _listed(prefix: str, models: Callable[[], tuple[dict[str, str], Sequence[str]]]) -> AvailableModels:
    try:
        known, faults = models()
    except LineError as error:
        return AvailableModels(prefix, {}, (str(error),))
    return AvailableModels(prefix, {f"{prefix}{name}": note for name, note in known.items()}, tuple(faults))


def _of_ollama(settings: Settings, timeout: float) -> tuple[dict[str, str], Sequence[str]]:
    servers = installed(ollama_address.server_urls(settings.ollama), timeout=timeout)
    models = {model.name: model.parameters for server in servers for model in server.models}
    return models, [_fault(server.error, server.remedy) for server in servers if server.error]


def _of_openai(settings: Settings, timeout: float) -> tuple[dict[str, str], Sequence[str]]:
    servers = served(openai_urls(settings.base_url), timeout=timeout)
    models = {model.id: model.details.get("parameters", "") for server in servers for model in server.models}
    return models, [_fault(server.error, server.remedy) for server in servers if server.error]


def _fault(error: str, remedy: str) -> str:
    return f"{error} ({remedy})" if remedy else error
