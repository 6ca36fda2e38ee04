"""From which value of its map on a place counts for a unit: a quantile over places of control images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from line_neurons.agent.ports import ControlSet, Progress, Target
from line_neurons.tools.targets.maps import unit_maps

QUANTILE = 0.99
"""Share of places below the threshold; as in network dissection, MILAN and MAIA."""
_PLACES = 10_000
_FEWEST, _MOST = 32, 256
"""Control images that are measured, however many places each has."""
_BATCH = 16


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of units.

    Args:
        values: by unit; in the scale of its map.
    """

    values: dict[int, float]
    images: int


def map_thresholds(
    target: Target, control: ControlSet, layer: str, units: Sequence[int], progress: Progress | None = None
) -> Thresholds | None:
    """Measure the .99 quantile of units' maps over places of control images that are spread over the set.

    About 10,000 places are measured, all units in the same passes.

    Returns:
        None where the layer has no map: by occlusion it would take 50 passes an image.

    Raises:
        UnmeasurableError: an image cannot be decoded.
        BackendError: the forward pass failed.
    """
    import numpy as np

    probe = spread_images(control, 1)
    if not probe:
        return None
    first = unit_maps(target, probe, layer, units[:1])
    if first.source == "occlusion":
        return None
    wanted = min(_MOST, max(_FEWEST, -(-_PLACES // first.values[0, 0].size)))
    images = spread_images(control, wanted)
    parts = []
    for start in range(0, len(images), _BATCH):
        maps = unit_maps(target, images[start : start + _BATCH], layer, units)
        parts.append(maps.values.transpose(1, 0, 2, 3).reshape(len(units), -1))
        if progress:
            progress(min(start + _BATCH, len(images)), len(images))
    found = np.quantile(np.concatenate(parts, 1), QUANTILE, axis=1)
    return Thresholds(dict(zip(units, found.tolist(), strict=True)), len(images))


def spread_images(control: ControlSet, count: int) -> list[bytes]:
    """Return about ``count`` images from chunks that are evenly spread over a control set.

    Of a set of unknown length, such as a stream, the first ones.
    """
    total = control.total
    if total is None:
        return list(islice((image for chunk in control.chunks() for image in chunk.images), count))
    chunks = min(total, count)
    found: list[bytes] = []
    for place in range(chunks):
        chunk = next(control.chunks(place * total // chunks), None)
        images = chunk.images if chunk else ()
        share = (place + 1) * count // chunks - place * count // chunks
        step = max(1, len(images) // max(1, share))
        found += images[::step][:share]
    return found
