"""Exit statuses of the `line` command."""

from __future__ import annotations

UNITS_FAILED = 1
ALL_REFUSED = 3
"""A run ended, and the language model had no part in its labels: every answer was refused."""
INTERRUPTED = 130


def is_failure(status: int | None) -> bool:
    """Whether a command that was started from elsewhere is to be told of as failed; None: it works yet.

    Units that failed and answers that were refused are in the store, where they are seen, and to be interrupted
    was asked for.
    """
    return status not in {None, 0, UNITS_FAILED, ALL_REFUSED, INTERRUPTED}
