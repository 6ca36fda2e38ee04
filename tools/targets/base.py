"""What every source of models shares: the request, the model bundle, and looking up names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import near_names
from line_neurons.agent.ports import LayerInfo, Target
from line_neurons.agent.text import shell_word

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn


@dataclass(frozen=True)
class ModelRequest:
    """A request for a model: its spec after the prefix, and a user's checkpoint.

    Without ``assets`` no asset packs are searched; with ``download`` a library may download official weights.
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
        weights: identity of the weights: the start of a hash, and their origin.
        prepare: maps an RGB image to a float tensor [3, H, W], of the same size for every image.
        classes: names of the output classes; empty if unknown.
        argument: name of the forward argument that takes the images; the first one if empty.
        spec: opens the same version of the weights again, ``torchvision:resnet50@IMAGENET1K_V1``; for a user's own
            checkpoint, with the same preprocessing. Empty where specs of the source have no versions.
        note: a choice that the user did not make, as a line for the screen; empty if there is none.
        doubts: why labels may be wrong, such as random weights; shown, and recorded with a run.
        own_classes: the user gave ``classes``, which must be as many as the output units.
        own_preprocessing: ``prepare`` is the user's code, which may not stand several threads at once.
        typed: as the user typed it, for messages; empty if that is the name.
        head: path of the layer of the classes; where it is empty, the last layer with a matrix or kernel.
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
    doubts: tuple[str, ...] = ()
    own_classes: bool = False
    own_preprocessing: bool = False
    typed: str = ""
    head: str = ""


def short_hash(text: str) -> str:
    """Hash a description to 8 hex digits, ignoring memory addresses in it."""
    return hashlib.sha256(re.sub(r" at 0x[0-9a-fA-F]+", "", text).encode()).hexdigest()[:8]


def find_layer(layers: Sequence[LayerInfo], path: str, model: str) -> LayerInfo:
    """Find the layer at the dotted ``path``.

    Raises:
        UsageError: ``model`` has no such layer, or its output has no units.
    """
    for layer in layers:
        if layer.path == path:
            return layer
    raise absent_layer(path, (layer.path for layer in layers), model)


def absent_layer(path: str, paths: Iterable[str], model: str) -> UsageError:
    """Return the error for a layer that ``model`` does not have, with similar ``paths``."""
    near = near_names(path, paths)
    return UsageError(
        f"{model} has no layer {path!r:.200} with units{'; ' + near if near else ''}",
        f"`line layers {shell_word(model)}` lists them",
    )


def layer_fingerprint(target: Target, path: str) -> str:
    """Identify a layer's values: the target's fingerprint with the layer's ``reading``."""
    reading = next((layer.reading for layer in target.layers() if layer.path == path), "")
    return target.fingerprint + reading
