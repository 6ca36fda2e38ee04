"""Addresses of Ollama servers, from settings and ``OLLAMA_HOST``."""

from __future__ import annotations

import os

from line_neurons.tools.language_models.address import listed, server_url

_OLLAMA_PORT = 11434


def ollama_url(host: str) -> str:
    """Parse a value of ``OLLAMA_HOST``: a host, a host and a port, or a URL.

    Raises:
        UsageError: it is none of these.
    """
    # As Ollama itself reads it: quotes around it, and an IPv6 address without brackets.
    return server_url(host, "an Ollama server", port=_OLLAMA_PORT)


def server_urls(text: str) -> list[str]:
    """Parse comma-separated addresses; without any, use OLLAMA_HOST's or this machine's.

    Raises:
        UsageError: one of them is not an address.
    """
    given = listed(text) or listed(os.environ.get("OLLAMA_HOST", ""))
    return list(dict.fromkeys(ollama_url(part) for part in given or [""]))
