"""Prepare images for a vision model, and check that its preprocessing is a function of the image."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING

from line_neurons.agent.errors import BackendError, UnfitOutputError, UnmeasurableError, UsageError, reason_of
from line_neurons.tools.images.reader import ImageError, read_image
from line_neurons.tools.targets.random_state import draws_numbers

if TYPE_CHECKING:
    from torch import Tensor

    from line_neurons.agent.ports import ImageData
    from line_neurons.tools.targets.base import ModelBundle

# Further times that an image is prepared, to see whether it comes out the same.
_REPEATS = 8


class Preparation:
    """The preprocessing of a model, which errors name as ``model``; may be used from several threads."""

    def __init__(self, network: ModelBundle, model: str) -> None:
        self._network = network
        self._model = model
        # Code of the user need not be made for several threads.
        self._lock = threading.RLock()

    def prepare(self, numbered: tuple[int, ImageData]) -> Tensor:
        """Prepare an image with its number, to a float tensor [3, H, W].

        Raises:
            UnmeasurableError: it cannot be decoded; names the number.
            BackendError: the preprocessing failed, or gave no such tensor.
        """
        import torch

        index, image = numbered
        try:
            decoded = read_image(image)
        except ImageError as error:
            raise UnmeasurableError(f"it cannot be decoded: {error}", error.remedy, index=index) from error
        try:
            with self._lock if self._network.own_preprocessing else nullcontext():
                prepared = self._network.prepare(decoded)
        except Exception as error:
            raise BackendError(
                f"the preprocessing of {self._model} failed: {reason_of(error)}", "--debug shows where"
            ) from error
        if not isinstance(prepared, torch.Tensor) or prepared.ndim != 3:
            shape = list(prepared.shape) if isinstance(prepared, torch.Tensor) else type(prepared).__name__
            raise UnfitOutputError(f"the preprocessing of {self._model} gave {shape}, not a tensor [3, H, W]")
        if not prepared.is_floating_point():
            raise UnfitOutputError(
                f"the preprocessing of {self._model} gave {prepared.dtype}, not floats",
                "end it with ToDtype(torch.float32, scale=True)",
            )
        return prepared

    @cached_property
    def probes(self) -> list[Tensor]:
        """Prepare four different noise images, to check the preprocessing.

        Raises:
            UsageError: it is random, or gives images of several sizes.
        """
        import numpy as np
        import torch

        rng = np.random.default_rng(0)
        # Of other brightness and contrast, so that whatever looks at the whole batch finds other ones.
        noise, *others = (
            (rng.random((256, 320, 3)) * contrast + dark).astype(np.uint8)
            for contrast, dark in ((256, 0), (128, 0), (128, 128), (64, 32))
        )
        turned = noise.transpose(1, 0, 2).copy()
        wide, high, *rest = map(self.prepare, enumerate((noise, turned, *others)))
        # A generator of the transform's own shows in the values alone, and a rare operation in the state alone.
        again = (self.prepare((0, noise)) for _ in range(_REPEATS))
        varies = any(other.shape != wide.shape or not torch.equal(other, wide) for other in again)
        if varies or draws_numbers(lambda: self.prepare((0, noise))):
            what = "gives other values each time" if varies else "draws random numbers"
            raise UsageError(
                f"the preprocessing of {self._model} {what}",
                "use the transform of evaluation, without random operations such as flips and random crops",
            )
        if wide.shape != high.shape:
            raise UsageError(
                f"the preprocessing of {self._model} gives {list(wide.shape)} for one image and {list(high.shape)}"
                " for another",
                "let it give one size, as Resize((224, 224)) does",
            )
        return [wide, *rest]
