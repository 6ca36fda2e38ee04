"""The engine of a run: its workers, and the generator and target that they serve."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from line_neurons.agent.errors import LineError, UsageError
from line_neurons.agent.ports import Progress
from line_neurons.agent.settings import Settings
from line_neurons.tools.cache.events import CacheEvent
from line_neurons.tools.engines.hands import Parts, Recipe
from line_neurons.tools.engines.pool import Cluster, Description, Pool
from line_neurons.tools.engines.remote import RemoteGenerator, RemoteTarget
from line_neurons.tools.store.activity import WorkerStatus

_SLOTS = 2
"""Calls of a worker at the same time: one is encoded and measured while the next is generated."""


class Engine:
    """Workers for the runs of one target and generator; they start at first use.

    The workers of a process have its devices for themselves: those of another engine are stopped, and started
    again when that one is used.

    Args:
        make_cluster: opens where workers are started.
        layers: the layers to measure each new image at; may grow.
        images: images that are requested at a time.
        check: called while a call waits for a worker; what it raises ends the waiting.
    """

    _switching = threading.RLock()
    _current: Engine | None = None
    """The engine of this process that has workers."""

    def __init__(
        self,
        make_cluster: Callable[[], Cluster],
        layers: set[str],
        images: int,
        report: Callable[[CacheEvent], None],
    ) -> None:
        self._make_cluster = make_cluster
        self._layers = layers
        self._images = images
        self._report = report
        self._pool: Pool | None = None
        self._expected: Description | None = None
        self._calls = 0
        self.check: Callable[[], None] = lambda: None

    def start(self, progress: Progress | None = None) -> tuple[RemoteGenerator, RemoteTarget]:
        """Return the generator and the target of the workers, once one of them is ready.

        Raises:
            LineError: no worker can be started.
        """
        self._expected = self._workers().wait_for_first(progress)
        parts: Parts = self._expected.details
        target = RemoteTarget(self._call, parts, self._parallel)
        generator = RemoteGenerator(
            self._call, parts, target, lambda: sorted(self._layers), self._images, self._parallel
        )
        return generator, target

    @property
    def machine(self) -> dict[str, Any] | None:
        """The machine of the first worker; None before it is ready."""
        return self._expected.details.machine if self._expected else None

    def remark(self, units: int) -> str:
        """Say that ``units`` at the same time are too few for the workers; empty if they are not."""
        wanted = self._workers().cluster.wanted()
        if units >= wanted:
            return ""
        count = "1 unit" if units == 1 else f"{units} units"
        return (
            f"{wanted} workers, and {count} at the same time: --max-concurrent-units {4 * wanted} keeps them busy"
        )

    def status(self) -> list[WorkerStatus]:
        """Say what each worker has done since it started."""
        pool = self._pool
        return pool.status() if pool else []

    def stop(self) -> None:
        """Stop the workers; the next call starts others."""
        with Engine._switching:
            pool, self._pool = self._pool, None
            if Engine._current is self:
                Engine._current = None
        if pool:
            pool.close()

    def _workers(self) -> Pool:
        with Engine._switching:
            if self._pool is None:
                other = Engine._current
                if other is not None and other._calls:
                    raise UsageError(
                        "another run of this process uses its workers", "start this one when that ends"
                    )
                if other is not None:
                    other.stop()
                self._pool = Pool(
                    self._make_cluster(), _SLOTS, report=self._tell, check=self._check, expected=self._expected
                )
                Engine._current = self
            return self._pool

    def _call(self, method: str, *arguments: Any, images: int = 0) -> Any:
        with Engine._switching:
            pool = self._workers()
            self._calls += 1
        try:
            return pool.call(method, *arguments, images=images)
        finally:
            with Engine._switching:
                self._calls -= 1

    def _parallel(self) -> int:
        pool = self._pool
        return max(1, pool.wanted if pool else 1) * _SLOTS

    def _check(self) -> None:
        self.check()

    def _tell(self, kind: str, text: str, detail: dict[str, Any]) -> None:
        # The next write of the work itself says what is wrong with the store.
        with suppress(LineError):
            self._report(CacheEvent(kind, text, detail))


def open_engine(
    settings: Settings, recipe: Recipe, layers: set[str], report: Callable[[CacheEvent], None]
) -> Engine | None:
    """Return the engine that settings name; None where generator and target are in this process."""
    if not settings.uses_workers:
        return None
    return Engine(lambda: _cluster(settings, recipe), layers, settings.images, report)


def _cluster(settings: Settings, recipe: Recipe) -> Cluster:
    from line_neurons.tools.engines.processes import DeviceCluster, local_devices

    if settings.ray:
        from line_neurons.tools.engines.ray_cluster import RayCluster

        return RayCluster(recipe, settings)
    return DeviceCluster(recipe, local_devices(settings.devices))


def worker_count(settings: Settings) -> int:
    """Return how many workers settings ask for; 0 if none, or if a cluster decides."""
    if settings.devices:
        from line_neurons.tools.engines.processes import local_devices

        return len(local_devices(settings.devices))
    return (settings.workers or 0) if settings.ray else 0
