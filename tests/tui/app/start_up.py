"""How long `line tui` takes from the command to the runs: python tests/tui/app/start_up.py STORE [TIMES].

The terminal is a pseudo-terminal of 120 x 36 that nobody draws; the first start may wait for the disk.
"""

import fcntl
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import termios
import time
from contextlib import closing
from pathlib import Path

from line_neurons.tools.store.runs import RunStore

GIVE_UP_SECONDS = 30


def start(store: Path, run: str) -> float:
    """Seconds until the name of a run is on the terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
    command = [str(Path(sys.executable).with_name("line")), "tui", "--store", str(store)]
    began, shown = time.monotonic(), b""
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=os.environ | {"TERM": "xterm"},
    )
    try:
        while run.encode() not in shown:
            if time.monotonic() - began > GIVE_UP_SECONDS:
                sys.exit(f"{run} was not shown within {GIVE_UP_SECONDS} s")
            if select.select([ours], [], [], 0.05)[0]:
                shown += os.read(ours, 65536)
        return time.monotonic() - began
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def main(store: Path, times: int = 5) -> None:
    with closing(RunStore(store, read_only=True)) as runs:
        newest = runs.names()[0]
    seconds = [start(store, newest) for _ in range(times)]
    sys.stdout.write(
        f"{times} starts: median {statistics.median(seconds):.2f} s, {min(seconds):.2f} to {max(seconds):.2f} s\n"
    )


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
