"""Start the `line` command beside the app, in a process that outlives it, and learn how it ended."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from line_neurons.agent.errors import StoreError
from line_neurons.agent.text import clean_text
from line_neurons.tools.store.paths import own_files, refuse_links

COMMAND = [
    sys.executable,
    "-P",  # A file of the folder that the app was opened in is no module of the command's.
    "-c",
    "import sys; sys.argv[0] = 'line'; from line_neurons.tui.cli.main import main; main()",
]

_TAIL_BYTES = 64_000
_KEPT_LOGS = 50


@dataclass(frozen=True)
class Launched:
    """A command that was started.

    Args:
        arguments: its arguments, without ``line``.
        log: the file that it writes to.
        process: the process; it is not waited for.
    """

    arguments: tuple[str, ...]
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its process id, as the leases of the runs that it works on have it."""
        return self.process.pid

    def poll(self) -> int | None:
        """Its exit status; None while it works."""
        return self.process.poll()

    def said(self) -> str:
        """The last error that it wrote, or else its last line; empty if it wrote nothing."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        lines = [clean_text(line, 1000).strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error:")]
        return (errors or lines or [""])[-1].removeprefix("error:").strip()


def launch(store: Path, arguments: Sequence[str]) -> Launched:
    """Start ``line ARGUMENTS`` as a process that goes on when the app ends; its output goes to ``store/logs``.

    Args:
        store: the store's folder, which the command is given with ``--store``; made if it is not there.
        arguments: the command's, without ``line`` and ``--store``.

    Raises:
        StoreError: the folder cannot be written, or the process cannot be started.
    """
    store = store.absolute()
    logs = store / "logs"
    command = [*arguments, "--store", str(store)]
    try:
        logs.mkdir(parents=True, exist_ok=True)
        refuse_links(store)
        _forget_old(store)
        log = logs / f"{time.strftime('%Y%m%d-%H%M%S')}-{time.monotonic_ns() % 10**9:09d}-{arguments[0]}.log"
        with log.open("xb") as output:
            process = subprocess.Popen(  # noqa: S603 - the program itself, and no shell
                [*COMMAND, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise StoreError(
            f"line {arguments[0]} cannot be started in {str(store)!r}: {error.strerror or error}",
            "make the folder writable and free some space",
        ) from error
    return Launched(tuple(command), log, process)


def _forget_old(store: Path) -> None:
    for old in list(own_files(store, "logs"))[:-_KEPT_LOGS]:
        old.unlink(missing_ok=True)
