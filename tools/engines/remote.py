"""Generator and target of workers, as ports of the driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from line_neurons.agent.ports import DrawnImage, ImageRequest, LayerInfo, Progress
from line_neurons.tools.engines.hands import Parts, SentImage
from line_neurons.tools.targets.base import layer_fingerprint

if TYPE_CHECKING:
    from line_neurons.agent.ports import Activations, ImageData

Call = Callable[..., Any]
"""See ``Pool.call``."""


class RemoteGenerator:
    """A generator in workers, which also measure what they generate; implements the port ``Generator``.

    Args:
        together: images that are requested at a time.
        parallel: how many batches may be generated at the same time, at present.
    """

    def __init__(
        self,
        call: Call,
        parts: Parts,
        target: RemoteTarget,
        layers: Callable[[], Sequence[str]],
        together: int,
        parallel: Callable[[], int],
    ) -> None:
        self._call = call
        self._target = target
        self._layers = layers
        self._parallel = parallel
        self.fingerprint = parts.generator
        # Images of a concept are measured in one pass where one worker generates all of them.
        self.batch_size = max(parts.generator_batch, together)
        if (identity := parts.generator_identity) is not None:
            self.identity = lambda: identity

    @property
    def parallel(self) -> int:
        """Batches that are generated at the same time."""
        return self._parallel()

    def synthesize(self, requests: Sequence[ImageRequest], progress: Progress | None = None) -> list[DrawnImage]:
        """See ``Generator.synthesize``; progress counts whole images."""
        sent: list[SentImage] = self._call("generate", list(requests), list(self._layers()), images=len(requests))
        if progress:
            progress(len(sent), len(requests))
        return [image.drawn(partial(layer_fingerprint, self._target)) for image in sent]

    def suggest(self, concepts: Sequence[str], limit: int) -> list[str]:
        """See ``Generator.suggest``."""
        found: list[str] = self._call("suggest", list(concepts), limit)
        return found


class RemoteTarget:
    """A target in workers; implements the port ``Target``.

    Args:
        parallel: how many batches may be measured at the same time, at present.
    """

    def __init__(self, call: Call, parts: Parts, parallel: Callable[[], int]) -> None:
        self._call = call
        self._parts = parts
        self._parallel = parallel
        self.fingerprint = parts.target
        self.batch_size = parts.target_batch
        self.spec, self.note, self.doubts = parts.spec, parts.note, parts.doubts

    @property
    def parallel(self) -> int:
        """Batches that are measured at the same time."""
        return self._parallel()

    def layers(self) -> list[LayerInfo]:
        """See ``Target.layers``."""
        return self._parts.layers

    def unit_names(self, layer: str) -> Sequence[str] | None:
        """See ``Target.unit_names``."""
        return self._parts.unit_names.get(layer)

    def activate(
        self, images: Sequence[ImageData], layers: Sequence[str], progress: Progress | None = None
    ) -> dict[str, Activations]:
        """See ``Target.activate``; progress counts whole images."""
        found: dict[str, Activations] = self._call("activate", list(images), list(layers), images=len(images))
        if progress:
            progress(len(images), len(images))
        return found

    def check_classes(self) -> None:
        """See ``HookedTarget.check_classes``."""
        self._call("check_classes")
