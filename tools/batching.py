"""Share one generator, one target and one language model between the units of a batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import UnmeasurableError
from line_neurons.agent.ports import (
    DrawnImage,
    Generator,
    ImageRequest,
    LanguageModel,
    LayerInfo,
    Progress,
    Prompt,
    Proposal,
    Target,
)
from line_neurons.tools.cache.validation import check_shapes
from line_neurons.tools.engines.remote import RemoteGenerator, RemoteTarget
from line_neurons.tools.micro_batcher import MicroBatcher

if TYPE_CHECKING:
    from line_neurons.agent.ports import Activations, ImageData

_WAITING_FOR_WORKERS = 4096
"""Most images that wait for workers."""


def _parallel_of(component: Generator | Target) -> dict[str, Any]:
    """Return how many batches a component works on at the same time, if it has workers for more than one."""
    if not isinstance(component, RemoteGenerator | RemoteTarget):
        return {}
    return {"parallel": lambda: component.parallel, "limit": _WAITING_FOR_WORKERS}


class BatchedGenerator:
    """A generator that runs full batches of images for many threads; a ``Generator`` itself.

    ``suggest`` runs in the caller's thread, possibly while images are generated.

    Args:
        callers: how many threads may call at present.
        wait: longest time in seconds that a request waits for others.
        check: called before a request starts; what it raises is raised for that request instead.
    """

    def __init__(
        self, generator: Generator, *, callers: Callable[[], int], wait: float, check: Callable[[], None]
    ) -> None:
        self._generator = generator
        self.fingerprint = generator.fingerprint
        self._gatherer: MicroBatcher[ImageRequest, DrawnImage] = MicroBatcher(
            "generator",
            generator.synthesize,
            lambda: generator.batch_size,
            callers=callers,
            wait=wait,
            check=check,
            **_parallel_of(generator),
        )

    @property
    def batch_size(self) -> int:
        """Images in a batch, as of the last one; does not wait for the current one."""
        return self._gatherer.size

    def synthesize(self, requests: Sequence[ImageRequest], progress: Progress | None = None) -> list[DrawnImage]:
        """Generate images in order; see ``Generator.synthesize``. Progress counts whole images."""
        return self._gatherer.ask(requests, progress)

    def suggest(self, concepts: Sequence[str], limit: int) -> list[str]:
        """See ``Generator.suggest``."""
        return self._generator.suggest(concepts, limit)

    def close(self) -> None:
        """See ``MicroBatcher.close``."""
        self._gatherer.close()


@dataclass(frozen=True)
class _Measurement:
    """An image to measure at ``layers``; ``index`` is its place among the images of its caller."""

    layers: tuple[str, ...]
    image: ImageData
    index: int


class BatchedTarget:
    """A target that measures full batches of images for many threads; a ``Target`` itself.

    Args:
        callers: how many threads may call at present.
        wait: longest time in seconds that a request waits for others.
        check: called before a request starts; what it raises is raised for that request instead.
    """

    def __init__(
        self, target: Target, *, callers: Callable[[], int], wait: float, check: Callable[[], None]
    ) -> None:
        self._target = target
        self.fingerprint = target.fingerprint
        self._gatherer: MicroBatcher[_Measurement, dict[str, Activations]] = MicroBatcher(
            "target",
            self._measure,
            lambda: target.batch_size,
            callers=callers,
            wait=wait,
            check=check,
            **_parallel_of(target),
        )

    @property
    def batch_size(self) -> int:
        """Images in one forward pass."""
        return self._gatherer.size

    def layers(self) -> list[LayerInfo]:
        """See ``Target.layers``."""
        return self._target.layers()

    def unit_names(self, layer: str) -> Sequence[str] | None:
        """See ``Target.unit_names``."""
        return self._target.unit_names(layer)

    def activate(
        self, images: Sequence[ImageData], layers: Sequence[str], progress: Progress | None = None
    ) -> dict[str, Activations]:
        """Compute pooled activations of all units of each of ``layers``; see ``Target.activate``."""
        import numpy as np

        if not images:
            return self._target.activate([], layers)
        wanted = tuple(layers)
        rows = self._gatherer.ask(
            [_Measurement(wanted, image, index) for index, image in enumerate(images)], progress
        )
        return {layer: np.stack([row[layer] for row in rows]) for layer in wanted}

    def close(self) -> None:
        """See ``MicroBatcher.close``."""
        self._gatherer.close()

    def _measure(self, items: list[_Measurement]) -> list[dict[str, Activations]]:
        """Compute activations [n_units]; one call of the target per tuple of layers."""
        results: list[dict[str, Activations]] = [{} for _ in items]
        for layers in dict.fromkeys(item.layers for item in items):
            places = [place for place, item in enumerate(items) if item.layers == layers]
            try:
                given = self._target.activate([items[place].image for place in places], layers)
            except UnmeasurableError as error:
                # A batch is another list of images than its callers passed.
                error.index = items[places[error.index]].index
                raise
            for layer, rows in check_shapes(given, layers, len(places)).items():
                for place, row in zip(places, rows, strict=True):
                    results[place][layer] = row
        return results


class BoundedLanguageModel:
    """A ``LanguageModel`` with at most ``parallel`` requests at a time.

    ``check`` is called when it is a request's turn; what it raises is raised instead of sending it.
    """

    def __init__(self, model: LanguageModel, parallel: int, *, check: Callable[[], None]) -> None:
        self._model = model
        self._check = check
        self._free = threading.BoundedSemaphore(parallel)

    @property
    def fingerprint(self) -> str:
        """See ``LanguageModel.fingerprint``."""
        return self._model.fingerprint

    def propose(self, prompt: Prompt, *, seed: int, temperature: float) -> Proposal:
        """Propose a concept when it is this request's turn; see ``LanguageModel.propose``."""
        with self._free:
            self._check()
            return self._model.propose(prompt, seed=seed, temperature=temperature)


@dataclass(frozen=True)
class BatchedComponents:
    """The components that the units of a batch share."""

    generator: BatchedGenerator
    target: BatchedTarget
    language_model: BoundedLanguageModel


@contextmanager
def batched_components(
    generator: Generator,
    target: Target,
    language_model: LanguageModel,
    *,
    callers: Callable[[], int],
    parallel: int,
    wait: float,
    check: Callable[[], None],
) -> Iterator[BatchedComponents]:
    """Make components that many threads may use at once, as long as the context lasts.

    Args:
        generator: generates images; ``suggest`` is called meanwhile.
        language_model: proposes; several requests at once only if ``parallel`` says so.
        callers: how many threads use the components at present: when all of them wait, no batch waits for more.
        parallel: most requests to the language model at the same time.
        wait: longest time in seconds that a request for images or activations waits to fill a batch.
        check: called before a request starts; what it raises, to stop, is raised for it instead.
    """
    with (
        closing(BatchedGenerator(generator, callers=callers, wait=wait, check=check)) as drawing,
        closing(BatchedTarget(target, callers=callers, wait=wait, check=check)) as measuring,
    ):
        yield BatchedComponents(drawing, measuring, BoundedLanguageModel(language_model, parallel, check=check))
