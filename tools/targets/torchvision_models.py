"""Any torchvision classifier, or backbone of a detector, with official weights or a user's own checkpoint."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.near_names import near_names
from line_neurons.tools.assets.location import assets_root
from line_neurons.tools.assets.manifest import hash_file
from line_neurons.tools.targets.base import ModelBundle, ModelRequest, short_hash
from line_neurons.tools.targets.weights.checkpoint import MatchedNetwork, find_network, head_of, load
from line_neurons.tools.targets.weights.files import WeightsFile, read_checkpoint, weights_file

if TYPE_CHECKING:
    from torch import nn

    from line_neurons.tools.targets.weights.files import Checkpoint

# Of every torchvision classifier, unless it is built with others.
_CLASSES = 1000
REFERENCE = "IMAGENET1K_V1"
"""The weights that a model without a version stands for: CoSy's, and those of most published explanations.

torchvision's own ``DEFAULT`` is a later entry for many models, and moves with its releases.
"""

BACKBONE = ".backbone"
"""What follows the name of a detection or segmentation model, whose backbone alone is opened."""

_WITHOUT_EPSILON = {
    "fasterrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn",
}
"""Models of which torchvision sets the epsilon of the batch normalisation to 0 for the weights COCO_V1."""

# In the asset packs.
_PACKED = {"mobilenet_v2": REFERENCE}


def open_torchvision(request: ModelRequest) -> ModelBundle:
    """Open ``mobilenet_v2``, or ``resnet50@IMAGENET1K_V1`` for certain weights.

    Raises:
        UsageError: no such model, official weights or own checkpoint.
        MissingPartError: the weights are missing or damaged.
    """
    model, _, entry = request.model.partition("@")
    weights = _find_weights(model, find_recipe(model, entry), request)
    recipe = weights.recipe
    name = f"torchvision:{model}"
    preset = transforms_of(model, recipe)
    said = recipe.name if weights.official else f"own, transforms of {recipe.name}"
    return ModelBundle(
        name=name,
        weights=f"{weights.file.identity} ({said})",
        preprocessing=short_hash(repr(preset)),
        prepare=preset,
        build=partial(_build, name, model, weights),
        classes=tuple(recipe.meta.get("categories", ())) if weights.official and not backbone_of(model) else (),
        spec=f"{name}@{recipe.name}",
        note="" if entry == recipe.name else _note(name, weights, given=request.weights is not None),
    )


def pinned(model: str) -> str:
    """Add the default weights to a model that names none; other models stay as they are."""
    known = "@" not in model and model in known_models()
    return f"{model}@{find_recipe(model, '').name}" if known else model


def _note(name: str, weights: _Weights, *, given: bool) -> str:
    recipe = weights.recipe
    entries: Any = type(recipe)
    if given and weights.official:
        return f"the file of {name} is the official release {recipe.name}"
    if len(entries) == 1:
        return ""
    what = "a checkpoint of your own is used with the preprocessing of" if given else "stands for"
    default = entries.DEFAULT
    other = f"; torchvision's own default is @{default.name}" if default is not recipe else ""
    return f"{name}: {what} {name}@{recipe.name}{other}; name another with @"


def meta_module(model: str, **options: Any) -> nn.Module:
    """Build a torchvision model on the meta device, or else on the CPU."""
    import torch
    from torchvision import models

    module: nn.Module
    if whole := backbone_of(model):
        with torch.device("meta"):
            detector: Any = models.get_model(whole, weights=None, weights_backbone=None, **options)
        module = detector.backbone
        return module
    if model in {"googlenet", "inception_v3"}:
        options = {"init_weights": False, **options}
    try:
        with torch.device("meta"):
            module = models.get_model(model, weights=None, **options)
    except NotImplementedError:
        # RegNets compute their widths with tensors.
        module = models.get_model(model, weights=None, **options)
    return module


def on_meta_device(
    model: str, checkpoint: Checkpoint, name: str, beside: Collection[str] = (), **options: Any
) -> tuple[nn.Module, MatchedNetwork]:
    """Build a torchvision model on the meta device, with its network of ``checkpoint``.

    The model has as many classes as the network; tensors that are loaded become its weights. ``name`` and
    ``beside`` are those of ``find_network``, ``options`` those of the model's builder.
    """
    module = meta_module(model, **options)
    head = None if backbone_of(model) else head_of(module, _CLASSES)
    found = find_network(checkpoint, module.state_dict(), name=name, head=head, beside=beside)
    if found.classes:
        module = meta_module(model, num_classes=found.classes, **options)
    return module, found


@dataclass(frozen=True)
class _Weights:
    """Weights on disk.

    Args:
        recipe: the torchvision weights entry whose transforms apply.
        official: the content is the one that ``recipe`` names; its class names apply too.
    """

    file: WeightsFile
    recipe: Any
    official: bool


def _build(name: str, model: str, weights: _Weights) -> nn.Module:
    options = build_options(model, weights.recipe)
    module, found = on_meta_device(model, read_checkpoint(weights.file), name, **options)
    load(module, found, name=name)
    if weights.official and weights.recipe.name == "COCO_V1" and backbone_of(model) in _WITHOUT_EPSILON:
        for part in module.modules():
            if hasattr(part, "running_var"):
                setattr(part, "eps", 0.0)  # noqa: B010
    return module


def known_models() -> list[str]:
    """List torchvision's classifiers, and the backbones of its detection and segmentation models."""
    from torchvision import models

    spatial = (models.detection, models.segmentation)
    backbones = [f"{name}{BACKBONE}" for part in spatial for name in models.list_models(module=part)]
    return [*models.list_models(module=models), *backbones]


def backbone_of(model: str) -> str:
    """Return the model of which a name means the backbone; empty for a whole model."""
    return model.removesuffix(BACKBONE) if model.endswith(BACKBONE) else ""


def transforms_of(model: str, recipe: Any) -> Any:
    """Return the preprocessing of official weights.

    That of a backbone is what its whole model does to a square image, in its own size: detectors resize and
    normalise in their forward pass, and the transforms of segmentation models keep the proportions.
    """
    from torchvision import models
    from torchvision.transforms._presets import ImageClassification

    whole = backbone_of(model)
    if not whole:
        return recipe.transforms()
    if whole in models.list_models(module=models.segmentation):
        preset = recipe.transforms()
        side, mean, std = preset.resize_size[0], preset.mean, preset.std
    else:
        import torch

        with torch.device("meta"):
            inner: Any = models.get_model(whole, weights=None, weights_backbone=None).transform
        side = inner.fixed_size[0] if inner.fixed_size else inner.min_size[-1]
        mean, std = inner.image_mean, inner.image_std
    return ImageClassification(crop_size=side, resize_size=side, mean=tuple(mean), std=tuple(std))


def build_options(model: str, recipe: Any) -> dict[str, Any]:
    """Return what builders set when they are given official weights, and the weights alone do not tell."""
    if model in {"googlenet", "inception_v3"}:
        return {"transform_input": True}
    return {"image_size": recipe.meta["min_size"][0]} if model.startswith("vit_") else {}


def find_recipe(model: str, name: str) -> Any:
    """Return the entry of a model's official weights; the default one if ``name`` is empty.

    Raises:
        UsageError: there is no such model, or it has no such weights.
    """
    from torchvision import models

    known = known_models()
    if f"{model}{BACKBONE}" in known:
        raise UsageError(
            f"torchvision:{model} puts out boxes or masks of any number, so its output has no units",
            f"name its backbone: torchvision:{model}{BACKBONE}",
        )
    if model not in known:
        near = near_names(model, known)
        raise UsageError(
            f"torchvision has no classification model {model!r}{'; ' + near if near else ''}",
            "name one as in torchvision:mobilenet_v2",
        )
    entries = models.get_model_weights(backbone_of(model) or model)
    names = [entry.name for entry in entries]
    # Some have no weights of that name; then the first that torchvision lists.
    chosen = name or (REFERENCE if REFERENCE in names else names[0])
    if chosen not in names:
        raise UsageError(
            f"{model} has no weights {chosen!r}",
            f"there are {', '.join(names)}; a checkpoint of your own is given with --weights",
        )
    return entries[chosen]


def _find_weights(model: str, recipe: Any, request: ModelRequest) -> _Weights:
    import torch

    if request.weights is not None:
        file = weights_file(request.weights)
        for entry in type(recipe):
            if file.sha256.startswith(_name_and_hash(entry)[1]):
                return _Weights(file, entry, official=True)
        return _Weights(file, recipe, official=False)

    name, prefix = _name_and_hash(recipe)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    places = [request.assets / model / name] if request.assets else []
    path = next((place for place in [*places, cached] if place.is_file()), None)
    if path is None:
        _require_download(model, recipe, cached, allowed=request.download)
        path = cached
    file = WeightsFile(path)
    if not file.sha256.startswith(prefix):
        raise MissingPartError(
            f"the weights file {path} is damaged: its SHA-256 starts with {file.sha256[:8]}, not {prefix}",
            f"delete it, then: {_remedy(model, recipe, cached)}",
        )
    return _Weights(file, recipe, official=True)


def official_file(recipe: Any) -> Path | None:
    """Find the intact file of official weights, in the asset packs or in torch hub's folder."""
    import torch

    name, prefix = _name_and_hash(recipe)
    model = type(recipe).__name__.removesuffix("_Weights").casefold()
    places = (assets_root() / model / name, Path(torch.hub.get_dir()) / "checkpoints" / name)
    return next((path for path in places if path.is_file() and hash_file(path).startswith(prefix)), None)


def _name_and_hash(recipe: Any) -> tuple[str, str]:
    name = str(recipe.url).rsplit("/", 1)[-1]
    return name, name.rsplit("-", 1)[-1].split(".")[0]


def _remedy(model: str, recipe: Any, cached: Path) -> str:
    if _PACKED.get(model) == recipe.name:
        return f"line assets install {model}"
    return f"get {recipe.url} and put it at {cached}, or allow the download with --download"


def _require_download(model: str, recipe: Any, cached: Path, *, allowed: bool) -> None:
    size = recipe.meta.get("_file_size")
    missing = f"{cached.name}{f' ({size:.0f} MB)' if size else ''}, the weights {recipe} of {model},"
    remedy = _remedy(model, recipe, cached)
    if not allowed:
        here = [entry.name for entry in type(recipe) if cached.with_name(_name_and_hash(entry)[0]).is_file()]
        others = f"; or name those that are here: torchvision:{model}@{here[0]}" if here else ""
        raise MissingPartError(f"{missing} are not here", f"{remedy}{others}")
    try:
        recipe.get_state_dict(progress=True, check_hash=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError) as error:
        raise MissingPartError(f"{missing} could not be downloaded: {error}", remedy) from error
