"""Vision models of transformers: classifiers, DINOv2, vision towers of CLIP."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import MissingPartError, UsageError, reason_of
from line_neurons.agent.text import clean_text
from line_neurons.tools.assets.manifest import hash_file
from line_neurons.tools.hub import cached_snapshot
from line_neurons.tools.packages import required_package
from line_neurons.tools.quiet_libraries import quiet
from line_neurons.tools.targets.base import ModelBundle, ModelRequest, short_hash
from line_neurons.tools.targets.weights.checkpoint import (
    MatchedNetwork,
    MisfitError,
    find_network,
    head_of,
    leave_out,
    misfit,
)
from line_neurons.tools.targets.weights.files import Checkpoint, WeightsFile, read_checkpoint, weights_file
from line_neurons.tools.weights_formats import weights_format

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_FILES = ("config.json", "preprocessor_config.json", "processor_config.json", "model.safetensors.index.json")
IMAGES_ARGUMENT = "pixel_values"
_CLASSIFIER = "ForImageClassification"
_CLASS_HEADS = ("class_labels_classifier", "class_predictor")
"""Class layers of detectors and of models that segment by queries; those of boxes and masks come later."""


def open_hub(request: ModelRequest) -> ModelBundle:
    """Open a hub id, ``facebook/dinov2-small`` or ``...@REVISION``, or a local folder.

    Code of a repository is never run, and only .safetensors are read.

    Raises:
        UsageError: the folder or repository holds no vision model that transformers knows.
        MissingPartError: transformers is not installed, or the files are missing.
    """
    with required_package("transformers", "targets"):
        import transformers

    repository, _, revision = request.model.partition("@")
    name, spec, note = f"hf:{repository}", "", ""
    folder = Path(request.model).expanduser()
    if folder.is_dir():
        # The same wherever the folder stands: what is in it is in the hashes.
        name = f"hf:{folder.resolve().name}"
    else:
        patterns = _FILES if request.weights else (*_FILES, *_WEIGHTS)
        folder = cached_snapshot(
            repository, patterns, name=name, revision=revision or None, download=request.download
        )
        # A branch or tag moves; the folder of a snapshot is called by its commit.
        spec = f"{name}@{folder.name}"
        note = "" if revision else f"{name} stands for its main branch, now {folder.name[:7]}; others: @REVISION"
    config_reader: Any = transformers.AutoConfig
    processor_reader: Any = transformers.AutoImageProcessor
    try:
        whole = config_reader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        processor = processor_reader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UsageError(
            f"{name} is not a vision model that transformers can read: {reason_of(error)}",
            "it needs a config.json of a known architecture and a preprocessor_config.json",
        ) from error
    model_class, config = vision_part(whole, name)
    own = weights_file(request.weights) if request.weights else None
    files = list(own.files) if own else _weights_files(folder, name)
    build = partial(_build_own, own) if own else partial(_build, folder)
    head = _class_head(model_class, config)
    digest = _digest([folder / "config.json", *files])[:16] + (own.mark if own else "")
    return ModelBundle(
        name=name,
        weights=f"{digest} ({'own' if own else 'safetensors'})",
        preprocessing=short_hash(processor.to_json_string()),
        prepare=partial(apply_processor, processor),
        build=partial(build, model_class, config, name),
        classes=() if own else _classes(model_class, config, head),
        argument=IMAGES_ARGUMENT,
        spec=spec,
        note=note,
        head=head,
    )


def vision_part(config: Any, name: str) -> tuple[Any, Any]:
    """Return the class that takes only images, and its configuration.

    Raises:
        UsageError: it is not a vision model, and has no such part.
    """
    import transformers

    for architecture in config.architectures or []:
        model_class = getattr(transformers, architecture, None)
        takes = getattr(model_class, "input_modalities", None)
        if getattr(model_class, "main_input_name", None) == IMAGES_ARGUMENT and takes in {
            None,
            "image",
            ("image",),
        }:
            return model_class, config
    part = getattr(config, "vision_config", config)
    model_class = transformers.AutoModel._model_mapping.get(type(part), None)
    if getattr(model_class, "main_input_name", None) != IMAGES_ARGUMENT:
        raise UsageError(
            f"{name} is a {config.model_type!r} model, and no module of it takes only images",
            "name an image classifier, DINOv2, or CLIP and its kin",
        )
    return model_class, part


def _class_head(model_class: Any, config: Any) -> str:
    """Return the path of the class layer of a model with queries; empty for other models."""
    import torch

    if model_class.__name__.endswith(_CLASSIFIER):
        return ""
    try:
        with torch.device("meta"):
            plan = model_class(config)
    except Exception:
        # Some compute with values while they are built; they have no such layer.
        return ""
    return next((path for path in _CLASS_HEADS if hasattr(plan, path)), "")


def _classes(model_class: Any, config: Any, head: str) -> tuple[str, ...]:
    labels = getattr(config, "id2label", None) or {}
    names = tuple(clean_text(str(labels[number]), 100) for number in sorted(labels))
    # LABEL_0, LABEL_1 ... stand where nobody gave names.
    given = any(not name.startswith("LABEL_") for name in names)
    return names if given and (head or model_class.__name__.endswith(_CLASSIFIER)) else ()


def _weights_files(folder: Path, name: str) -> list[Path]:
    whole, parts = (sorted(folder.glob(pattern)) for pattern in _WEIGHTS)
    if whole and parts:
        raise UsageError(
            f"{folder} holds both {whole[0].name} and {parts[0].name}",
            "leave only the weights that you mean there",
        )
    pickled = next((folder / name for name in _PICKLED if (folder / name).is_file()), None)
    if not whole and not parts and pickled:
        raise MissingPartError(
            f"{name} has its weights only as {pickled.name}, and no model.safetensors",
            f"give it as a checkpoint, of which only tensors are read: --weights {pickled}",
        )
    if not whole and not parts:
        raise MissingPartError(
            f"{name} has no model.safetensors in {folder}",
            "allow the download with --download, or give a checkpoint with --weights",
        )
    for file in whole or parts:
        weights_format(file)
    return whole or parts


def _digest(files: list[Path]) -> str:
    digests = "".join(hash_file(file) for file in files)
    return hashlib.sha256(digests.encode()).hexdigest()


def apply_processor(processor: Any, image: Image) -> Tensor:
    """Prepare an image with an image processor, to [3, H, W]."""
    prepared: Tensor = processor(images=image, return_tensors="pt")[IMAGES_ARGUMENT][0]
    return prepared


def _build(folder: Path, model_class: Any, config: Any, name: str) -> nn.Module:
    return _loaded(model_class, config, name, str(folder), folder, use_safetensors=True, local_files_only=True)


def _build_own(file: WeightsFile, model_class: Any, config: Any, name: str) -> nn.Module:
    import torch

    checkpoint = read_checkpoint(file)
    with torch.device("meta"):
        plan = model_class(config)
    head = head_of(plan, config.num_labels) if model_class.__name__.endswith(_CLASSIFIER) else None
    found = _network(checkpoint, plan, name, head)
    if found.classes:
        config.num_labels = found.classes
    return _loaded(model_class, config, name, found.source, None, found.left_out, state_dict=dict(found.state))


def _network(checkpoint: Checkpoint, plan: Any, name: str, head: str | None) -> MatchedNetwork:
    """Find the network that fits, by the model's names or by older ones.

    Raises:
        UsageError: as ``find_network`` does.
    """
    misfits: list[MisfitError] = []
    for tensors in _namings(plan):
        try:
            return find_network(checkpoint, tensors, name=name, head=head, strict=False)
        except MisfitError as error:
            misfits.append(error)
    raise misfits[0]


def _namings(plan: Any) -> Iterator[Mapping[str, Tensor]]:
    """Map the names that files may use to a model's tensors.

    The names of the module; those that transformers writes, which are older; those of the model below its class
    layer alone; and each without a pooler, with which some models are not published.
    """
    from transformers.core_model_loading import revert_weight_conversion

    base = f"{plan.base_model_prefix}."
    for named in (plan.state_dict(), revert_weight_conversion(plan, plan.state_dict())):
        for prefix in ("", base):
            bare = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
            yield bare
            yield {name: tensor for name, tensor in bare.items() if "pooler" not in name.split(".")}


def _loaded(
    model_class: Any,
    config: Any,
    name: str,
    source: str,
    folder: Path | None,
    left: str | None = None,
    **given: Any,
) -> nn.Module:
    """Load the model's weights, without the layer at ``left`` if it has none."""
    import torch

    try:
        with quiet("transformers"):
            model, told = model_class.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True, **given
            )
    except Exception as error:
        raise UsageError(f"{source} does not fit {name}: {reason_of(error)}") from error
    missing = sorted(told["missing_keys"])
    if missing and all(key.startswith("pooler.") for key in missing):
        # Some were published without the pooler that their class has; without it they are whole.
        model.pooler, missing = None, []
    if left:
        leave_out(model, left)
        missing = [key for key in missing if key.rpartition(".")[0] != left]
    if missing:
        raise misfit(source, name, len(model.state_dict()), missing=missing)
    module: nn.Module = model
    return module
