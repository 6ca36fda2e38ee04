"""Activations from any target, looked at before they are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from line_neurons.agent.errors import BackendError, UnmeasurableError
from line_neurons.agent.ports import Progress, Target
from line_neurons.tools.cache.image_validation import failing_as_one_line

if TYPE_CHECKING:
    from line_neurons.agent.ports import Activations, Picture


def measure(
    target: Target,
    pictures: Sequence[Picture],
    names: Sequence[str],
    layers: Sequence[str],
    progress: Progress | None = None,
) -> dict[str, Activations]:
    """Have pictures measured and look at what comes back.

    Args:
        target: the vision model.
        pictures: at least one.
        names: what each picture is called in a message.
        layers: dotted paths.
        progress: see ``Target.activate``.

    Returns:
        float32 [n_images, n_units] for each layer, all finite.

    Raises:
        UsageError: see ``Target.activate``.
        BackendError: the target failed, or gave values that are not finite or of another shape; the message names
            layer and picture.
    """
    import numpy as np

    try:
        given = failing_as_one_line(
            "the target", lambda: target.activate(pictures, layers, progress), "free some, or take a smaller batch"
        )
    except UnmeasurableError as error:
        place = next(place for place, picture in enumerate(pictures) if picture is error.picture)
        raise BackendError(f"{names[place]}: {error.message}", error.remedy) from error
    measured = shaped(given, layers, len(pictures))
    for layer, rows in measured.items():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise BackendError(f"{names[bad[0]]}: the target gave values that are not finite at {layer}")
    return measured


def shaped(given: Mapping[str, Activations], layers: Sequence[str], pictures: int) -> dict[str, Activations]:
    """What a target gave for so many pictures, float32 [n_images, n_units] for each layer.

    Raises:
        BackendError: it is of another shape.
    """
    import numpy as np

    found = {layer: np.asarray(given.get(layer, ()), np.float32) for layer in layers}
    for layer, rows in found.items():
        if rows.ndim != 2 or len(rows) != pictures or not rows.shape[1]:
            raise BackendError(f"the target gave {list(rows.shape)} at {layer}, not [{pictures} pictures, units]")
    return found
