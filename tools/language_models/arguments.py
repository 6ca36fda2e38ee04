"""Addresses, timeouts and secrets, which a run takes from this machine.

They are no part of the model's identity: a run can go on with the same model elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from line_neurons.agent.ports import LanguageModel
from line_neurons.agent.presets import SERVERS
from line_neurons.agent.settings import Settings
from line_neurons.tools.language_models.secrets import is_secret, with_secrets
from line_neurons.tools.store.records import Run

PLACES = frozenset({
    "base_url", "openai_api_base", "api_base", "endpoint", "endpoint_url", "azure_endpoint", "service_url", "url",
    "server_url", "host", "port", "openai_proxy", "proxy", "proxies", "timeout", "request_timeout",
    "default_request_timeout", "max_retries", "default_headers", "headers", "default_query", "http_client",
    "http_async_client", "http_socket_options", "client_kwargs", "sync_client_kwargs", "async_client_kwargs",
    "organization", "openai_organization", "keep_alive", "verbose", "tags", "metadata", "callbacks", "cache",
    "rate_limiter", "name",
})  # fmt: skip
"""Arguments of LangChain's classes that say where and how a model is reached, and change no reply of it."""

_MODELS = ("model", "model_name", "model_id", "deployment_name", "azure_deployment", "repo_id")


def identity_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that decide replies.

    These are all of them where only an address tells which model it is.
    """
    if not _model(arguments):
        return dict(arguments)
    return {name: value for name, value in arguments.items() if name not in PLACES and not is_secret(name, value)}


def known_fingerprints(model: LanguageModel, run: Run) -> dict[str, str]:
    """Return the fingerprints of a run as this release writes them.

    Replies that are cached under a former fingerprint of the language model are found from then on.
    """
    recognises = getattr(model, "recognises", None)
    before = run.fingerprints.get("language_model")
    if recognises is None or before is None or not recognises(before, run.settings.get("langchain", {})):
        return dict(run.fingerprints)
    return {**run.fingerprints, "language_model": model.fingerprint}


def servers_of(settings: Settings) -> dict[str, str]:
    """Return the settings with addresses of servers."""
    return {name: getattr(settings, name) for name in SERVERS}


def langchain_here(recorded: Mapping[str, Any], here: Settings) -> dict[str, Any]:
    """Return the LangChain arguments of a run on this machine.

    Secrets come from this machine's settings; so do addresses, timeouts and the like, if its settings are for
    the same model.

    Raises:
        UsageError: a secret is no longer given.
        DamagedError: the record is no table.
    """
    arguments, given = recorded.get("langchain", {}), here.langchain
    if isinstance(arguments, Mapping) and _model(given) and _model(given) == _model(arguments):
        arguments = {**arguments, **{name: value for name, value in given.items() if name in PLACES}}
    return with_secrets(arguments, given)


def _model(arguments: Mapping[str, Any]) -> list[Any]:
    return [arguments[name] for name in _MODELS if arguments.get(name)]
