"""Child processes of the app: `line` commands that outlive it, and the desktop's own viewer."""

from __future__ import annotations

import os
import shutil
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
_MAX_LOGS = 50


@dataclass(frozen=True)
class ChildProcess:
    """A `line` command that was started: its arguments, its log file and its process, which is not waited for."""

    arguments: tuple[str, ...]
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Process id, as in the leases of the runs that the process works on."""
        return self.process.pid

    def poll(self) -> int | None:
        """Return the exit status; None while the process runs."""
        return self.process.poll()

    def last_message(self) -> str:
        """Return the last error in the log, or else its last line; empty if there is none."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        lines = [clean_text(line, 1000).strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error:")]
        return (errors or lines or [""])[-1].removeprefix("error:").strip()


def launch(store: Path, arguments: Sequence[str]) -> ChildProcess:
    """Start ``line ARGUMENTS --store STORE`` as a process that outlives the app, with its log in ``store/logs``.

    Raises:
        StoreError: the folder cannot be written, or the process cannot be started.
    """
    store = store.absolute()
    logs = store / "logs"
    command = [*arguments, "--store", str(store)]
    try:
        logs.mkdir(parents=True, exist_ok=True)
        refuse_links(store)
        _prune_logs(store)
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
    return ChildProcess(tuple(command), log, process)


def _prune_logs(store: Path) -> None:
    for old in list(own_files(store, "logs"))[:-_MAX_LOGS]:
        old.unlink(missing_ok=True)


def open_on_desktop(path: Path) -> bool:
    """Open a file or folder with the desktop's program; False where there is none, as over SSH."""
    if sys.platform == "darwin":
        opener = shutil.which("open")
    else:
        display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        opener = shutil.which("xdg-open") if display else None
    if opener is None:
        return False
    try:
        subprocess.Popen(  # noqa: S603 - a path is one argument, and no shell reads it
            [opener, str(path.absolute())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    return True
