"""Runs `line` commands in processes of their own, and ends them from outside at moments that can be seen there."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

SERVER = Path(__file__).with_name("line_server.py")
STRACE = shutil.which("strace")
TOO_LONG = 300


@dataclass(frozen=True)
class Moment:
    """When a process is ended, and by which signal.

    Args:
        kind: "time" (after ``at`` of the seconds that the undisturbed command takes), a name of ``SIGHTS`` (the
            ``at``-th time that it changes), or a system call (before the ``at``-th).
        at: see ``kind``.
        signal: SIGKILL, or SIGINT, which drains.
    """

    kind: str
    at: float
    signal: int = signal.SIGKILL


def _count(pattern):
    return lambda folder: sum(1 for _ in folder.glob(pattern))


def _size(name):
    def size(folder):
        try:
            return (folder / name).stat().st_size
        except OSError:
            return 0

    return size


# What can be seen of a store while a process works on it: a number that changes.
SIGHTS = {
    "a journal": _count("store/*-journal"),
    "runs.db-wal": _size("store/runs.db-wal"),
    "checkpoints.db-wal": _size("store/checkpoints.db-wal"),
    "bank.db-wal": _size("store/bank.db-wal"),
    "replies.db": _size("store/replies.db-wal"),
    "an image": _count("store/images/*/*.png"),
    "a hidden file": lambda folder: (
        _count("store/**/.*")(folder) + _count(".*")(folder) + _count("out/.*")(folder)
    ),
    "a lock": _count("store/locks/*"),
    "a database": _count("store/*.db"),
    "an output": _count("out/*"),
}
SYSTEM_CALLS = {
    "pwrite64": 300,
    "fdatasync": 12,
    "unlink": 6,
    "rename": 40,
    "ftruncate": 8,
    "openat": 400,
    "mkdir": 20,
}


@dataclass
class Ended:
    """A command that is over: its status (negative: the signal), what it printed, whether the moment came."""

    status: int
    out: str
    err: str
    seconds: float
    struck: bool = False
    hung: bool = False

    def answers(self):
        """The standard output of each of several commands."""
        return re.split("\x1e\\d+", self.out)[:-1]


@dataclass
class Command:
    """A process that runs one or more `line` commands."""

    pid: int
    folder: Path
    out: Path
    err: Path
    begun: float
    moment: Moment | None
    usual: float
    server: "Server"
    tracer: subprocess.Popen | None = None
    struck: bool = False
    gate: int = -1
    _seen: dict = field(default_factory=dict)

    def until(self, sight, changes):
        """Wait until something has changed so often, or the process is over."""
        ends = select.poll()
        watched = os.pidfd_open(self.pid)
        ends.register(watched, select.POLLIN)
        before, seen = SIGHTS[sight](self.folder), 0
        while seen < changes and not ends.poll(1):
            now = SIGHTS[sight](self.folder)
            seen, before = seen + (now != before), now
        os.close(watched)

    def wait(self):
        """Wait for its end; before it, send the signal when its moment comes."""
        ends = select.poll()
        watched = os.pidfd_open(self.pid)
        ends.register(watched, select.POLLIN)
        deadline, hung = time.monotonic() + TOO_LONG, False
        while not ends.poll(1 if self.moment and not self.struck else 500):
            if self.moment and not self.struck and self._has_come():
                os.kill(self.pid, self.moment.signal)
                self.struck = True
            if time.monotonic() > deadline:
                hung = True
                os.kill(self.pid, signal.SIGKILL)
        os.close(watched)
        os.close(self.gate)
        status = self.server.ask({"wait": self.pid})
        if self.tracer:
            self.tracer.wait(30)
        if self.moment and self.moment.kind in SYSTEM_CALLS:
            self.struck = status == -signal.SIGKILL and not hung
        seconds = time.monotonic() - self.begun
        read = (self.out.read_text(errors="replace"), self.err.read_text(errors="replace"))
        return Ended(status, *read, seconds, self.struck, hung)

    def _has_come(self):
        if self.moment.kind == "time":
            return time.monotonic() - self.begun >= self.moment.at * self.usual
        if self.moment.kind not in SIGHTS:
            return False
        now = SIGHTS[self.moment.kind](self.folder)
        before = self._seen.setdefault("value", now)
        if now != before:
            self._seen["value"], self._seen["changes"] = now, self._seen.get("changes", 0) + 1
        return self._seen.get("changes", 0) >= self.moment.at


class Server:
    """The process that forks commands."""

    def __init__(self, scratch):
        self._scratch = scratch
        self._serial = 0
        self._process = subprocess.Popen(
            [sys.executable, SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(scratch),
        )

    def ask(self, request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, folder, *commands, moment=None, usual=1.0):
        """Begin commands in a folder, whose store is ``store``."""
        self._serial += 1
        gate, out, err = (self._scratch / f"{self._serial}.{name}" for name in ("gate", "out", "err"))
        os.mkfifo(gate)
        # It may be killed before it opens them.
        out.touch()
        err.touch()
        request = {"gate": gate, "folder": folder, "out": out, "err": err, "commands": commands}
        pid = self.ask(json.loads(json.dumps(request, default=str)))
        tracer = None
        if moment and moment.kind in SYSTEM_CALLS:
            tracer = _traced(pid, moment)
        command = Command(pid, folder, out, err, time.monotonic(), moment, usual, self, tracer)
        # Opened for both, which does not wait for a reader: it may be killed already.
        opened = os.open(gate, os.O_RDWR)
        os.write(opened, b"go\n")
        command.gate = opened
        return command

    def run(self, folder, *commands, moment=None, usual=1.0):
        return self.start(folder, *commands, moment=moment, usual=usual).wait()

    def close(self):
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def _traced(pid, moment):
    inject = f"{moment.kind}:signal=SIGKILL:when={int(moment.at)}"
    return _attached(pid, "-f", "-e", f"trace={moment.kind}", "-e", f"inject={inject}")


def _attached(pid, *options):
    """A tracer of a process; None where there is no strace, or it is not permitted to attach."""
    if STRACE is None:
        return None
    tracer = subprocess.Popen(
        [STRACE, "-q", "-o", os.devnull, *options, "-p", str(pid)], stderr=subprocess.DEVNULL
    )
    while tracer.poll() is None:
        if "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text():
            return tracer
        time.sleep(0.01)
    return None


@cache
def system_calls():
    """The system calls before which a process can be ended here: none without strace that may attach."""
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        tracer = _attached(sleeper.pid, "-e", "trace=unlink")
        sleeper.kill()
    if tracer is None:
        return {}
    tracer.wait(30)
    return SYSTEM_CALLS


def _environment(scratch):
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME", "LANG") if name in os.environ}
    return kept | {"XDG_CONFIG_HOME": str(scratch / "config"), "COLUMNS": "100", "NO_COLOR": "1"}


@contextmanager
def serving(scratch):
    """A server whose scratch files are in a folder."""
    scratch.mkdir(parents=True, exist_ok=True)
    server = Server(scratch)
    try:
        yield server
    finally:
        server.close()
