"""Models as their architecture alone, to list their layers before any weights are here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import BackendError, LineError, MissingPartError, reason_of
from line_neurons.tools.hub import cached
from line_neurons.tools.packages import required_package
from line_neurons.tools.targets.transforms import imagenet_transform

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture:
    """A model without weights.

    Args:
        build: makes the module, with random values or none.
        prepare: maps an RGB image to a float tensor [3, H, W].
        argument: name of the forward argument that takes the images; the first one if empty.
    """

    build: Callable[[], nn.Module]
    prepare: Callable[[Image], Tensor]
    argument: str = ""


def has_architecture(spec: str) -> bool:
    """Tell whether the models of a source have a known architecture without their weights."""
    return spec.partition(":")[0] in _SOURCES


def open_architecture(spec: str) -> Architecture:
    """Open the architecture of a model; nothing is downloaded.

    Raises:
        KeyError: the source has none, see ``has_architecture``.
        UsageError: there is no such model.
        MissingPartError: a package is not installed, or the configuration of a model of the hub is not here.
    """
    prefix, _, model = spec.partition(":")
    return _SOURCES[prefix](model)


def module_paths(spec: str) -> tuple[str, ...]:
    """Return the paths of all modules of a model, built without values; nothing is loaded.

    They are a superset of its layers. Empty where the source has no architecture without weights, or it cannot be
    built without values.
    """
    if not has_architecture(spec):
        return ()
    import torch

    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.inference_mode():
            module = open_architecture(spec).build()
    except (LineError, ImportError, OSError, RuntimeError, ValueError, TypeError):
        # Opening the model itself says what is wrong.
        return ()
    return tuple(path for path, _ in module.named_modules() if path)


def forward_passes(architecture: Architecture) -> tuple[nn.Module, Tensor, Callable[[Tensor], object]]:
    """Build an architecture that runs on a batch: without values where it can, else with random ones on the CPU.

    Returns:
        the module in evaluation mode; a batch of 3 images; and a function that calls the module on a batch.

    Raises:
        BackendError: its forward pass fails.
    """
    import torch
    from PIL import Image

    image = architecture.prepare(Image.new("RGB", (320, 256), (128, 90, 60)))
    error: Exception | None = None
    for device in ("meta", "cpu"):
        try:
            with torch.device(device), torch.random.fork_rng(devices=[]), torch.inference_mode():
                module = architecture.build().to(device).eval()
                batch = image.expand(3, *image.shape).to(device, copy=True)
                call = partial(_call, module, architecture.argument)
                call(batch)
        except (RuntimeError, NotImplementedError, ValueError, TypeError) as raised:
            # Some compute with values while they are built or run.
            error = raised
        else:
            return module, batch, call
    assert error is not None
    raise BackendError(f"the layers of the architecture cannot be found: {reason_of(error)}") from error


def _call(module: nn.Module, argument: str, batch: Tensor) -> object:
    return module(**{argument: batch}) if argument else module(batch)


def _torchvision(model: str) -> Architecture:
    torchvision_models: Any = import_module("line_neurons.tools.targets.torchvision_models")
    name, _, entry = model.partition("@")
    recipe = torchvision_models.find_recipe(name, entry)
    options = torchvision_models.build_options(name, recipe)
    prepare = torchvision_models.transforms_of(name, recipe)
    return Architecture(partial(torchvision_models.meta_module, name, **options), prepare)


def _timm(model: str) -> Architecture:
    timm_models: Any = import_module("line_neurons.tools.targets.timm_models")
    pinned, transform = timm_models.model_and_transform(model)

    def build() -> nn.Module:
        import timm

        made: nn.Module = timm.create_model(pinned, pretrained=False)
        return made

    return Architecture(build, transform)


def _hub(model: str) -> Architecture:
    with required_package("transformers", "targets"):
        from transformers import AutoConfig, AutoImageProcessor
    from line_neurons.tools.targets import transformers_models

    repository, _, revision = model.partition("@")
    folder = cached(repository, revision or None)
    absent = MissingPartError(
        f"the configuration of hf:{model} is not in the hub's cache on this machine",
        f"hf download {repository} config.json preprocessor_config.json, or list its layers with --download",
    )
    if folder is None:
        raise absent
    readers: tuple[Any, Any] = (AutoConfig, AutoImageProcessor)
    try:
        config, processor = (
            reader.from_pretrained(folder, local_files_only=True, trust_remote_code=False) for reader in readers
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise absent from error
    model_class, part = transformers_models.vision_part(config, f"hf:{repository}")
    return Architecture(
        partial(model_class, part),
        partial(transformers_models.apply_processor, processor),
        transformers_models.IMAGES_ARGUMENT,
    )


def _resnet50(classes: int, model: str) -> Architecture:
    from line_neurons.tools.targets.torchvision_models import meta_module

    return Architecture(partial(meta_module, "resnet50", num_classes=classes), imagenet_transform)


_SOURCES: Mapping[str, Callable[[str], Architecture]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "hf": _hub,
    "places365": partial(_resnet50, 365),
    "robust": partial(_resnet50, 1000),
    "keras": partial(_resnet50, 1000),
}
