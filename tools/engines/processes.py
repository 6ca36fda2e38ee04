"""Workers as processes of this machine, a device each."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from line_neurons.agent.engine_settings import device_names
from line_neurons.agent.errors import BackendError, MissingPartError, UsageError, reason_of
from line_neurons.tools.devices import find_device
from line_neurons.tools.engines.hands import Recipe
from line_neurons.tools.engines.pool import WorkerLostError
from line_neurons.tools.packages import required_package

_PROGRAM = "line_neurons.tools.engines.process_main"
_TAIL = 4096


class ProcessWorker:
    """A child process with ``Hands``; it ends when this process does, however that ends.

    Args:
        recipe: what it opens, pickled.
        place: its device, for messages.
    """

    def __init__(self, recipe: bytes, place: str) -> None:
        self.place = place
        self._recipe = recipe
        ours, theirs = socket.socketpair()
        # Nothing of it may get between the lines of JSON, or onto the app's screen.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", _PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                # What a terminal signals is for the driver, which lets the current steps end.
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
            )
        self._connection = Connection(ours.detach())
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._pending: dict[int, Future[Any]] = {}
        self._lost = ""
        threading.Thread(target=self._receive, name=f"line worker {place}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be called."""
        return not self._lost

    def begin(self) -> Future[Any]:
        """See ``pool.Worker``."""
        return self.call("begin", self._recipe, self.place)

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """See ``pool.Worker``."""
        answer: Future[Any] = Future()
        with self._lock:
            if self._lost:
                answer.set_exception(WorkerLostError(self._lost))
                return answer
            number = next(self._numbers)
            self._pending[number] = answer
            # Where it fails, the receiving thread finds out why.
            with suppress(OSError):
                self._connection.send((number, method, arguments))
        return answer

    def stop(self) -> None:
        """See ``pool.Worker``."""
        self._process.kill()

    def _receive(self) -> None:
        while True:
            try:
                number, result, error = self._connection.recv()
            except (EOFError, OSError):
                break
            except Exception as unreadable:
                number, result, error = (
                    -1,
                    None,
                    BackendError(f"its answer is unreadable: {reason_of(unreadable)}"),
                )
            with self._lock:
                answers = [self._pending.pop(number)] if number in self._pending else [*self._pending.values()]
                if number < 0:
                    self._pending.clear()
            for answer in answers:
                answer.set_exception(error) if error is not None else answer.set_result(result)
        self._process.kill()
        with self._lock:
            self._lost = self._reason(self._process.wait())
            pending, self._pending = [*self._pending.values()], {}
        for answer in pending:
            answer.set_exception(WorkerLostError(self._lost))

    def _reason(self, status: int) -> str:
        if status < 0:
            return f"signal {signal.Signals(-status).name} ended it"
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _TAIL))
        lines = self._said.read().decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"it ended with status {status}" + (f": {last:.300}" if last else "")


class DeviceCluster:
    """A worker process on each of some devices of this machine.

    Args:
        devices: names of devices; the CPU may be named several times.

    Raises:
        MissingPartError: a model in memory cannot be sent to other processes.
    """

    def __init__(self, recipe: Recipe, devices: Sequence[str]) -> None:
        self._recipe = recipe
        self._devices = list(devices)
        self._workers: list[ProcessWorker | None] = [None] * len(self._devices)
        self._recipes = {device: _pickled(recipe.on(device)) for device in self._devices}

    def wanted(self) -> int:
        """Return one worker for each device."""
        return len(self._devices)

    def start(self) -> ProcessWorker:
        """Start a worker on a device that has none."""
        free = next(place for place, worker in enumerate(self._workers) if worker is None or not worker.alive)
        device = self._devices[free]
        place = device if self._devices.count(device) == 1 else f"{device} ({free + 1})"
        worker = self._workers[free] = ProcessWorker(self._recipes[device], place)
        return worker

    def waits_for(self) -> str:
        """Say that a worker loads its models."""
        return "the models are still being loaded"


def local_devices(devices: str) -> list[str]:
    """Return the devices of a setting, each of which exists here.

    Raises:
        UsageError: one does not, or there is no GPU.
    """
    names = device_names(devices)
    if names == ["all"]:
        import torch

        names = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        if not names:
            raise UsageError("no GPU is visible here, so --devices all has none", "use --devices cpu, or --device")
    for name in dict.fromkeys(names):
        find_device(name)
    return names


def _pickled(recipe: Recipe) -> bytes:
    if recipe.bundle is None:
        return pickle.dumps(recipe)
    with required_package(
        "cloudpickle", remedy="pip install cloudpickle", needed="workers for a model in memory need"
    ):
        import cloudpickle
    try:
        return bytes(cloudpickle.dumps(recipe))
    except Exception as error:
        raise MissingPartError(
            f"the model in memory cannot be sent to a worker: {reason_of(error)}", "use a single device"
        ) from error
