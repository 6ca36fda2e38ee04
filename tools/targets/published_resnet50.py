"""ResNet50s with published checkpoints: Places365's and Salient ImageNet's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.targets.base import ModelBundle, ModelRequest, short_hash
from line_neurons.tools.targets.torchvision_models import on_meta_device
from line_neurons.tools.targets.transforms import IMAGENET_TRANSFORM, MEAN, STD, cropped, imagenet_transform
from line_neurons.tools.targets.weights.checkpoint import load
from line_neurons.tools.targets.weights.files import WeightsFile, read_checkpoint, weights_file
from line_neurons.tools.vocabulary import imagenet_classes

if TYPE_CHECKING:
    from torch import Tensor, nn

_CATEGORIES = "categories_places365.txt"
# The library's models take pixels in 0-1 and normalise them by these.
_NORMALISER = ("new_mean", "new_std")


@dataclass(frozen=True)
class _Published:
    """Where a checkpoint is published: file name, size in words (may be empty) and address."""

    file: str
    size: str
    place: str


_PLACES365 = _Published(
    "resnet50_places365.pth.tar",
    " (about 97 MB)",
    "http://places2.csail.mit.edu/models_places365/resnet50_places365.pth.tar",
)
_ROBUST = _Published(
    "imagenet_l2_3_0.pt, which Salient ImageNet calls robust_resnet50.pth",
    "",
    "the table of ImageNet models (L2, epsilon 3.0) in the README of github.com/MadryLab/robustness",
)


def open_places365(request: ModelRequest) -> ModelBundle:
    """Open ``resnet50``: the ResNet50 of Places365, 365 scenes.

    The names of the scenes are read from categories_places365.txt beside the checkpoint, if it is there.

    Raises:
        UsageError: another model, or the checkpoint is not a file.
        MissingPartError: no checkpoint is given; says which to get.
    """
    file = _checkpoint("places365", request, _PLACES365)
    return ModelBundle(
        name="places365:resnet50",
        weights=file.identity,
        preprocessing=short_hash(IMAGENET_TRANSFORM),
        prepare=imagenet_transform,
        build=partial(_build, "places365:resnet50", file, 365, normalise=False),
        classes=_scenes(file.path.parent / _CATEGORIES),
    )


def open_robust(request: ModelRequest) -> ModelBundle:
    """Open ``resnet50``, adversarially trained on ImageNet (L2, epsilon 3).

    Raises:
        UsageError: another model, or the checkpoint is not a file.
        MissingPartError: no checkpoint is given; says which to get.
    """
    file = _checkpoint("robust", request, _ROBUST)
    return ModelBundle(
        name="robust:resnet50",
        weights=file.identity,
        preprocessing=short_hash("resize 256, crop 224, normalised in the model"),
        prepare=cropped,
        build=partial(_build, "robust:resnet50", file, 1000, normalise=True),
        classes=tuple(imagenet_classes()),
    )


def _checkpoint(prefix: str, request: ModelRequest, published: _Published) -> WeightsFile:
    if request.model != "resnet50":
        raise UsageError(f"{prefix}: has no model {request.model!r}", f"there is {prefix}:resnet50")
    if request.weights is None:
        raise MissingPartError(
            f"{prefix}:resnet50 needs the file {published.file}{published.size}",
            f"get it from {published.place} and give it with --weights FILE",
        )
    return weights_file(request.weights)


def _scenes(file: Path) -> tuple[str, ...]:
    # Lines such as "/a/apartment_building/outdoor 8".
    if not file.is_file():
        return ()
    try:
        lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        names = {int(number): path[3:].replace("_", " ").replace("/", " ") for path, number in lines}
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{file} is not the list of Places365's scenes: {error}", "get it again or remove it"
        ) from error
    if sorted(names) != list(range(365)):
        raise UsageError(f"{file} names {len(names)} scenes, not 365", "get it again or remove it")
    return tuple(names[number] for number in range(365))


def _build(name: str, file: WeightsFile, classes: int, *, normalise: bool) -> nn.Module:
    import torch

    checkpoint = read_checkpoint(file)
    module, found = on_meta_device("resnet50", checkpoint, name, beside=_NORMALISER)
    has = 0 if found.left_out else len(found.state["fc.bias"])
    if has != classes:
        raise UsageError(f"{file.path} has {has} classes, {name} has {classes}", "use torchvision:resnet50 for it")
    load(module, found, name=name)
    if normalise:
        for kind, usual in zip(_NORMALISER, (MEAN, STD), strict=True):
            values = [one for key, one in checkpoint.tensors.items() if key[-1].endswith(f".{kind}")]
            if any(not torch.equal(value, values[0]) for value in values):
                raise UsageError(
                    f"{file.path} holds several {kind} of different values",
                    "save the model that you mean into a file of its own",
                )
            value = values[0].float() if values else torch.tensor(usual)
            module.register_buffer(f"input_{kind.removeprefix('new_')}", value.view(3, 1, 1), persistent=False)
        module.register_forward_pre_hook(_normalise)
    return module


def _normalise(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor]:
    return ((given[0] - module.input_mean) / module.input_std,)  # type: ignore[operator]
