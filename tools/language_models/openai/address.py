"""Addresses of OpenAI-compatible servers, from settings and the environment."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from line_neurons.agent.errors import UsageError
from line_neurons.tools.language_models.address import listed, server_url
from line_neurons.tools.language_models.secrets import public_url

HOSTED = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
_EXAMPLE = "http://HOST:PORT/v1"
_ENDPOINTS = ("/chat/completions", "/completions", "/models")


def openai_url(address: str) -> str:
    """Parse the address of a server; one without a path gets ``/v1``.

    Raises:
        UsageError: it is no address, or that of one of the server's functions.
    """
    url = server_url(address, "an OpenAI-compatible server", example=_EXAMPLE)
    for endpoint in _ENDPOINTS:
        if url.endswith(endpoint):
            raise UsageError(
                f"{public_url(url)!r:.100} is not the address of an OpenAI-compatible server",
                f"leave {endpoint} away",
            )
    return url if urlsplit(url).path else f"{url}/v1"


def configured(text: str) -> bool:
    """Tell whether the setting ``base_url`` or the environment names servers."""
    return bool(listed(text) or listed(os.environ.get("OPENAI_BASE_URL", "")))


def server_urls(text: str) -> list[str]:
    """Parse comma-separated addresses; without any, use those of the environment.

    These are OPENAI_BASE_URL's, or OpenAI's own service if there is a key for it.

    Raises:
        UsageError: one of them is not an address, or no server is named.
    """
    given = listed(text) or listed(os.environ.get("OPENAI_BASE_URL", ""))
    if not given and not os.environ.get(KEY_VARIABLE, "").strip():
        raise UsageError(
            "no OpenAI-compatible server is named",
            f"--base-url {_EXAMPLE}, OPENAI_BASE_URL, or for OpenAI's own service {KEY_VARIABLE}",
        )
    return list(dict.fromkeys(openai_url(part) for part in given or [HOSTED]))
