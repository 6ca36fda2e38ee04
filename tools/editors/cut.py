"""Edits of photographs on a CPU: a region is cut out, and MI-GAN fills the hole."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.ports import DrawnImage, EditKind, EditRequest
from line_neurons.tools.assets.manifest import hash_file
from line_neurons.tools.editors.canvas import pixels_of
from line_neurons.tools.editors.regions import has_room
from line_neurons.tools.editors.salient import RegionModel, elsewhere, rest_region, salient_region
from line_neurons.tools.images.onnx_models import open_onnx
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.images.reader import read_image

if TYPE_CHECKING:
    from line_neurons.tools.editors.canvas import Pixels
    from line_neurons.tools.editors.regions import Mask

INSTALL = "line assets install edits"

_VERSION = 2
_UNCHANGED = 448


class CutEditor:
    """Cuts out a region and fills the hole by MI-GAN; implements the port ``Editor``.

    By U2Netp the region is what stands out, whatever the words: whether that is the label's thing is for the
    verifier to see.

    Raises:
        MissingPartError: a pack or onnxruntime is not installed.
    """

    exact = False
    side = 512
    kinds: frozenset[EditKind] = frozenset({"remove", "unchanged", "elsewhere"})

    def __init__(self, assets: Path, region: RegionModel) -> None:
        self._regions = region
        self._path = assets / "migan" / "migan_pipeline_v2.onnx"
        self._filler = open_onnx(self._path, INSTALL)
        self._last: tuple[tuple[bytes, str, int], Mask] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Hashes of both networks, and the version of this editor."""
        return f"cut:{_VERSION} {self._regions.fingerprint} migan {hash_file(self._path)[:16]}"

    def offers(self, concept: str) -> bool:
        """It puts nothing into an image."""
        return False

    def edit(self, request: EditRequest) -> DrawnImage:
        """See ``Editor.edit``."""
        if request.kind == "unchanged":
            return _resampled(request)
        pixels = pixels_of(request.image)
        mask = self._region(pixels, request)
        if request.kind == "elsewhere":
            mask = elsewhere(mask, request)
        return DrawnImage(encode_png(self._filled(pixels, mask)), {"share": float(mask.mean())})

    def _region(self, pixels: Pixels, request: EditRequest) -> Mask:
        """Return the region of the concept, and what is left of it where that is filled.

        That of the last image is kept for its control edit.
        """
        from PIL import Image

        key = (request.image, request.concept, request.seed)
        if self._last and self._last[0] == key:
            return self._last[1]
        mask = salient_region(self._regions, request)
        rest = rest_region(self._regions, Image.fromarray(self._filled(pixels, mask)), mask, request.concept)
        # An edit without a control edit says less than one that leaves a rest.
        self._last = key, mask | rest if has_room(mask | rest, request.seed) else mask
        return self._last[1]

    def _filled(self, pixels: Pixels, mask: Mask) -> Pixels:
        known = np.where(mask, 0, 255).astype(np.uint8)[None, None]
        (filled,) = self._filler.run(None, {"image": pixels.transpose(2, 0, 1)[None], "mask": known})
        made: Pixels = np.ascontiguousarray(filled[0].transpose(1, 2, 0)).astype(np.uint8)
        return made


def _resampled(request: EditRequest) -> DrawnImage:
    """Return the image after two resamplings: what this costs, although nothing changes."""
    from PIL import Image

    image = read_image(request.image)
    smaller = image.resize((_UNCHANGED, _UNCHANGED), Image.Resampling.BICUBIC)
    return DrawnImage(encode_png(np.asarray(smaller.resize(image.size, Image.Resampling.BICUBIC))))
