"""The region of an image that stands out, as editors of regions take it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from line_neurons.agent.errors import UneditableError
from line_neurons.agent.ports import EditRequest
from line_neurons.tools.editors.regions import MAX_OVERLAP, MAX_SHARE, dilated, moved_elsewhere, opened
from line_neurons.tools.images.reader import read_image
from line_neurons.tools.images.saliency import SaliencyModel

if TYPE_CHECKING:
    from line_neurons.tools.editors.regions import Mask

_SALIENT = 0.5
_SPECK, _MARGIN = 0.006, 0.015
"""Radius of specks that do not count, and margin around the rest, as shares of the side."""
_LEAST, _MOST = 0.01, 0.8


def edited_region(model: SaliencyModel, request: EditRequest) -> Mask:
    """Return what stands out, without specks and with a margin; for a control edit the same shape elsewhere.

    Raises:
        UneditableError: nothing stands out, nearly all does, or there is no room elsewhere.
    """
    image = read_image(request.image)
    mask = model.saliency(image) > _SALIENT
    mask = dilated(opened(mask, round(_SPECK * image.width)), round(_MARGIN * image.width))
    share = float(mask.mean())
    if not _LEAST <= share <= _MOST:
        raise UneditableError(
            request.concept, f"what stands out covers {share:.0%} of the image, not {_LEAST:.0%} to {_MOST:.0%}"
        )
    if request.kind != "elsewhere":
        return mask
    moved = moved_elsewhere(mask, request.seed)
    if moved is None:
        raise no_room(request.concept, share)
    return moved[0]


def no_room(concept: str, share: float) -> UneditableError:
    """Return the error for an image without room for the same shape elsewhere."""
    return UneditableError(
        concept,
        f"the image has no room for the same shape elsewhere: it covers {share:.0%} "
        f"(at most {MAX_SHARE:.0%}, overlap {MAX_OVERLAP:.0%})",
    )
