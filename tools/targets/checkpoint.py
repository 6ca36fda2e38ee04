"""Read a checkpoint of any origin, find the wanted tensors in it, and put them into a module."""

from __future__ import annotations

import pickle
import re
import warnings
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import LineError, MissingPartError, UsageError
from line_neurons.agent.proposal import clean_text
from line_neurons.tools.targets.layer_outputs import kernel

if TYPE_CHECKING:
    from torch import Tensor, nn

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_UNKNOWN = re.compile(r"Unsupported global: GLOBAL ([\w.]+) was not")
# Older DenseNet files write norm.1 for norm1.
_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
_UNPICKLER = "WeightsUnpickler error: "
_MOST_UNKNOWN = 64
_EXAMPLES = 3
_REMEDY = "name the model it was trained as, or load it in a function of your own (MODULE:FUNCTION)"
_SAVE = "save the model's state_dict() with torch.save, or as .safetensors"


class _Inert:
    """Stands in for whatever a checkpoint holds beside tensors; takes any arguments and does nothing."""

    __hash__ = object.__hash__

    def __new__(cls, *_: object) -> _Inert:
        return object.__new__(_Inert)

    def __call__(self, *_: object) -> _Inert:
        return self

    def __setstate__(self, state: object) -> None: ...

    def __eq__(self, other: object) -> bool:
        # The reader asks whether a callable is an allowed one; what an inert one returned is inert too.
        return other is _Inert or other is self


class _InertDict:
    """Stands in for a kind of dict, which the reader fills."""

    def __new__(cls, *_: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


def own_file(path: Path) -> Path:
    """A checkpoint that the user named.

    Raises:
        UsageError: it is not a file.
    """
    if not path.is_file():
        raise UsageError(f"there is no weights file {path}", "give the path of a .pth or .safetensors file")
    return path


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name; the wrappers that training scripts add are taken off.

    Only tensors are read: any other object in the file is left out, and no code of it runs.

    Raises:
        UsageError: the file holds no tensors by name, or cannot be read.
        MissingPartError: the package that reads .safetensors is not installed.
    """
    try:
        state: Any = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    except LineError:
        raise
    except Exception as error:
        # safetensors raises a class of its own, derived from Exception alone; unpickling raises almost any.
        told = str(error).partition(_UNPICKLER)[2] or str(error)
        reason = (told.strip().splitlines() or [type(error).__name__])[0].partition(". ")[0]
        if "TorchScript" in reason:
            reason = "it is a TorchScript archive"
        raise UsageError(f"the weights file {path} cannot be read: {reason[:200]}", _SAVE) from error
    state = _unwrapped(path, state)
    tensors = _tensors(state)
    if not tensors:
        raise UsageError(f"the weights file {path} holds no state dict of tensors", _SAVE)
    # The modules' version numbers, which some models insist on.
    if metadata := getattr(state, "_metadata", None):
        tensors._metadata = metadata  # type: ignore[attr-defined]
    return tensors


def matching(state: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """The part of ``state`` that holds the ``wanted`` names, without the prefix that they have there.

    The prefix is the one that makes most names match: ``module.`` of parallel training, ``backbone.``,
    ``module.model.`` of adversarial training, or none. What has another prefix is left out.
    """
    current = {_DENSENET.sub(r"\1\2.", key): value for key, value in state.items()}
    names = set(wanted)
    prefixes: Counter[str] = Counter()
    for key in current:
        parts = key.split(".")
        tails = (".".join(parts[start:]) for start in range(len(parts)))
        prefixes.update(key.removesuffix(tail) for tail in tails if tail in names)
    prefix = min(prefixes, key=lambda one: (-prefixes[one], len(one)), default="")
    found: OrderedDict[str, Tensor] = OrderedDict()
    found.update((key.removeprefix(prefix), value) for key, value in current.items() if key.startswith(prefix))
    metadata = getattr(state, "_metadata", {})
    found._metadata = {  # type: ignore[attr-defined]
        f"{key}.".removeprefix(prefix).removesuffix("."): value
        for key, value in metadata.items()
        if f"{key}.".startswith(prefix)
    }
    return found


def load(module: nn.Module, state: dict[str, Tensor], *, source: str, name: str) -> None:
    """Put ``state``, which ``matching`` returned, into ``module``; its tensors become the module's own.

    Args:
        module: may be on the meta device.
        state: tensors by the module's names.
        source: the file, for the error.
        name: the model, for the error.

    Raises:
        UsageError: tensors are missing, unknown or of another shape.
    """
    wanted = module.state_dict()
    # Files of torch before 0.4.1 have no such counters, and nothing is computed from them.
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in wanted]
    other = [
        f"{key}: {list(state[key].shape)} for {list(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in state and state[key].shape != tensor.shape
    ]
    if missing or unknown or other:
        raise misfit(source, name, len(wanted), missing=missing, unknown=unknown, other=other)
    try:
        module.load_state_dict(state, assign=True)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"{source} does not fit {name}: {str(error).splitlines()[0][:200]}", _REMEDY) from error
    module.float()


def misfit(
    source: str,
    name: str,
    count: int,
    *,
    missing: Sequence[str],
    unknown: Sequence[str] = (),
    other: Sequence[str] = (),
) -> UsageError:
    """The error that a checkpoint is another model's: how many of ``count`` tensors, with examples."""
    problems = [
        f"{len(keys)} {what} ({', '.join(keys[:_EXAMPLES])}{' ...' if len(keys) > _EXAMPLES else ''})"
        for keys, what in ((missing, "missing"), (unknown, "unexpected"), (other, "of another shape"))
        if keys
    ]
    return UsageError(f"{source} does not fit {name}: of {count} tensors, {', '.join(problems)}", _REMEDY)


def classes_in(module: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """The number of classes of ``state`` where its last layer has another size than the module's, else None."""
    weighted = [(path, usual) for path, part in module.named_modules() if (usual := kernel(part)) is not None]
    path, usual = weighted[-1]
    found = state.get(f"{path}.weight")
    return None if found is None or found.shape[0] == usual.shape[0] else int(found.shape[0])


def _unwrapped(path: Path, state: Any) -> Any:
    """What ``state`` holds in the usual wrappers, or in the only part of it that has tensors by name."""
    while isinstance(state, dict):
        names = [name for name in _WRAPPERS if isinstance(state.get(name), dict)][:1]
        if not names and not _tensors(state):
            names = [name for name, part in state.items() if _tensors(part)]
        if len(names) > 1:
            listed = clean_text(", ".join(map(str, names)), 200)
            raise UsageError(
                f"the weights file {path} holds several state dicts: {listed}",
                "save the one that you mean into a file of its own with torch.save",
            )
        if not names:
            break
        state = state[names[0]]
    return state


def _tensors(state: Any) -> OrderedDict[str, Tensor]:
    import torch

    found: OrderedDict[str, Tensor] = OrderedDict()
    if isinstance(state, dict):
        found.update(
            (key, value)
            for key, value in state.items()
            if isinstance(key, str) and isinstance(value, torch.Tensor)
        )
    return found


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingPartError(
            "reading .safetensors needs the package safetensors", "pip install 'line-neurons[torch]'"
        ) from error
    # Tensors of a mapped file lie anywhere in memory, and a CPU may compute other last bits with such weights.
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def _read_pickled(path: Path) -> Any:
    import torch

    # Training scripts save more than tensors: counters of numpy, schedules, functions. They are not on the list
    # of what torch reads, so each is read as an inert thing; the classes that the file names are never touched.
    inert: list[Any] = []
    while True:
        try:
            with torch.serialization.safe_globals(inert), warnings.catch_warnings():
                # It advises a call of torch's own, which is nobody's here.
                warnings.simplefilter("ignore", UserWarning)
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            unknown = _UNKNOWN.search(str(error))
            if unknown is None or len(inert) == _MOST_UNKNOWN:
                raise
            name = unknown[1] if "." in unknown[1] else f"builtins.{unknown[1]}"
            inert.append((_InertDict if "dict" in name.lower() else _Inert, name))
