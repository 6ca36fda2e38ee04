"""Where a feature looks: the share of its map inside the class's region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from line_neurons.agent.errors import NotDrawableError
from line_neurons.agent.ports import EditRequest
from line_neurons.tools.editors.canvas import to_canvas
from line_neurons.tools.editors.composed import where_thing_is
from line_neurons.tools.editors.salient import edited_region
from line_neurons.tools.targets.maps import Box, box_in_pixels, unit_maps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.agent.ports import Target
    from line_neurons.eval.edits.subjects import Subject
    from line_neurons.tools.image_bank.generator import ImageBankGenerator
    from line_neurons.tools.images.saliency import SaliencyModel

    Mask = NDArray[np.bool_]

_SIDE = 512
"""Images are brought to this side before what stands out in them is looked for."""


def inside_share(values: NDArray[np.float32], box: Box, region: Mask) -> float:
    """Return the share of a map's positive values that lies in a region; nan if none is positive.

    Args:
        values: the map, float32 [h, w].
        box: the part of the image that it covers.
        region: bool [H, W], of the image.
    """
    height, width = region.shape
    left, top, right, bottom = box_in_pixels(box, width, height)
    seen = region[top:bottom, left:right]
    spread = np.asarray(
        Image.fromarray(np.clip(values, 0, None).astype(np.float32)).resize(
            seen.shape[::-1], Image.Resampling.BILINEAR
        ),
        np.float64,
    )
    total = spread.sum()
    return float(spread[seen].sum() / total) if total > 0 else float("nan")


def composed_regions(generator: ImageBankGenerator, subjects: Sequence[Subject]) -> list[tuple[bytes, Mask]]:
    """Return images that the bank composed with where their first subject is, and its shadow."""
    found = []
    for subject in subjects:
        try:
            if subject.request is not None:
                found.append(where_thing_is(generator, subject.request))
        except NotDrawableError:
            continue
    return found


def salient_regions(model: SaliencyModel, concept: str, subjects: Sequence[Subject]) -> list[tuple[bytes, Mask]]:
    """Return photographs, as squares, with what stands out in them; those in which nothing does are left out."""
    found = []
    for subject in subjects:
        square = to_canvas(subject.image, _SIDE)
        try:
            found.append((square, edited_region(model, EditRequest(square, "remove", concept))))
        except NotDrawableError:
            continue
    return found


def inside(target: Target, layer: str, unit: int, found: Sequence[tuple[bytes, Mask]]) -> float:
    """Return the mean share of a unit's maps that lies in the regions of images; nan without images."""
    if not found:
        return float("nan")
    maps = unit_maps(target, [image for image, _ in found], layer, [unit])
    shares = [
        inside_share(values[0], box, region)
        for values, box, (_, region) in zip(maps.values, maps.boxes, found, strict=True)
    ]
    known = [share for share in shares if np.isfinite(share)]
    return float(np.mean(known)) if known else float("nan")
