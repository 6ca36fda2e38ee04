"""Names of runs: they stand in file names and in commands that a person copies."""

from __future__ import annotations

import re

from line_neurons.agent.errors import StoreError

_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,120}")


def is_plain_name(run: str) -> bool:
    """Whether a text can be the name of a run."""
    return _PLAIN.fullmatch(run) is not None


def plain_name(run: str) -> str:
    """The name of a run as it was, if it has only letters, digits, ``_``, ``.`` and ``-``.

    Raises:
        StoreError: it has others, and no version of the program gave it.
    """
    if not isinstance(run, str) or not is_plain_name(run):
        raise StoreError(
            f"a run of this store is named {run!r:.80}: the store was altered by something else",
            "put a backup of the store in its place, or name another with --store",
        )
    return run
