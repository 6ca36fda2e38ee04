"""What a source of models hands over: a module with what belongs to it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn


@dataclass(frozen=True)
class Wanted:
    """What the user asked for.

    Args:
        model: the spec after its prefix.
        weights: a checkpoint of the user's own, or None.
        assets: folder of the asset packs, or None.
        download: a library may fetch official weights that are not here.
    """

    model: str
    weights: Path | None = None
    assets: Path | None = None
    download: bool = False


@dataclass(frozen=True)
class ModelBundle:
    """A vision model with its preprocessing and class names.

    Args:
        name: as the user names it, without the version of the weights: ``torchvision:resnet50``.
        weights: identity of the weights: the start of a hash, and whose they are.
        preprocessing: identity of the preprocessing.
        prepare: an image (RGB) to a float tensor [3, H, W], of the same size for every image.
        build: makes the module, with its weights.
        classes: names of the output classes; empty if they are not known.
        argument: name of the forward argument that takes the images; the first one if empty.
        spec: opens the same version of the weights again, ``torchvision:resnet50@IMAGENET1K_V1``; of a checkpoint
            of the user's own, with the same preprocessing. Empty where specs of the source have no versions.
        note: what was chosen that the user did not say, as a line for the screen; empty if nothing was.
    """

    name: str
    weights: str
    preprocessing: str
    prepare: Callable[[Image], Tensor]
    build: Callable[[], nn.Module]
    classes: tuple[str, ...] = ()
    argument: str = ""
    spec: str = ""
    note: str = ""


def brief(text: str) -> str:
    """The start of the SHA-256 of a description, as hex; addresses in memory are left out of it."""
    return hashlib.sha256(re.sub(r" at 0x[0-9a-fA-F]+", "", text).encode()).hexdigest()[:8]
