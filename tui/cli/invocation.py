"""The command line that is carried out: the user's, or one that a command runs for itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from line_neurons.agent.text import shell_line
from line_neurons.tools.language_models.secrets import without_passwords


@dataclass(frozen=True)
class Invocation:
    """Arguments of ``line``, and settings that no flag can name."""

    arguments: Sequence[str]
    settings: Mapping[str, Any] = field(default_factory=dict)


_CURRENT: ContextVar[Invocation | None] = ContextVar("invocation", default=None)


def current() -> Invocation:
    """Return the invocation of the command that runs."""
    return _CURRENT.get() or Invocation(sys.argv[1:])


def is_nested() -> bool:
    """Return whether a command runs another one."""
    return _CURRENT.get() is not None


def command_line() -> str:
    """Return the command line as runs record it, without passwords."""
    return shell_line(["line", *without_passwords(current().arguments)])


@contextmanager
def invoked(invocation: Invocation) -> Iterator[None]:
    """Run a command in the body as if it had been typed."""
    token = _CURRENT.set(invocation)
    try:
        yield
    finally:
        _CURRENT.reset(token)
