"""Exit statuses of the ``line`` command."""

from __future__ import annotations

UNITS_FAILED = 1
ALL_REFUSED = 3
"""A run ended in which every reply of the language model was refused."""
INTERRUPTED = 130


def is_failure(status: int | None) -> bool:
    """Return whether a child process failed.

    ``None`` means it is still running; failed units, refused replies and Ctrl-C do not count.
    """
    return status not in {None, 0, UNITS_FAILED, ALL_REFUSED, INTERRUPTED}
