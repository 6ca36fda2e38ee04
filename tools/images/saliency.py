"""What stands out in a photograph, by U2Netp (Qin et al. 2020)."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from line_neurons.tools.assets.manifest import hash_file
from line_neurons.tools.images.onnx_models import open_onnx

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

INSTALL = "line assets install u2netp"

_SIDE = 320
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


class SaliencyModel:
    """U2Netp of the asset pack ``u2netp``; opened when it is first used."""

    def __init__(self, assets: Path) -> None:
        self.path = assets / "u2netp" / "u2netp.onnx"

    @cached_property
    def fingerprint(self) -> str:
        """Name and hash of the weights."""
        return f"u2netp {hash_file(self.path)[:16]}"

    def check(self) -> None:
        """Open the network.

        Raises:
            MissingPartError: the pack or onnxruntime is not installed.
        """
        self._session  # noqa: B018 - a cached property

    @cached_property
    def _session(self) -> Any:
        return open_onnx(self.path, INSTALL)

    def region(self, image: Image, concept: str) -> NDArray[np.float32]:
        """Return what stands out, whatever the concept; see ``saliency``."""
        return self.saliency(image)

    def saliency(self, image: Image) -> NDArray[np.float32]:
        """Compute how much each pixel of an RGB image belongs to what stands out.

        Returns:
            float32 [height, width] in [0, 1]; the least and the most salient pixel have 0 and 1, whatever the
            image shows.

        Raises:
            MissingPartError: the pack or onnxruntime is not installed.
        """
        from PIL import Image as Images

        small = np.asarray(image.resize((_SIDE, _SIDE), Images.Resampling.BILINEAR), np.float32)
        small = (small / max(float(small.max()), 1e-6) - _MEAN) / _DEVIATION
        name = self._session.get_inputs()[0].name
        found = self._session.run(None, {name: small.transpose(2, 0, 1)[None]})[0][0, 0]
        found = (found - found.min()) / max(float(found.max() - found.min()), 1e-8)
        resized = Images.fromarray(found.astype(np.float32)).resize(image.size, Images.Resampling.BILINEAR)
        return np.asarray(resized, np.float32)
