"""Activations from any target, looked at before they are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from line_neurons.agent.errors import BackendError, UnmeasurableError
from line_neurons.agent.ports import Progress, Target
from line_neurons.tools.cache.image_validation import failing_as_one_line

if TYPE_CHECKING:
    from line_neurons.agent.ports import Activations, ImageData


def measure(
    target: Target,
    images: Sequence[ImageData],
    names: Sequence[str],
    layers: Sequence[str],
    progress: Progress | None = None,
) -> dict[str, Activations]:
    """Have images measured and look at what comes back.

    Args:
        target: the vision model.
        images: at least one.
        names: what each image is called in a message.
        layers: dotted paths.
        progress: see ``Target.activate``.

    Returns:
        float32 [n_images, n_units] for each layer, all finite.

    Raises:
        UsageError: see ``Target.activate``.
        BackendError: the target failed, or gave values that are not finite or of another shape; the message names
            layer and image.
    """
    import numpy as np

    try:
        given = failing_as_one_line(
            "the target", lambda: target.activate(images, layers, progress), "free some, or take a smaller batch"
        )
    except UnmeasurableError as error:
        place = next(place for place, image in enumerate(images) if image is error.image)
        raise BackendError(f"{names[place]}: {error.message}", error.remedy) from error
    measured = shaped(given, layers, len(images))
    for layer, rows in measured.items():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise BackendError(f"{names[bad[0]]}: the target gave values that are not finite at {layer}")
    return measured


def shaped(given: Mapping[str, Activations], layers: Sequence[str], images: int) -> dict[str, Activations]:
    """What a target gave for so many images, float32 [n_images, n_units] for each layer.

    Raises:
        BackendError: it is of another shape.
    """
    import numpy as np

    found = {layer: np.asarray(given.get(layer, ()), np.float32) for layer in layers}
    for layer, rows in found.items():
        if rows.ndim != 2 or len(rows) != images or not rows.shape[1]:
            raise BackendError(f"the target gave {list(rows.shape)} at {layer}, not [{images} images, units]")
    return found
