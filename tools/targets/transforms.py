"""The usual preprocessing of ImageNet models, for those that bring none of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
USUAL = f"resize 256, crop 224, mean {MEAN}, std {STD}"
"""What identifies ``usual`` in a fingerprint."""


def cropped(image: Image) -> Tensor:
    """The middle 224 x 224 pixels after the shorter side is resized to 256; float [3, 224, 224] in 0-1."""
    from torchvision.transforms import InterpolationMode, functional

    tensor: Tensor = functional.to_tensor(
        functional.center_crop(functional.resize(image, 256, InterpolationMode.BILINEAR), 224)
    )
    return tensor


def usual(image: Image) -> Tensor:
    """The same, normalised by ImageNet's mean and standard deviation."""
    from torchvision.transforms import functional

    tensor: Tensor = functional.normalize(cropped(image), MEAN, STD)
    return tensor


COSY = f"resize 224, crop 224, mean {MEAN}, std {STD}"
"""What identifies ``cosy`` in a fingerprint."""


def cosy(image: Image) -> Tensor:
    """What CoSy's code does with every image: unlike ``usual`` the shorter side is resized to 224."""
    from torchvision.transforms import InterpolationMode, functional

    resized = functional.center_crop(functional.resize(image, 224, InterpolationMode.BILINEAR), 224)
    tensor: Tensor = functional.normalize(functional.to_tensor(resized), MEAN, STD)
    return tensor
