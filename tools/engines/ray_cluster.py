"""Workers as actors of a Ray cluster; the only module that imports Ray."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import IO, Any, Literal, cast

from line_neurons.agent.errors import UsageError, reason_of
from line_neurons.agent.settings import Settings
from line_neurons.tools.engines.hands import Hands, Recipe
from line_neurons.tools.engines.pool import Description, WorkerLostError
from line_neurons.tools.packages import required_package

_CALLS = 4
"""Methods of an actor that may run at the same time."""
_CONNECT_SECONDS = 60.0
_LOOK_SECONDS = 10.0
"""How often the size of the cluster is looked up."""
_GB = 1e9
_REFUSED = ("Unauthenticated", "InvalidAuthToken")
_PROBE = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False); print('connected', file=sys.stderr)"


class _WithoutRay:
    """Standard output that lets Ray's own threads, which print what became of workers, write nothing."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, unless a thread of Ray does."""
        return len(text) if threading.current_thread().name.startswith("ray_") else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _RayHands(Hands):
    """The methods of a worker, in an actor."""

    def begin(self, recipe: Recipe, place: str = "") -> Description:
        """See ``Hands.begin``; the place is the node, with its GPU."""
        import ray

        gpus = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
        unit = f"GPU {','.join(gpus)}" if gpus else f"process {os.getpid()}"
        return super().begin(recipe, f"{socket.gethostname()} ({unit})")


class _RayWorker:
    """An actor."""

    def __init__(self, actor: Any, recipe: Any) -> None:
        self.actor = actor
        self._recipe = recipe

    def begin(self) -> Future[Any]:
        """See ``pool.Worker``."""
        return self.call("begin", self._recipe)

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """See ``pool.Worker``."""
        answer: Future[Any] = Future()
        try:
            getattr(self.actor, method).remote(*arguments).future().add_done_callback(_translated(answer))
        except Exception as error:
            answer.set_exception(_own(error))
        return answer

    def stop(self) -> None:
        """See ``pool.Worker``."""
        import ray

        with suppress(Exception):
            ray.kill(self.actor)


def _translated(answer: Future[Any]) -> Callable[[Future[Any]], None]:
    """Return a callback that gives ``answer`` a result of Ray, or the error behind Ray's."""

    def finish(done: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            answer.set_result(done.result())
        else:
            answer.set_exception(_own(error))

    return finish


def _own(error: BaseException) -> BaseException:
    from ray import exceptions

    lost = (
        exceptions.ActorDiedError,
        exceptions.ActorUnavailableError,
        exceptions.NodeDiedError,
        exceptions.WorkerCrashedError,
    )
    if isinstance(error, lost):
        return WorkerLostError(_first_cause(str(error)))
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def _first_cause(text: str) -> str:
    """Return the sentence of Ray's several lines that says why an actor died."""
    detail = text.partition("Worker exit detail: ")[2] or reason_of(ValueError(text))
    return detail.partition(" Some common causes")[0].splitlines()[0][:200]


class RayCluster:
    """Workers on a Ray cluster: as many as settings name, or as there is room for.

    Args:
        settings: with the address, and what a worker takes.

    Raises:
        MissingPartError: Ray is not installed.
        UsageError: no cluster answers, it has no token, or it has no room for a worker.
    """

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        self._ray = ray = connect(settings.ray, trusted=settings.trust_network)
        self._settings = settings
        self._looked_up = 0.0
        self._room = 0
        local, room = settings.ray == "local", self._fitting()
        # To this machine no others come; to a cluster they may.
        least = (settings.workers or 1) if local else 0 if settings.workers else 1
        if room < least:
            place = "this machine" if local else "the Ray cluster"
            count = "a worker" if least == 1 else f"{least} workers"
            raise UsageError(
                f"{place} has no room for {count}: it has {_resources(ray)}, and one takes {_share(settings)}",
                "--worker-gpus 0 uses no GPU, a smaller --worker-cpus fewer cores, a smaller --worker-memory less"
                + ("" if local else "; --workers N waits for machines that come later"),
            )
        self._recipe = ray.put(recipe.on("cuda" if settings.worker_gpus else "cpu"))
        variables = {} if settings.worker_gpus else {"OMP_NUM_THREADS": _threads()}
        self._actors = ray.remote(_RayHands).options(
            num_gpus=settings.worker_gpus,
            num_cpus=settings.worker_cpus,
            # Ray starts no actor where other actors have reserved too much.
            memory=_bytes(settings) or None,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=_CALLS,
            runtime_env={"env_vars": variables},
        )

    def wanted(self) -> int:
        """Return the number of workers that settings name, or that fit on the machines that are there now."""
        return self._settings.workers or self._fitting()

    def _fitting(self) -> int:
        if time.monotonic() - self._looked_up >= _LOOK_SECONDS:
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._room, self._looked_up = sum(map(self._fits, nodes)), time.monotonic()
        return self._room

    def start(self) -> _RayWorker:
        """Start an actor where Ray finds room."""
        return _RayWorker(self._actors.remote(), self._recipe)

    def waits_for(self) -> str:
        """Say what Ray has and what a worker takes."""
        ray = self._ray
        return (
            f"the Ray cluster has {_resources(ray)}, of them free {_resources(ray, free=True)}, and a worker "
            f"takes {_share(self._settings)}"
        )

    def _fits(self, resources: dict[str, float]) -> int:
        settings = self._settings
        needs = {"CPU": settings.worker_cpus, "GPU": settings.worker_gpus, "memory": _bytes(settings)}
        return int(min(resources.get(name, 0) / need for name, need in needs.items() if need) + 1e-6)


def _bytes(settings: Settings) -> int:
    return int(settings.worker_memory * _GB)


def _share(settings: Settings) -> str:
    """Say what a worker takes."""
    memory = f", {settings.worker_memory:g} GB of memory" if settings.worker_memory else ""
    return f"{settings.worker_gpus:g} GPU, {settings.worker_cpus:g} CPU{memory}"


def _resources(ray: Any, *, free: bool = False) -> str:
    found = ray.available_resources() if free else ray.cluster_resources()
    memory = f"{found.get('memory', 0) / _GB:.0f} GB of memory"
    return f"{found.get('GPU', 0):g} GPU, {found.get('CPU', 0):g} CPU, {memory}"


def _threads() -> str:
    """Return the number of threads that torch uses in this process, where the environment does not say."""
    return os.environ.get("OMP_NUM_THREADS") or str(len(os.sched_getaffinity(0)))


def connect(address: str, *, trusted: bool) -> Any:
    """Connect to a Ray cluster, or start one on this machine (``local``); return Ray.

    In the main thread Ray sets a handler of SIGTERM, so this comes before the run's own.

    Args:
        address: ``local``, ``auto`` or HOST:PORT.
        trusted: use a cluster without token authentication.

    Raises:
        MissingPartError: Ray is not installed.
        UsageError: no cluster answers, or it has no token authentication.
    """
    # Read when Ray is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    local = address == "local"
    loaded = sys.modules.get("ray")
    secured = True
    if local:
        # Too late where Ray is imported already; since 2.60 it does the same itself.
        if loaded is None:
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        secured = os.environ.get("RAY_AUTH_MODE", "token") == "token"
    elif loaded is None or not loaded.is_initialized():
        secured = _secured(address)
        os.environ["RAY_AUTH_MODE"] = "token" if secured else "disabled"
    if not secured and not trusted:
        raise UsageError(
            f"the Ray cluster {address} has no token authentication: anyone on its network can run code on it",
            "start it with RAY_AUTH_MODE=token, or allow it with --trust-network",
        )
    with required_package("ray", "ray", needed="workers of a cluster need"):
        import ray
    if not ray.is_initialized():
        # With no address Ray would join whatever cluster it finds.
        options: dict[str, Any] = {"include_dashboard": False} if local else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:
            raise UsageError(
                f"the Ray cluster {address} cannot be used: {reason_of(error)}",
                "its token belongs into ~/.ray/auth_token or RAY_AUTH_TOKEN; all machines need the same Ray",
            ) from error
    if not isinstance(sys.stdout, _WithoutRay):
        sys.stdout = cast("Any", _WithoutRay(sys.stdout))
    return ray


def _secured(address: str) -> bool:
    """Return whether a cluster refuses those who have no token.

    Raises:
        UsageError: none answers.
    """
    found = _probe(address)
    if found == "silent":
        raise UsageError(
            "no Ray cluster was found on this machine"
            if address == "auto"
            else f"no Ray cluster answers at {address}",
            "start one with `ray start --head`, name its HOST:PORT, or use --ray local",
        )
    return found == "refused"


def _probe(address: str) -> Literal["connected", "refused", "silent"]:
    """Try to connect without a token, in a process that can be ended: Ray itself goes on trying for minutes."""
    if ":" in address:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), 5).close()
        except (OSError, OverflowError):
            return "silent"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _PROBE, address],
        env={**environment, "RAY_AUTH_MODE": "disabled"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    ending = threading.Timer(_CONNECT_SECONDS, process.kill)
    ending.start()
    try:
        assert process.stderr
        for line in process.stderr:
            if any(sign in line for sign in _REFUSED):
                return "refused"
            if line.startswith("connected"):
                return "connected"
        return "silent"
    finally:
        ending.cancel()
        process.kill()
        process.wait()
