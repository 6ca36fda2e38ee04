"""Secrets in settings and addresses: remove and restore them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from line_neurons.agent.errors import DamagedError, UsageError
from line_neurons.agent.presets import SERVERS

REDACTED = "(left out)"
_SERVER_FLAGS = {f"--{name.replace('_', '-')}" for name in SERVERS}

# A number under one of the first is a count or a limit, as in max_token or key_length; not under the others.
_SECRET_TEXTS = {"key", "keys", "apikey", "apikeys", "token", "auth", "bearer", "cookie", "cookies"}
_SECRET_ALWAYS = {"secret", "secrets", "password", "passwords", "passwd", "passphrase", "pwd", "authorization",
                  "credential", "credentials"}  # fmt: skip
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_USER_OF_URL = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"(?<=[?&])([^?&=\s]+)=([^&#\s]+)")


def redacted(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Replace keys, tokens, passwords and the like in arguments by ``REDACTED``."""
    return {
        name: REDACTED if is_secret(name, value) else _without_secrets(value) for name, value in arguments.items()
    }


def with_secrets(
    recorded: Mapping[str, Any], given: Mapping[str, Any], table: tuple[str, ...] = ("langchain",)
) -> dict[str, Any]:
    """Restore the secrets of redacted arguments from the ``given`` ones.

    ``table`` is where they are in line.toml, for messages.

    Raises:
        UsageError: a secret is no longer given.
        DamagedError: the record is no table.
    """
    if not isinstance(recorded, Mapping):
        raise DamagedError(
            f"the arguments of the language model are recorded as {recorded!r:.60}",
            "put a backup of the store in its place",
        )
    filled: dict[str, Any] = {}
    for name, value in recorded.items():
        now = given.get(name)
        if isinstance(value, Mapping):
            filled[name] = with_secrets(value, now if isinstance(now, Mapping) else {}, (*table, name))
        elif REDACTED not in str(value):
            filled[name] = value
        elif now is None:
            remedy = f"give it again in line.toml under [{'.'.join(table)}]"
            if len(table) == 1:
                remedy += f", or as LINE_LANGCHAIN__{name.upper()}"
            raise UsageError(f"the argument {name!r:.60} of the language model is not stored with the run", remedy)
        else:
            filled[name] = now
    return filled


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return redacted(value)
    if isinstance(value, list | tuple):
        return [_without_secrets(part) for part in value]
    return url_without_secrets(value, REDACTED) if isinstance(value, str) else value


def url_without_secrets(text: str, instead: str) -> str:
    """Replace users, passwords and secret query parameters in the addresses of a text."""

    def query(found: re.Match[str]) -> str:
        return f"{found[1]}={instead}" if is_secret(found[1], found[2]) else found[0]

    return _QUERY.sub(query, _USER_OF_URL.sub(f"{instead}@", text))


def is_secret(name: str, value: Any) -> bool:
    """Tell whether a name marks a secret, as ``api_key`` does and ``max_tokens`` not."""
    if isinstance(value, bool | None):
        return False
    words = set(re.findall(r"[a-z]+", _HUMP.sub(" ", str(name)).lower()))
    secret = _SECRET_ALWAYS if isinstance(value, int | float) else _SECRET_ALWAYS | _SECRET_TEXTS
    return not secret.isdisjoint(words)


def secret_texts(value: Any, *, secret: bool = False) -> Iterator[str]:
    """Yield the secret texts among arguments."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from secret_texts(part, secret=secret or is_secret(name, part))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from secret_texts(part, secret=secret)
    elif secret and len(text := str(value)) >= 4:
        # A message may hold one line of a key, or a token without the word before it.
        yield from (text, *(part for part in text.split() if len(part) >= 8))


def public_url(url: str) -> str:
    """Remove user and password from an address, even from an invalid one."""
    before, at, after = url.rpartition("@")
    scheme, slashes, _ = before.partition("//")
    return f"{scheme}{slashes}{after}" if at and slashes else after


def without_passwords(arguments: Sequence[str]) -> list[str]:
    """Remove users and passwords from the server addresses in a command's arguments."""
    kept: list[str] = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if kept and kept[-1] in _SERVER_FLAGS:
            flag, equals, value = "", "", argument
        elif flag not in _SERVER_FLAGS or not equals:
            kept.append(argument)
            continue
        kept.append(f"{flag}{equals}{','.join(public_url(part.strip()) for part in value.split(','))}")
    return kept
