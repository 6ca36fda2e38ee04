"""Scripted parts in workers: what they open, and batches that use them."""

import os
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from line_neurons.agent.errors import MissingPartError
from line_neurons.agent.ports import LayerInfo
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.engines.engine import Engine
from line_neurons.tools.engines.processes import DeviceCluster
from line_neurons.tools.engines.shared_images import SharedImages
from support.fakes import LAYER, ScriptedGenerator, ScriptedModel, ScriptedTarget, scripted_components

UNITS = 12


class WideTarget(ScriptedTarget):
    """A target with twelve units."""

    def layers(self):
        return [LayerInfo(LAYER, "Linear", (UNITS,), UNITS)]

    def activate(self, images, layers, progress=None):
        values = np.array([self._value(image) for image in images], np.float32)
        rows = np.stack([values * (1 if unit % 2 else -1) + unit for unit in range(UNITS)], axis=1)
        return dict.fromkeys(layers, rows.reshape(len(images), UNITS))


class SlowGenerator(ScriptedGenerator):
    """A generator that takes its time; it kills its process over the concept ``poison``."""

    seconds = 0.0

    def synthesize(self, requests, progress=None):
        time.sleep(self.seconds * len(requests))
        if any(request.concept == "poison" for request in requests):
            os._exit(11)
        return super().synthesize(requests, progress)


@dataclass(frozen=True)
class ScriptedRecipe:
    """What a worker of tests opens; the same interface as ``Recipe``."""

    seconds: float = 0.0
    error: str = ""
    differs_on: str = ""
    bundle: None = None
    settings: dict[str, Any] = field(default_factory=lambda: {"device": "cpu"})
    shared: SharedImages | None = None

    def on(self, device):
        return replace(self, settings={"device": device})

    def open(self):
        if self.error:
            raise MissingPartError(self.error, "install it")
        generator = SlowGenerator(
            fingerprint=f"scripted generator{' two' * (self.settings['device'] == self.differs_on)}"
        )
        generator.seconds = self.seconds
        return generator, WideTarget()


def few_words(prompt, seed, temperature):
    """Units ask for the same concepts again and again, as a real model does."""
    return f"thing {seed % 40}"


OPTIONS = {"max_concurrent_units": 6, "llm_parallel": 3, "iterations": 3, "max_consecutive_failures": 5,
           "batch_timeout": 0.01, "images": 3}  # fmt: skip


def in_process(store, script=few_words, **options) -> Components:
    """A batch without workers."""
    return scripted_components(
        store, ScriptedModel(script), generator=SlowGenerator(), target=WideTarget(), **{**OPTIONS, **options}
    )


def with_workers(store, count, recipe=ScriptedRecipe(), script=few_words, cluster=None, **options) -> Components:
    """The same batch with workers."""
    whole = in_process(store, script, **options)
    components = Components(
        whole.model, whole.settings.model_copy(update={"devices": ",".join(["cpu"] * count)}), distributed=True
    ).with_(language_model=whole.language_model, control_set=whole.control_set)
    make = cluster or (lambda: DeviceCluster(recipe, ["cpu"] * count))
    vars(components)["engine"] = Engine(
        make, components.layers, components.settings.images, components.cache.events.report
    )
    return components


def worker_processes(components) -> list[int]:
    """The processes of the workers that live."""
    pool = components.engine._pool
    workers = pool.cluster._workers if pool else []
    return [worker.pid for worker in workers if worker is not None and worker.alive]
