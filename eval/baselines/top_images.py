"""The probe images, and crops of them, with the highest activations of a unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.errors import StoreError
from line_neurons.eval.baselines.task import BaselineTask
from line_neurons.tools.control_sets import control_activations
from line_neurons.tools.control_sets.image_list import ImageList
from line_neurons.tools.images.reader import read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import ImageData

_STARTS = (0.0, 0.25, 0.5)
"""Crops have half the sides of an image and start here: two of them share at most a third of their area."""


@dataclass(frozen=True)
class ProbeImage:
    """A probe image, by its row, or a crop of it."""

    row: int
    image: ImageData


def find_top_images(task: BaselineTask, images: int, crops: int) -> Iterator[tuple[int, list[ProbeImage]]]:
    """Find the images and crops with the highest activations of each unit.

    Of each of the top ``images`` probe images the top ``crops`` crops compete with the images themselves. Units
    that are output classes get whole images only: what they respond to is not in one place.

    Raises:
        UsageError: the probe set has no images.
        LineError: they cannot be read or measured.
    """
    order = np.argsort(-task.activations, axis=0, kind="stable")[:images]
    shown = _images(task, sorted({int(row) for row in order.ravel()}))
    cropped = crops > 0 and task.components.target.unit_names(task.layer) is None
    for unit, rows in zip(task.units, order.T, strict=True):
        own = [ProbeImage(int(row), shown[int(row)]) for row in rows]
        if not cropped:
            yield unit, own
            continue
        parts = [ProbeImage(image.row, part) for image in own for part in _cropped(image.image)]
        strength = _measured(task, unit, parts).reshape(len(own), -1)
        kept = [
            (parts[place * strength.shape[1] + index], float(strength[place, index]))
            for place in range(len(own))
            for index in np.argsort(-strength[place], kind="stable")[:crops]
        ]
        column = task.control.column(unit)
        whole = [(image, float(column[image.row])) for image in own]
        # Sorting is stable: an image comes before a crop with the same activation.
        best = sorted([*whole, *kept], key=lambda pair: -pair[1])
        yield unit, [image for image, _ in best[:images]]


def _images(task: BaselineTask, wanted: Sequence[int]) -> Mapping[int, ImageData]:
    """Return images of the probe set by row."""
    left, found, row = set(wanted), {}, 0
    source = task.images()
    progress = task.progress_for("probe images")
    for number, chunk in enumerate(source.chunks(), 1):
        for image in chunk.images:
            if row in left:
                found[row] = image
                left.discard(row)
            row += 1
        if progress:
            progress(number, source.total or 0)
        if not left:
            break
    if left:
        raise StoreError(
            f"the control set {task.components.settings.control} has fewer images than when it was measured",
            "restore the missing images",
        )
    return found


def _cropped(image: ImageData) -> list[bytes]:
    whole = read_image(image)
    width, height = whole.size
    crops = []
    for top in _STARTS:
        for left in _STARTS:
            box = (left * width, top * height, (left + 0.5) * width, (top + 0.5) * height)
            part = whole.crop(tuple(round(edge) for edge in box)).resize(whole.size)  # type: ignore[arg-type]
            buffer = BytesIO()
            part.save(buffer, "PNG")
            crops.append(buffer.getvalue())
    return crops


def _measured(task: BaselineTask, unit: int, parts: Sequence[ProbeImage]) -> NDArray[np.float32]:
    crops = ImageList(tuple(bytes(image.image) for image in parts), "crops")
    found = control_activations(task.components.cache, task.components.target, [task.layer], crops)
    return found[task.layer].column(unit)
