"""The region of an image that editors of regions take: what stands out, or what a text names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from line_neurons.agent.errors import UneditableError, UsageError
from line_neurons.agent.near_names import choices
from line_neurons.agent.ports import EditRequest
from line_neurons.tools.editors.regions import MAX_OVERLAP, MAX_SHARE, dilated, moved_elsewhere, opened
from line_neurons.tools.images.reader import read_image
from line_neurons.tools.images.saliency import SaliencyModel

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from line_neurons.tools.editors.regions import Mask

SALIENT = "salient"
"""The region that stands out, in place of a model that takes a text."""

_THERE = 0.5
_SPECK, _MARGIN = 0.006, 0.015
"""Radius of specks that do not count, and margin around the rest, as shares of the side."""
_LEAST, _MOST = 0.01, 0.8
_REST = 0.005
"""Least share of the image that the rest of a thing covers."""


class RegionModel(Protocol):
    """Finds the region of an image that is to be edited."""

    @property
    def fingerprint(self) -> str:
        """Identity of the model."""

    def check(self) -> None:
        """Open the model, or raise why that is impossible."""

    def region(self, image: Image, concept: str) -> NDArray[np.float32]:
        """Compute how much each pixel belongs to the region, float32 [height, width] in [0, 1]."""


def open_region(spec: str, assets: Path, device: str, download: bool) -> RegionModel:
    """Open a model of regions: ``salient``, or ``hf:`` with the folder or hub id of a CLIPSeg.

    Raises:
        UsageError: there is none of this name.
        MissingPartError: a package or weights are missing.
    """
    kind, _, name = spec.partition(":")
    model: RegionModel
    if spec == SALIENT:
        model = SaliencyModel(assets)
    elif kind == "hf" and name:
        from line_neurons.tools.hub import model_folder
        from line_neurons.tools.images.text_regions import TextRegions

        model = TextRegions(model_folder(name, download), device)
    else:
        raise UsageError(f"there is no region {spec!r:.80}", choices(spec, (SALIENT, "hf:CLIPSEG")))
    model.check()
    return model


def edited_region(model: RegionModel, request: EditRequest) -> Mask:
    """Return the region of a request, without specks and with a margin; for a control edit the same elsewhere.

    Raises:
        UneditableError: there is nearly none, it is nearly everything, or there is no room elsewhere.
    """
    mask = salient_region(model, request)
    return elsewhere(mask, request) if request.kind == "elsewhere" else mask


def salient_region(model: RegionModel, request: EditRequest) -> Mask:
    """Return the region of a request's concept, without specks and with a margin.

    Raises:
        UneditableError: there is nearly none, or it is nearly everything.
    """
    mask = _found(model, read_image(request.image), request.concept)
    share = float(mask.mean())
    if not _LEAST <= share <= _MOST:
        raise UneditableError(
            request.concept, f"the region covers {share:.0%} of the image, not {_LEAST:.0%} to {_MOST:.0%}"
        )
    return mask


def rest_region(model: RegionModel, filled: Image, mask: Mask, concept: str) -> Mask:
    """Return what is found in one piece with a region that was filled, the rest of the thing, if any."""
    from scipy.ndimage import binary_propagation

    found = _found(model, filled, concept)
    near = dilated(mask, round(_MARGIN * filled.width))
    rest: Mask = binary_propagation(found & near, mask=found)
    # A filling that stands out is no rest.
    return rest if (rest & ~near).mean() >= _REST else np.zeros_like(mask)


def elsewhere(mask: Mask, request: EditRequest) -> Mask:
    """Return the same shape elsewhere.

    Raises:
        UneditableError: there is no room.
    """
    moved = moved_elsewhere(mask, request.seed)
    if moved is None:
        raise no_room(request.concept, float(mask.mean()))
    return moved[0]


def _found(model: RegionModel, image: Image, concept: str) -> Mask:
    mask = model.region(image, concept) > _THERE
    return dilated(opened(mask, round(_SPECK * image.width)), round(_MARGIN * image.width))


def no_room(concept: str, share: float) -> UneditableError:
    """Return the error for an image without room for the same shape elsewhere."""
    return UneditableError(
        concept,
        f"the image has no room for the same shape elsewhere: it covers {share:.0%} "
        f"(at most {MAX_SHARE:.0%}, overlap {MAX_OVERLAP:.0%})",
    )
