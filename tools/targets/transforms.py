"""Standard preprocessing: ImageNet's, for models without their own, and CoSy's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
IMAGENET_TRANSFORM = f"resize 256, crop 224, mean {MEAN}, std {STD}"
"""What identifies ``imagenet_transform`` in a fingerprint."""


def cropped(image: Image) -> Tensor:
    """Resize the shorter side to 256, crop 224 x 224; float [3, 224, 224] in 0-1."""
    from torchvision.transforms import InterpolationMode, functional

    tensor: Tensor = functional.to_tensor(
        functional.center_crop(functional.resize(image, 256, InterpolationMode.BILINEAR), 224)
    )
    return tensor


def imagenet_transform(image: Image) -> Tensor:
    """Do the same, and normalise by ImageNet's mean and standard deviation."""
    from torchvision.transforms import functional

    tensor: Tensor = functional.normalize(cropped(image), MEAN, STD)
    return tensor


COSY_TRANSFORM = f"resize 224, crop 224, mean {MEAN}, std {STD}"
"""What identifies ``cosy_transform`` in a fingerprint."""


def cosy_transform(image: Image) -> Tensor:
    """Prepare an image as CoSy's code does: the shorter side is resized to 224."""
    from torchvision.transforms import InterpolationMode, functional

    resized = functional.center_crop(functional.resize(image, 224, InterpolationMode.BILINEAR), 224)
    tensor: Tensor = functional.normalize(functional.to_tensor(resized), MEAN, STD)
    return tensor
