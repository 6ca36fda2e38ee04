"""Find, check and read the weights of a torchvision model."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from line_neurons.agent.errors import LineError, MissingPartError, UsageError
from line_neurons.tools.targets.lookup import near_names

# The asset packs hold the first release of these; torchvision's own default is a later one.
_PACKED = {"mobilenet_v2": "IMAGENET1K_V1"}


@dataclass(frozen=True)
class WeightsFile:
    """Weights on disk.

    Args:
        path: the file.
        sha256: of its content, hex.
        recipe: the torchvision weights entry whose transforms apply.
        official: the content is the one that ``recipe`` names; its class names apply too.
    """

    path: Path
    sha256: str
    recipe: Any
    official: bool


def find_recipe(model: str, name: str | None) -> Any:
    """The torchvision weights entry ``name`` of ``model``; the default one if None.

    Raises:
        UsageError: torchvision has no such classification model or weights.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if model not in known:
        near = near_names(model, known)
        raise UsageError(
            f"torchvision has no classification model {model!r}{'; ' + near if near else ''}",
            "name one as in torchvision:mobilenet_v2",
        )
    entries = models.get_model_weights(model)
    wanted = name or _PACKED.get(model) or "DEFAULT"
    if wanted not in entries.__members__:
        raise UsageError(
            f"{model} has no weights {wanted!r}", f"there are {', '.join(entry.name for entry in entries)}"
        )
    return entries[wanted]


def find_weights(model: str, recipe: Any, *, own: Path | None, assets: Path | None, download: bool) -> WeightsFile:
    """The weights file: the user's own, the asset pack's, or the one in torch hub's cache.

    Args:
        model: torchvision's name of the model.
        recipe: torchvision's weights entry.
        own: a checkpoint of the user's own; nothing else is looked for.
        assets: folder of the asset packs.
        download: let torchvision fetch the file into its cache if it is nowhere.

    Raises:
        UsageError: ``own`` is not a file.
        MissingPartError: the file is nowhere, is damaged, or could not be downloaded.
    """
    import torch

    if own is not None:
        if not own.is_file():
            raise UsageError(f"there is no weights file {own}", "give the path of a .pth or .safetensors file")
        digest = _sha256(own)
        for entry in type(recipe):
            if digest.startswith(_name_and_hash(entry)[1]):
                return WeightsFile(own, digest, entry, official=True)
        return WeightsFile(own, digest, recipe, official=False)

    name, prefix = _name_and_hash(recipe)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    places = [assets / model / name] if assets else []
    path = next((place for place in [*places, cached] if place.is_file()), None)
    if path is None:
        _require_download(model, recipe, cached, allowed=download)
        path = cached
    digest = _sha256(path)
    if not digest.startswith(prefix):
        raise MissingPartError(
            f"the weights file {path} is damaged: its SHA-256 starts with {digest[:8]}, not {prefix}",
            f"delete it, then: {_remedy(model, recipe, cached)}",
        )
    return WeightsFile(path, digest, recipe, official=True)


def read_state(weights: WeightsFile) -> dict[str, Any]:
    """The state dict in a weights file; the wrappers that training scripts add are taken off.

    Raises:
        UsageError: the file holds no tensors by name, or more than tensors.
    """
    import pickle

    import torch

    try:
        if weights.path.suffix == ".safetensors":
            try:
                from safetensors.torch import load_file
            except ImportError as error:
                raise MissingPartError(
                    "reading .safetensors needs the package safetensors", "pip install safetensors"
                ) from error
            state: Any = load_file(weights.path)
        else:
            state = torch.load(weights.path, map_location="cpu", weights_only=True)
    except LineError:
        raise
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(
            f"the weights file {weights.path} cannot be read: {reason[0]}",
            "save the model's state_dict() with torch.save, or as .safetensors",
        ) from error
    except Exception as error:
        # safetensors raises a class of its own, derived from Exception alone.
        raise UsageError(f"the weights file {weights.path} cannot be read: {error}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise UsageError(f"the weights file {weights.path} holds no state dict of tensors")
    renamed = {_current_name(key): value for key, value in state.items()}
    # The dict as it was read carries the modules' version numbers, which some models insist on.
    return state if renamed.keys() == state.keys() else renamed


def _current_name(key: str) -> str:
    # Older DenseNet files write norm.1 for norm1; DataParallel puts module. before every name.
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key.removeprefix("module."))


def _name_and_hash(recipe: Any) -> tuple[str, str]:
    name = str(recipe.url).rsplit("/", 1)[-1]
    return name, name.rsplit("-", 1)[-1].split(".")[0]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remedy(model: str, recipe: Any, cached: Path) -> str:
    if _PACKED.get(model) == recipe.name:
        return f"line assets install {model}"
    return f"get {recipe.url} and put it at {cached}, or allow the download with --download"


def _require_download(model: str, recipe: Any, cached: Path, *, allowed: bool) -> None:
    size = recipe.meta.get("_file_size")
    wanted = f"{cached.name}{f' ({size:.0f} MB)' if size else ''}, the weights {recipe} of {model},"
    remedy = _remedy(model, recipe, cached)
    if not allowed:
        raise MissingPartError(f"{wanted} are not here", remedy)
    try:
        recipe.get_state_dict(progress=True, check_hash=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError) as error:
        raise MissingPartError(f"{wanted} could not be downloaded: {error}", remedy) from error
