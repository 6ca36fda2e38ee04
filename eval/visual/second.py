"""A second network: what it makes of images that were made for the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Target
from line_neurons.eval.edits.verifiers import plain_settings
from line_neurons.eval.visual.measures import ControlFeatures
from line_neurons.eval.visual.sets import sample_name
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.control_sets import control_activations
from line_neurons.tools.control_sets.image_list import ImageList

SAMPLE = 200
"""Images of the control set that a set of images is compared with."""


@dataclass(frozen=True)
class SecondNetwork:
    """Another classifier.

    Args:
        sample: images of the control set.
    """

    components: Components
    features: str
    output: str
    sample: tuple[bytes, ...]

    @property
    def fingerprint(self) -> str:
        """Of the network and its layers."""
        return f"{self.components.target.fingerprint} {self.features} {self.output}"

    @property
    def name(self) -> str:
        """As the user names it."""
        return self.components.shown_model

    @cached_property
    def _sample(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        components = self.components
        images = ImageList(self.sample, "calibration")
        progress = components.progress_for("control images in the second network")
        layers = [self.features, self.output]
        found = control_activations(components.cache, components.target, layers, images, progress)
        return found[self.features].dense(), found[self.output].dense()

    @cached_property
    def control(self) -> ControlFeatures:
        """The features of the control images."""
        return ControlFeatures.of(self._sample[0], [sample_name(image) for image in self.sample])

    def measured(self, images: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return features and outputs of images of the cache."""
        cache, target = self.components.cache, self.components.target
        features = cache.activations(images, target, self.features, also=[self.output])
        return features, cache.activations(images, target, self.output)

    def class_of(self, target: Target, layer: str, unit: int) -> int | None:
        """Return the output that stands for the same class as a unit of the first network; None without one."""
        names, own = target.unit_names(layer), self.components.target.unit_names(self.output)
        if not names or not own:
            return None
        if list(names) == list(own):
            return unit
        same = [at for at, name in enumerate(own) if name.casefold() == names[unit].casefold()]
        return same[0] if len(same) == 1 else None

    def relative(self, outputs: NDArray[np.float32], natural: NDArray[np.float32] | None, unit: int) -> float:
        """Return the mean rise of a class above the control images, as a share of that of the strongest images.

        Args:
            natural: of the unit's strongest control images; None without any.
        """
        if natural is None:
            return float("nan")
        base = float(self._sample[1][:, unit].mean(dtype=np.float64))
        rise = float(natural[:, unit].max()) - base
        return (float(outputs[:, unit].mean(dtype=np.float64)) - base) / rise if rise > 0 else float("nan")


def open_second(spec: str, components: Components, sample: Sequence[bytes]) -> SecondNetwork:
    """Open a second network.

    Raises:
        UsageError: it is the target itself, or has no layer of features.
        MissingPartError: a package or weights are missing.
    """
    other = Components(spec, plain_settings(components), components.on_progress)
    if other.target.fingerprint == components.target.fingerprint:
        raise UsageError(
            f"the second network {spec!r:.80} is the target itself", "name an independent one with --second"
        )
    layers = [layer.path for layer in other.target.layers()]
    output = getattr(other.target, "output_layer", None) or layers[-1]
    before = layers.index(output)
    if not before:
        raise UsageError(f"{spec!r:.80} has one layer only, and no features before it", "name another --second")
    return SecondNetwork(other, layers[before - 1], output, tuple(sample))
