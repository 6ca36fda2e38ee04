"""The ResNet50 of Keras, from TensorFlow.js files, as torchvision's module."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.tools.targets.base import ModelBundle, ModelRequest, short_hash
from line_neurons.tools.vocabulary import imagenet_classes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor, nn

# Of model.json and the shards, in the order in which model.json names them.
_SHA256 = "618cc24c40311bb06e6767b4358f7eb2d16c209757cb72574b0d954c5735b315"
_SIZE = 224
_EPSILON = 1e-3
# Blue, green, red, of pixels in 0-255: the mean of ImageNet that the weights were trained with.
_MEAN = (103.939, 116.779, 123.68)
_BLOCKS = (3, 4, 6, 3)


def open_keras(request: ModelRequest) -> ModelBundle:
    """Open ``resnet50``, the only model of this source.

    Raises:
        UsageError: another model, or weights of another model.
        MissingPartError: the asset pack is not installed, or is damaged.
    """
    if request.model not in {"resnet50", "resnet50@imagenet"}:
        raise UsageError(f"there is no Keras model {request.model!r}", "there is keras:resnet50@imagenet")
    path = request.weights or (request.assets or Path()) / "resnet50" / "model.json"
    if not path.is_file():
        if request.weights:
            raise UsageError(f"there is no weights file {path}", "give the path of a model.json, without #")
        raise MissingPartError("the asset pack 'resnet50' is not installed", "line assets install resnet50")
    files = _files(path)
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    official = digest.hexdigest() == _SHA256
    if not official and not request.weights:
        raise MissingPartError(f"the files in {path.parent} are damaged", "line assets install resnet50 --force")
    return ModelBundle(
        name="keras:resnet50",
        weights=f"{digest.hexdigest()[:16]} ({'ImageNet' if official else 'own'})",
        preprocessing=short_hash(f"resized to {_SIZE} x {_SIZE}, BGR minus {_MEAN}"),
        prepare=_prepare,
        build=partial(_build, files),
        classes=tuple(imagenet_classes()) if official else (),
        spec="keras:resnet50@imagenet" if official else "",
    )


def _files(path: Path) -> list[Path]:
    try:
        (group,) = json.loads(path.read_bytes())["weightsManifest"]
        files = [path, *(path.parent / Path(name).name for name in group["paths"])]
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is not the model.json of a TensorFlow.js model") from error
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise MissingPartError(
            f"{len(missing)} of the files that {path} names are missing ({missing[0]})",
            "line assets install resnet50 --force",
        )
    return files


def _prepare(image: Image) -> Tensor:
    import torch
    from PIL.Image import Resampling
    from torchvision.transforms import functional

    square = image.resize((_SIZE, _SIZE), Resampling.BILINEAR)
    blue_first = functional.pil_to_tensor(square).flip(0).float()
    prepared: Tensor = blue_first - torch.tensor(_MEAN).view(3, 1, 1)
    return prepared


def _build(files: list[Path]) -> nn.Module:
    import torch
    from torchvision import models

    arrays = _arrays(files)
    with torch.device("meta"):
        model: nn.Module = models.resnet50(weights=None)
    state: dict[str, Tensor] = {}

    def convolution(ours: str, our_norm: str, theirs: str, their_norm: str) -> None:
        kernel, bias = arrays[f"{theirs}/kernel"], arrays[f"{theirs}/bias"]
        gamma, beta, mean, variance = (
            torch.from_numpy(arrays[f"{their_norm}/{part}"])
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        state[f"{ours}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        # The convolution has no bias here: added before the mean is taken off, it is the same as a smaller mean.
        state[f"{our_norm}.running_mean"] = mean - torch.from_numpy(bias)
        state[f"{our_norm}.running_var"] = variance
        state[f"{our_norm}.weight"], state[f"{our_norm}.bias"] = gamma, beta

    try:
        convolution("conv1", "bn1", "conv1", "bn_conv1")
        for stage, blocks in enumerate(_BLOCKS, start=1):
            for number in range(blocks):
                ours, theirs = f"layer{stage}.{number}", f"{stage + 1}{'abcdef'[number]}_branch"
                for part in (1, 2, 3):
                    their = f"{theirs}2{'abc'[part - 1]}"
                    convolution(f"{ours}.conv{part}", f"{ours}.bn{part}", f"res{their}", f"bn{their}")
                if number == 0:
                    convolution(f"{ours}.downsample.0", f"{ours}.downsample.1", f"res{theirs}1", f"bn{theirs}1")
        state["fc.weight"] = torch.from_numpy(arrays["fc1000/kernel"].T.copy())
        state["fc.bias"] = torch.from_numpy(arrays["fc1000/bias"])
        model.load_state_dict(state, assign=True)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"{files[0]} does not fit keras:resnet50: {str(error).splitlines()[0]}", "give a ResNet50's model.json"
        ) from error
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = _EPSILON
        elif isinstance(module, models.resnet.Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    return model


def _arrays(files: list[Path]) -> dict[str, NDArray[np.float32]]:
    import numpy as np

    (group,) = json.loads(files[0].read_bytes())["weightsManifest"]
    contents = b"".join(file.read_bytes() for file in files[1:])
    arrays: dict[str, NDArray[np.float32]] = {}
    start = 0
    try:
        for entry in group["weights"]:
            shape: Any = entry["shape"]
            if entry["dtype"] != "float32" or "quantization" in entry:
                raise ValueError("only float32 weights are understood")
            count = int(np.prod(shape))
            arrays[entry["name"]] = np.frombuffer(contents, "<f4", count, start).reshape(shape).copy()
            start += 4 * count
        if start != len(contents):
            raise ValueError(f"its shards hold {len(contents)} bytes, its list of weights {start}")
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"the weights of {files[0]} cannot be read: {error}") from error
    return arrays
