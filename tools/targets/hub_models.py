"""Vision models of transformers: image classifiers, DINOv2, the vision towers of CLIP and its kin."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import MissingPartError, UsageError, reason_of
from line_neurons.agent.proposal import clean_text
from line_neurons.tools.assets.manifest import hash_file
from line_neurons.tools.targets.checkpoint import classes_in, matching, misfit, own_file, read_state
from line_neurons.tools.targets.hub_files import cached_snapshot
from line_neurons.tools.targets.network import Network, Wanted, brief

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
_FILES = ("config.json", "preprocessor_config.json", "processor_config.json", "model.safetensors.index.json")
_PICTURES = "pixel_values"


def open_hub(wanted: Wanted) -> Network:
    """A hub id, ``facebook/dinov2-small``, with ``@REVISION`` where one is wanted, or a local folder.

    Code that a repository brings is never run, and only .safetensors are read.

    Raises:
        UsageError: the folder or repository holds no vision model that transformers knows.
        MissingPartError: transformers is not installed, or the files are not here.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingPartError("transformers is not installed", "pip install 'line-neurons[targets]'") from error

    repository, _, revision = wanted.model.partition("@")
    name = f"hf:{repository}"
    folder = Path(wanted.model).expanduser()
    if folder.is_dir():
        # The same wherever the folder stands: what is in it is in the hashes.
        name = f"hf:{folder.resolve().name}"
    else:
        patterns = _FILES if wanted.weights else (*_FILES, *_WEIGHTS)
        folder = cached_snapshot(
            repository, patterns, name=name, revision=revision or None, download=wanted.download
        )
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
    model_class, config = _vision_part(whole, name)
    files = [own_file(wanted.weights)] if wanted.weights else _weights_files(folder, name)
    build = partial(_build_own, files[0]) if wanted.weights else partial(_build, folder)
    return Network(
        name=name,
        weights=f"{_digest([folder / 'config.json', *files])[:16]} ({'own' if wanted.weights else 'safetensors'})",
        preprocessing=brief(processor.to_json_string()),
        prepare=partial(_prepare, processor),
        build=partial(build, model_class, config, name),
        classes=() if wanted.weights else _classes(model_class, config),
        argument=_PICTURES,
    )


def _vision_part(config: Any, name: str) -> tuple[Any, Any]:
    """The class that takes pictures alone, and its configuration."""
    import transformers

    for architecture in config.architectures or []:
        model_class = getattr(transformers, architecture, None)
        takes = getattr(model_class, "input_modalities", None)
        if getattr(model_class, "main_input_name", None) == _PICTURES and takes in {None, "image", ("image",)}:
            return model_class, config
    part = getattr(config, "vision_config", config)
    model_class = transformers.AutoModel._model_mapping.get(type(part), None)
    if getattr(model_class, "main_input_name", None) != _PICTURES:
        raise UsageError(
            f"{name} is a {config.model_type!r} model, which has no part that takes pictures alone",
            "name an image classifier, DINOv2, or CLIP and its kin",
        )
    return model_class, part


def _classes(model_class: Any, config: Any) -> tuple[str, ...]:
    labels = getattr(config, "id2label", None) or {}
    names = tuple(clean_text(str(labels[number]), 100) for number in sorted(labels))
    # LABEL_0, LABEL_1 ... stand where nobody gave names.
    given = any(not name.startswith("LABEL_") for name in names)
    return names if given and model_class.__name__.endswith("ForImageClassification") else ()


def _weights_files(folder: Path, name: str) -> list[Path]:
    files = sorted(file for pattern in _WEIGHTS for file in folder.glob(pattern))
    if not files:
        raise MissingPartError(
            f"{name} has no model.safetensors in {folder}",
            "allow the download with --download, or give a checkpoint with --weights",
        )
    return files


def _digest(files: list[Path]) -> str:
    digests = "".join(hash_file(file) for file in files)
    return hashlib.sha256(digests.encode()).hexdigest()


def _prepare(processor: Any, picture: Image) -> Tensor:
    prepared: Tensor = processor(images=picture, return_tensors="pt")[_PICTURES][0]
    return prepared


def _build(folder: Path, model_class: Any, config: Any, name: str) -> nn.Module:
    return _loaded(model_class, config, name, str(folder), folder, use_safetensors=True, local_files_only=True)


def _build_own(file: Path, model_class: Any, config: Any, name: str) -> nn.Module:
    import torch

    state = read_state(file)
    with torch.device("meta"):
        plan = model_class(config)
    part = matching(state, plan.state_dict())
    if classes := classes_in(plan, part):
        config.num_labels = classes
    return _loaded(model_class, config, name, str(file), None, state_dict=dict(part))


def _loaded(model_class: Any, config: Any, name: str, source: str, folder: Path | None, **given: Any) -> nn.Module:
    import torch

    try:
        with _quiet():
            model, told = model_class.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True, **given
            )
    except Exception as error:
        raise UsageError(f"{source} does not fit {name}: {reason_of(error)}") from error
    missing = sorted(told["missing_keys"])
    if missing and all(key.startswith("pooler.") for key in missing):
        # Some were published without the pooler that their class has; without it they are whole.
        model.pooler, missing = None, []
    if missing:
        raise misfit(source, name, len(model.state_dict()), missing=missing)
    module: nn.Module = model
    return module


@contextmanager
def _quiet() -> Iterator[None]:
    # Loading prints bars, and a table of what a file holds beside the part that is wanted.
    from transformers.utils import logging

    say: Any = logging
    verbosity, bars = say.get_verbosity(), say.is_progress_bar_enabled()
    say.set_verbosity_error()
    say.disable_progress_bar()
    try:
        yield
    finally:
        say.set_verbosity(verbosity)
        if bars:
            say.enable_progress_bar()
