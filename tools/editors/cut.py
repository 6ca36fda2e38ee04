"""Edits of photographs on a CPU: what stands out is cut out, and MI-GAN fills the hole."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.ports import DrawnImage, EditKind, EditRequest
from line_neurons.tools.assets.manifest import hash_file
from line_neurons.tools.editors.canvas import pixels_of
from line_neurons.tools.editors.salient import edited_region
from line_neurons.tools.images.onnx_models import open_onnx
from line_neurons.tools.images.png import encode_png
from line_neurons.tools.images.reader import read_image
from line_neurons.tools.images.saliency import SaliencyModel

if TYPE_CHECKING:
    from line_neurons.tools.editors.canvas import Pixels
    from line_neurons.tools.editors.regions import Mask

INSTALL = "line assets install edits"

_VERSION = 1
_UNCHANGED = 448


class CutEditor:
    """Cuts out what stands out, by U2Netp, and fills the hole by MI-GAN; implements the port ``Editor``.

    It takes no words: whether the label's thing is what stood out is for the verifier to see.

    Args:
        assets: folder of asset packs.

    Raises:
        MissingPartError: a pack or onnxruntime is not installed.
    """

    exact = False
    side = 512
    kinds: frozenset[EditKind] = frozenset({"remove", "unchanged", "elsewhere"})

    def __init__(self, assets: Path) -> None:
        self._saliency = SaliencyModel(assets)
        self._path = assets / "migan" / "migan_pipeline_v2.onnx"
        self._filler = open_onnx(self._path, INSTALL)
        self._saliency.check()

    @cached_property
    def fingerprint(self) -> str:
        """Hashes of both networks, and the version of this editor."""
        return f"cut:{_VERSION} {self._saliency.fingerprint} migan {hash_file(self._path)[:16]}"

    def offers(self, concept: str) -> bool:
        """It puts nothing into an image."""
        return False

    def edit(self, request: EditRequest) -> DrawnImage:
        """See ``Editor.edit``."""
        if request.kind == "unchanged":
            return _resampled(request)
        return self._filled(pixels_of(request.image), edited_region(self._saliency, request))

    def _filled(self, pixels: Pixels, mask: Mask) -> DrawnImage:
        known = np.where(mask, 0, 255).astype(np.uint8)[None, None]
        (filled,) = self._filler.run(None, {"image": pixels.transpose(2, 0, 1)[None], "mask": known})
        made = np.ascontiguousarray(filled[0].transpose(1, 2, 0)).astype(np.uint8)
        return DrawnImage(encode_png(made), {"share": float(mask.mean())})


def _resampled(request: EditRequest) -> DrawnImage:
    """Return the image after two resamplings: what this costs, although nothing changes."""
    from PIL import Image

    image = read_image(request.image)
    smaller = image.resize((_UNCHANGED, _UNCHANGED), Image.Resampling.BICUBIC)
    return DrawnImage(encode_png(np.asarray(smaller.resize(image.size, Image.Resampling.BICUBIC))))
