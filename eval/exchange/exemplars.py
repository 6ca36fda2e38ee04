"""Exemplars as MILAN and MAIA keep them: each unit's strongest control images, with masks of where it responds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError
from line_neurons.tools.control_sets import PrecomputedControl
from line_neurons.tools.images.reader import read_image
from line_neurons.tools.maps.thresholds import map_thresholds
from line_neurons.tools.targets.maps import box_in_pixels, unit_maps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from line_neurons.agent.ports import ControlSet
    from line_neurons.graphs.runs.components import Components

MARK = "exemplars.md"
"""File that tells the folder from others."""
COUNT, SIDE = 15, 224
"""Images of each unit, and their side in pixels, as in MAIA."""
_HALF = 0.5


def write_exemplars(components: Components, layer: str, units: Sequence[int], folder: Path, name: str) -> int:
    """Write ``NAME/imagenet/LAYER`` with activations, thresholds, images and masks; return the number of images.

    Rows are units from 0; those of units that are not asked for are 0. A mask has the places above the unit's .99
    quantile over control images; above half of the map's maximum where the layer has no map.

    Raises:
        UsageError: there is no control set with images.
        BackendError: the target failed.
    """
    import numpy as np

    source = components.control_set
    control = components.control(layer)
    if source is None or control is None or isinstance(source, PrecomputedControl):
        raise UsageError(
            "exemplars are images of the control set, and the run has none with images",
            "start a run with --control FOLDER, or bank",
        )
    place = folder / name / "imagenet" / layer
    place.mkdir(parents=True)
    (folder / MARK).write_text(
        f"Exemplars of {components.shown_model} {layer}, as MILAN and MAIA keep them.\n"
        f"Units {', '.join(map(str, units))}.\n"
    )
    thresholds = map_thresholds(components.target, source, layer, units)
    limits = thresholds.values if thresholds else {}
    strongest = {unit: np.argsort(-control.column(unit), kind="stable")[:COUNT].tolist() for unit in units}
    activations = np.zeros((control.units, COUNT), np.float32)
    shape = (control.units, COUNT)
    # Sparse files: rows of other units take no disk.
    images = np.lib.format.open_memmap(place / "images.npy", "w+", np.uint8, (*shape, 3, SIDE, SIDE))
    masks = np.lib.format.open_memmap(place / "masks.npy", "w+", np.uint8, (*shape, 1, SIDE, SIDE))
    for row, content in _read(source, {row for rows in strongest.values() for row in rows}):
        own = [unit for unit, rows in strongest.items() if row in rows]
        maps = unit_maps(components.target, [content], layer, own)
        pixels = np.asarray(read_image(content).resize((SIDE, SIDE)))
        for at, unit in enumerate(own):
            to = strongest[unit].index(row)
            activations[unit, to] = control.column(unit)[row]
            images[unit, to] = pixels.transpose(2, 0, 1)
            values = maps.values[0, at]
            limit = limits.get(unit, _HALF * float(values.max()))
            masks[unit, to, 0] = _mask(values, box_in_pixels(maps.boxes[0], SIDE, SIDE), limit)
    images.flush()
    masks.flush()
    np.savetxt(place / "activations.csv", activations, delimiter=",", fmt="%.8g")
    every = np.array([limits.get(unit, 0.0) for unit in range(control.units)])
    np.savetxt(place / "thresholds.csv", every, delimiter=",", fmt="%.8g")
    return sum(map(len, strongest.values()))


def _read(source: ControlSet, rows: set[int]) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    at = 0
    for chunk in source.chunks():
        found += [(row, image) for row, image in enumerate(chunk.images, at) if row in rows]
        at += len(chunk.images)
        if len(found) == len(rows):
            break
    return found


def _mask(values: NDArray[np.float32], box: tuple[int, int, int, int], limit: float) -> NDArray[np.uint8]:
    """Return 1 where a map that covers a box of the image is above a limit, uint8 [SIDE, SIDE]."""
    import numpy as np
    from PIL import Image

    left, top, right, bottom = box
    seen = Image.fromarray(values.astype(np.float32)).resize(
        (right - left, bottom - top), Image.Resampling.BILINEAR
    )
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top:bottom, left:right] = (np.asarray(seen) > limit) & (np.asarray(seen) > 0)
    return mask
