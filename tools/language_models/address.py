"""Addresses of servers of language models, as users write them."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from line_neurons.agent.errors import UsageError
from line_neurons.tools.language_models.secrets import public_url

_PORTS = {"http": 80, "https": 443}


def server_url(host: str, what: str, *, port: int = 80, example: str = "http://HOST:PORT or HOST:PORT") -> str:
    """Parse an address: a host, a host and a port, or a URL.

    Args:
        host: the address; one where servers listen everywhere means this machine.
        port: the port of an address without scheme and port.
        example: how addresses are written.

    Raises:
        UsageError: it is none of these.
    """
    host = host.strip("\"' ")
    host = f"[{host}]" if _is_ipv6(host) else host
    try:
        parts = urlsplit(host if "//" in host else f"//{host}", scheme="http")
        # A server told to listen everywhere is reached by loopback.
        name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(  # noqa: S104
            parts.hostname or "", parts.hostname or ""
        )
        name.encode("idna")
        chosen = parts.port or (_PORTS[parts.scheme] if "//" in host else port)
    except (ValueError, KeyError):
        name, chosen = "", 0
    if not name or re.search(r"[\s,?#]", host):
        raise UsageError(
            f"{public_url(host)!r:.100} is not the address of {what}",
            f"write {example}, several with commas between",
        )
    user, at, _ = parts.netloc.rpartition("@")
    bracketed = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{user}{at}{bracketed}:{chosen}{parts.path.rstrip('/')}"


def listed(text: str) -> list[str]:
    """Return the addresses of a list with commas, without empty ones."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
