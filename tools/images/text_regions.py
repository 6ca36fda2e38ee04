"""The region of an image that a text names, by CLIPSeg (Lüddecke and Ecker 2022) or a model like it."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from line_neurons.agent.errors import UsageError, reason_of
from line_neurons.tools.assets.manifest import hash_file
from line_neurons.tools.devices import deterministic_arithmetic, find_device
from line_neurons.tools.packages import required_package
from line_neurons.tools.weights_formats import weights_format

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

_FILES = (".bin", ".json", ".safetensors", ".txt")


class TextRegions:
    """A segmentation model of transformers that takes a text; code in its folder is not run.

    Args:
        folder: configuration, weights, tokenizer and preprocessing.
        device: see ``find_device``.
    """

    def __init__(self, folder: Path, device: str = "auto") -> None:
        self._folder = folder
        self._device = device

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, vocabulary and preprocessing."""
        digest = hashlib.sha256()
        for file in sorted(self._folder.iterdir()):
            if file.suffix in _FILES and file.is_file():
                digest.update(f"{file.name} {hash_file(file)}\n".encode())
        return f"clipseg {digest.hexdigest()[:16]}"

    def check(self) -> None:
        """Open the model.

        Raises:
            MissingPartError: transformers is not installed.
            UsageError: the folder holds no such model.
        """
        self._parts  # noqa: B018 - a cached property

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        with required_package("transformers", "targets", needed="regions by a text need"):
            import transformers
        for file in self._folder.glob("*.safetensors"):
            weights_format(file)
        readers: tuple[Any, ...] = (transformers.CLIPSegForImageSegmentation, transformers.CLIPSegProcessor)
        try:
            kind = transformers.AutoConfig.from_pretrained(str(self._folder), local_files_only=True).model_type
            if kind != "clipseg":
                raise UsageError(
                    f"{self._folder} holds a {kind!r} model, which finds no region by a text", "give a CLIPSeg"
                )
            model, processor = (
                reader.from_pretrained(str(self._folder), local_files_only=True) for reader in readers
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise UsageError(
                f"{self._folder} holds no CLIPSeg that transformers can read: {reason_of(error)}",
                "give the folder of one with its tokenizer and preprocessing",
            ) from error
        return model.to(find_device(self._device)).eval(), processor

    def region(self, image: Image, concept: str) -> NDArray[np.float32]:
        """Compute how much each pixel of an RGB image belongs to a concept.

        Returns:
            float32 [height, width], probabilities in [0, 1].

        Raises:
            MissingPartError: transformers is not installed.
            UsageError: the folder holds no such model.
        """
        import torch
        from PIL import Image as Images

        model, processor = self._parts
        given = processor(text=[concept], images=[image], return_tensors="pt", truncation=True, padding=True)
        with torch.inference_mode(), deterministic_arithmetic():
            logits = model(**given.to(model.device)).logits.float()
        found = torch.sigmoid(logits).reshape(logits.shape[-2:]).cpu().numpy()
        resized = Images.fromarray(found.astype(np.float32)).resize(image.size, Images.Resampling.BILINEAR)
        return np.asarray(resized, np.float32)
