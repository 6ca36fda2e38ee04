"""Any model of timm, with its pretrained weights or a user's own checkpoint."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.near_names import near_names
from line_neurons.agent.text import clean_text
from line_neurons.tools.hub import cached_snapshot
from line_neurons.tools.packages import required_package
from line_neurons.tools.targets.base import ModelBundle, ModelRequest, short_hash
from line_neurons.tools.targets.weights.checkpoint import find_network, head_of, load
from line_neurons.tools.targets.weights.files import WeightsFile, read_checkpoint, weights_file
from line_neurons.tools.vocabulary import imagenet_classes

if TYPE_CHECKING:
    from torch import nn

_FILES = ("model.safetensors", "open_clip_model.safetensors")


def open_timm(request: ModelRequest) -> ModelBundle:
    """Open ``resnet18``, or ``resnet18.a1_in1k`` for one of several pretrained weights.

    Raises:
        UsageError: no such model or own checkpoint.
        MissingPartError: timm is not installed, or the weights are missing.
    """
    name = f"timm:{request.model.partition('.')[0]}"
    model, transform = model_and_transform(request.model)
    config = _config(model)
    own = request.weights is not None
    file = weights_file(request.weights) if request.weights else WeightsFile(_find_file(name, config, request))
    return ModelBundle(
        name=name,
        weights=f"{file.identity} ({'own, transforms of ' if own else ''}{config.tag or 'timm'})",
        preprocessing=short_hash(repr(transform)),
        prepare=transform,
        build=partial(_build, name, model, file, own=own),
        classes=() if own else _classes(config),
        spec=f"timm:{model}",
        note="" if model == request.model else _note(name, model, own=own),
    )


def model_and_transform(model: str) -> tuple[str, Any]:
    """Return the name of a model with its tag, and its evaluation transform.

    Raises:
        UsageError: there is no such model.
        MissingPartError: timm is not installed.
    """
    with required_package("timm", "targets"):
        import timm
        from timm.data.config import resolve_data_config
        from timm.data.transforms_factory import create_transform

    if model not in {*timm.list_models(), *timm.list_pretrained()}:
        near = near_names(model, timm.list_models() + timm.list_pretrained())
        raise UsageError(
            f"timm has no model {model!r}{'; ' + near if near else ''}", "name one as in timm:resnet18"
        )
    tagged = pinned(model)
    resolve: Any = resolve_data_config
    data = resolve(pretrained_cfg=_config(tagged).to_dict(), verbose=False)
    return tagged, create_transform(**data, is_training=False)


def _config(model: str) -> Any:
    import timm
    from timm.models import PretrainedCfg

    return timm.get_pretrained_cfg(model) or PretrainedCfg()


def pinned(model: str) -> str:
    """Add timm's default tag to a model that names none; other models stay as they are."""
    import timm

    if "." in model or not timm.is_model(model):
        return model
    config: Any = timm.get_pretrained_cfg(model)
    return f"{model}.{config.tag}" if config and config.tag else model


def _note(name: str, model: str, *, own: bool) -> str:
    import timm

    tags = timm.list_pretrained(f"{model.partition('.')[0]}.*")
    if len(tags) < 2:
        return ""
    what = "a checkpoint of your own is used with the preprocessing of" if own else "stands for timm's first,"
    return f"{name}: {what} timm:{model}; name another with its tag: {', '.join(tags[:5])}"


def _find_file(name: str, config: Any, request: ModelRequest) -> Path:
    if not config.hf_hub_id:
        raise MissingPartError(
            f"timm offers no weights of {name} as .safetensors", "give a checkpoint with --weights"
        )
    folder = cached_snapshot(config.hf_hub_id, _FILES, name=name, download=request.download)
    files = [folder / file for file in _FILES if (folder / file).is_file()]
    if not files:
        raise MissingPartError(
            f"{config.hf_hub_id}, which {name} needs, has no {_FILES[0]}",
            "allow the download with --download, or give a checkpoint with --weights",
        )
    return files[0]


def _build(name: str, model: str, file: WeightsFile, *, own: bool) -> nn.Module:
    import timm

    checkpoint = read_checkpoint(file)
    if not own:
        # timm converts what some of its files hold into the model's own names.
        overlay = {"state_dict": {".".join(key): tensor for key, tensor in checkpoint.tensors.items()}}
        try:
            pretrained: nn.Module = timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay)
        except Exception as error:
            raise UsageError(f"{checkpoint} does not fit {name}: {clean_text(str(error), 300)}") from error
        return pretrained
    module: nn.Module = timm.create_model(model, pretrained=False)
    usual: Any = module.num_classes
    head = head_of(module, usual)
    found = find_network(checkpoint, module.state_dict(), name=name, head=head)
    if found.classes:
        module = timm.create_model(model, pretrained=False, num_classes=found.classes)
    load(module, found, name=name)
    return module


def _classes(config: Any) -> tuple[str, ...]:
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(config.to_dict())
    if subset is None:
        return ()
    # The same names as other models of ImageNet-1K have here; timm's are lists of synonyms.
    return (
        tuple(imagenet_classes()) if subset == "imagenet-1k" else tuple(ImageNetInfo(subset).label_descriptions())
    )
