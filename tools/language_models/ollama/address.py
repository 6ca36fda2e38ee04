"""Addresses of Ollama servers, from settings and ``OLLAMA_HOST``."""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import urlsplit

from line_neurons.agent.errors import UsageError
from line_neurons.tools.language_models.secrets import public_url

_PORTS = {"http": 80, "https": 443}
_OLLAMA_PORT = 11434


def ollama_url(host: str) -> str:
    """Parse a value of ``OLLAMA_HOST``: a host, a host and a port, or a URL.

    Raises:
        UsageError: it is none of these.
    """
    # As Ollama itself reads it: quotes around it, and an IPv6 address without brackets.
    host = host.strip("\"' ")
    host = f"[{host}]" if _is_ipv6(host) else host
    try:
        parts = urlsplit(host if "//" in host else f"//{host}", scheme="http")
        # A server told to listen everywhere is reached by loopback.
        name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(  # noqa: S104
            parts.hostname or "", parts.hostname or ""
        )
        name.encode("idna")
        port = parts.port or (_PORTS[parts.scheme] if "//" in host else _OLLAMA_PORT)
    except (ValueError, KeyError):
        name, port = "", 0
    if not name or re.search(r"[\s,?#]", host):
        raise UsageError(
            f"{public_url(host)!r:.100} is not the address of an Ollama server",
            "write http://HOST:PORT or HOST:PORT, several with commas between",
        )
    user, at, _ = parts.netloc.rpartition("@")
    bracketed = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{user}{at}{bracketed}:{port}{parts.path.rstrip('/')}"


def server_urls(text: str) -> list[str]:
    """Parse comma-separated addresses; without any, use OLLAMA_HOST's or this machine's.

    Raises:
        UsageError: one of them is not an address.
    """
    given = text if text.strip(" ,") else os.environ.get("OLLAMA_HOST", "")
    parts = [part.strip() for part in given.split(",") if part.strip()]
    return list(dict.fromkeys(ollama_url(part) for part in parts or [""]))


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
