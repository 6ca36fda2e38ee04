"""Count the files and folders that readers skipped, a line for each reason."""

from __future__ import annotations

from pathlib import Path

from line_neurons.agent.text import clean_text

_LONGEST = 200


class Remarks:
    """Counts what a reader skipped or read in a special way: a line for each reason.

    ``root`` is the folder that names of files are relative to.
    """

    def __init__(self, root: Path = Path()) -> None:
        self._root = root
        self._met: dict[str, tuple[str, int]] = {}

    def add(self, what: Path | str, reason: str) -> None:
        """Count one more file, folder or name."""
        name = what if isinstance(what, str) else what.relative_to(self._root).as_posix()
        first, count = self._met.get(reason, (name, 0))
        self._met[reason] = first, count + 1

    def lines(self) -> tuple[str, ...]:
        """Return a line for each reason: its first case, how many more, and why."""
        return tuple(
            f"{clean_text(first, _LONGEST)}{f' and {count - 1} more' if count > 1 else ''}: {reason}"
            for reason, (first, count) in self._met.items()
        )
