"""The preprocessing of library models, where it is certain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.layers.outputs import kernel
from line_neurons.tools.targets.transforms import IMAGENET_TRANSFORM, MEAN, STD, imagenet_transform

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

# Classifiers that are only there in training.
_AUXILIARY = ("AuxLogits", "aux1", "aux2")


@dataclass(frozen=True)
class Preprocessing:
    """How images are prepared for a module.

    Args:
        prepare: an image (RGB) to a float tensor [3, H, W].
        source: whose it is, in words.
    """

    prepare: Callable[[Image], Tensor]
    identity: str
    source: str


def known_preprocessing(module: nn.Module) -> Preprocessing | str:
    """Find a library module's preprocessing; else return why not (may be empty)."""
    source = type(module).__module__.partition(".")[0]
    finders = {"torchvision": _of_torchvision, "timm": _of_timm, "transformers": _of_transformers}
    return finders[source](module) if source in finders else ""


def refuse_preparing(module: nn.Module, name: str) -> None:
    """Refuse modules that prepare images themselves.

    Raises:
        UsageError: it is a detector of torchvision, which resizes and normalises.
    """
    if type(module).__module__.startswith("torchvision.models.detection."):
        raise UsageError(
            f"{name} is a detector, which resizes and normalises images itself: they would be normalised twice",
            "give transform= without normalisation: an image to a float tensor [3, H, W] in 0-1, of one size",
        )


def _of_timm(module: nn.Module) -> Preprocessing | str:
    config = getattr(module, "pretrained_cfg", None)
    if not config:
        return "it has no pretrained_cfg"
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform

    resolve: Any = resolve_model_data_config
    made = create_transform(**resolve(module), is_training=False)
    tag = config.get("tag") if isinstance(config, Mapping) else getattr(config, "tag", "")
    return Preprocessing(made, repr(made), f"timm's data configuration{f' of {tag}' if tag else ''}")


def _of_transformers(module: nn.Module) -> Preprocessing | str:
    place = getattr(getattr(module, "config", None), "name_or_path", "")
    if not place:
        return "its configuration does not name where it is from"
    from transformers import AutoImageProcessor

    from line_neurons.tools.targets.transformers_models import apply_processor

    reader: Any = AutoImageProcessor
    try:
        processor = reader.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError):
        return f"{place} has no preprocessor_config.json on this machine"
    # The same wherever a folder stands.
    named = Path(place).name if Path(place).is_dir() else place
    return Preprocessing(
        partial(apply_processor, processor), processor.to_json_string(), f"the image processor of {named:.100}"
    )


def _of_torchvision(module: nn.Module) -> Preprocessing | str:
    entries = list(_possible_weights(module))
    if not entries:
        return "it is none of torchvision's classification models"
    if len({repr(entry.transforms()) for entry in entries}) > 1:
        listed = ", ".join(f"{entry.name} ({_sizes(entry.transforms())})" for entry in entries)
        official = next((entry for entry in entries if _holds(module, entry)), None)
        if official is None:
            return f"it may be that of {listed}"
        entries = [official]
    preset = entries[0].transforms()
    source = f"torchvision's of {entries[0]} ({_sizes(preset)})"
    if _is_imagenet_transform(preset):
        return Preprocessing(imagenet_transform, IMAGENET_TRANSFORM, source)
    return Preprocessing(preset, repr(preset), source)


def _possible_weights(module: nn.Module) -> Iterator[Any]:
    """Yield torchvision's official weights of a module's architecture, whatever its head."""
    from torchvision import models

    from line_neurons.tools.targets.torchvision_models import meta_module

    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    place = type(module).__module__
    for model in models.list_models(module=models):
        if models.get_model_builder(model).__module__ != place:
            continue
        entries: dict[int | None, list[Any]] = {}
        for entry in models.get_model_weights(model):
            # The positions of a vision transformer are as many as its patches.
            size = entry.meta["min_size"][0] if model.startswith("vit_") else None
            entries.setdefault(size, []).append(entry)
        for size, fitting in entries.items():
            plan = meta_module(model, **({"image_size": size} if size else {}))
            left_out = (_head(plan), *_AUXILIARY)
            needed = {name: tuple(tensor.shape) for name, tensor in plan.state_dict().items()}
            if _without(own, left_out) == _without(needed, left_out):
                yield from fitting


def _head(plan: nn.Module) -> str:
    paths: list[str] = [path for path, part in plan.named_modules() if kernel(part) is not None]
    return paths[-1].partition(".")[0]


def _without(named: Mapping[str, Any], parts: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in named.items() if name.partition(".")[0] not in parts}


def _holds(module: nn.Module, entry: Any) -> bool:
    """Tell whether a module has official weights of this machine, bitwise, whatever its head."""
    import torch

    from line_neurons.tools.targets.torchvision_models import official_file
    from line_neurons.tools.targets.weights.files import WeightsFile, read_checkpoint

    file = official_file(entry)
    if file is None:
        return False
    own = module.state_dict()
    official = {".".join(place): tensor for place, tensor in read_checkpoint(WeightsFile(file)).tensors.items()}
    named = _without(own, (_head(module), *_AUXILIARY))
    return all(
        name in official and torch.equal(tensor.detach().cpu(), official[name])
        for name, tensor in named.items()
        if not name.endswith("num_batches_tracked")
    )


def _sizes(preset: Any) -> str:
    return f"resize {preset.resize_size[0]}, crop {preset.crop_size[0]}"


def _is_imagenet_transform(preset: Any) -> bool:
    from torchvision.transforms import InterpolationMode

    sizes = (list(preset.resize_size), list(preset.crop_size), preset.interpolation)
    scale = (tuple(preset.mean), tuple(preset.std))
    return sizes == ([256], [224], InterpolationMode.BILINEAR) and scale == (MEAN, STD)
