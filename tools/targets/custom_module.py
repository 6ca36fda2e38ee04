"""A user's own module: what identifies it, and one that lives in memory as a target."""

from __future__ import annotations

import ast
import copy
import hashlib
import inspect
import json
import site
import sysconfig
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.targets.base import ModelBundle, Wanted, brief
from line_neurons.tools.targets.known_transforms import Known, known_preprocessing, refuse_preparing
from line_neurons.tools.targets.sources import IN_MEMORY
from line_neurons.tools.targets.transforms import USUAL, usual

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    Transform = Callable[[Image], Tensor] | Literal["imagenet"]

_NAME_CHARACTERS = 60


def in_memory(spec: str) -> bool:
    """Whether a spec stands for a model that only the Python session that made it has."""
    return spec.partition(":")[0] == IN_MEMORY


def refuse_absent(wanted: Wanted) -> ModelBundle:
    """The source of models in memory for whoever was handed none.

    Raises:
        UsageError: always.
    """
    raise UsageError(
        f"the model {IN_MEMORY}:{wanted.model} lives in the memory of a Python session",
        "hand it over in Python: line_neurons.graphs.explain(model, layer, units)",
    )


def network_of(
    module: nn.Module, transform: Transform | None = None, class_names: Sequence[str] | None = None
) -> ModelBundle:
    """A module in memory with what belongs to it, as it is now: what is done to it later has no effect.

    Args:
        module: takes images as a batch [N, 3, H, W]; it is copied, and neither moved nor set to evaluation.
        transform: an image (RGB) to a float tensor [3, H, W], of the same size for every image; ``"imagenet"``:
            resize 256, crop 224, ImageNet's mean and standard deviation. None: what belongs to a model of timm,
            torchvision or transformers, where that is certain.
        class_names: of its output units.

    Raises:
        UsageError: it is no module, its preprocessing is not known, or it cannot be read or copied.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"the model is {type(module).__name__}", "give a torch.nn.Module, or a spec as a string")
    module = unwrapped(module)
    name = f"{IN_MEMORY}:{type(module).__name__[:_NAME_CHARACTERS]}"
    if isinstance(module, torch.jit.ScriptModule):
        raise UsageError(
            f"{name} is a TorchScript module, whose layers cannot be reached", "give the original one"
        )
    known = _preprocessing(module, name, transform)
    if class_names is not None and (isinstance(class_names, str) or not isinstance(class_names, Sequence)):
        raise UsageError(f"class_names is {type(class_names).__name__}", "give a list with the name of each class")
    identity = f"{state_hash(module, name)[:16]} (in memory, structure {brief(_structure(module))})"
    try:
        kept = copy.deepcopy(module).eval()
    except Exception as error:
        raise UsageError(
            f"{name} cannot be copied: {clean_text(str(error), 200)}",
            "give a module without tensors of a computation in hand, or a file: path/to/file.py:function",
        ) from error
    return ModelBundle(
        name=name,
        weights=identity,
        preprocessing=brief(known.identity),
        prepare=known.prepare,
        build=lambda: kept,
        classes=tuple(clean_text(str(one), 100) for one in class_names or ()),
        note=f"{name} is seen with the preprocessing of {known.told}" if known.told else "",
    )


def unwrapped(module: nn.Module) -> nn.Module:
    """The module without the wrappers of parallel training and of torch.compile, which rename its layers."""
    from torch.nn.parallel import DataParallel, DistributedDataParallel

    while True:
        if isinstance(module, (DataParallel, DistributedDataParallel)):
            module = module.module
        elif (compiled := getattr(module, "_orig_mod", None)) is not None:
            module = compiled
        else:
            return module


def state_hash(module: nn.Module, whose: str) -> str:
    """SHA-256 of all parameters and buffers, as hex.

    Raises:
        UsageError: one cannot be read.
    """
    # Buffers that are not saved with the module count too, so not its state_dict.
    import torch

    digest = hashlib.sha256()
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        try:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        except (RuntimeError, ValueError) as error:
            raise UsageError(
                f"{name} of {whose} cannot be read: {clean_text(str(error), 200)}",
                "let its weights be there, as plain tensors",
            ) from error
    return digest.hexdigest()


def _preprocessing(module: nn.Module, name: str, transform: Transform | None) -> Known:
    if transform is not None and not isinstance(transform, str):
        if not callable(transform):
            raise UsageError(
                f"transform is {type(transform).__name__}", 'give a function of an image, or "imagenet"'
            )
        known = [] if inspect.isroutine(transform) else [repr(transform)]
        return Known(transform, "\n".join([*known, *_code(transform)]), "")
    refuse_preparing(module, name)
    if transform == "imagenet":
        return Known(usual, USUAL, "")
    found = known_preprocessing(module) if transform is None else f"transform is {transform!r:.40}"
    if isinstance(found, Known):
        return found
    raise UsageError(
        f"the preprocessing of {name} is not known{found and f': {found}'}",
        'give transform=, the one of its evaluation: an image to a tensor [3, H, W]; or transform="imagenet" for'
        " resize 256, crop 224 and ImageNet's mean and standard deviation",
    )


def _structure(module: nn.Module) -> str:
    """Everything but the weights that decides what a module computes, as far as it can be read."""
    lines = [
        f"{path} {type(part).__module__}.{type(part).__qualname__} {part.extra_repr()} {_plain(part)}"
        for path, part in module.named_modules()
    ]
    for kind in dict.fromkeys(type(part) for part in module.modules()):
        lines += _class_code(kind)
    for part in module.modules():
        for hook in (*part._forward_pre_hooks.values(), *part._forward_hooks.values()):
            lines += _code(hook)
    return "\n".join(lines)


def _plain(part: object) -> str:
    """Attributes of an object that are plain values, as JSON."""
    found = {}
    for name, value in sorted(vars(part).items()):
        if name.startswith("_") or name == "training":
            continue
        try:
            found[name] = json.dumps(value)
        except (TypeError, ValueError):
            continue
    return json.dumps(found)


def _class_code(kind: type) -> Iterator[str]:
    """What the methods of a class of the user's own do; an installed library's class is known by its name."""
    for one in kind.__mro__:
        if _is_own(one):
            for name, function in sorted(vars(one).items()):
                if inspect.isfunction(function):
                    yield f"{one.__qualname__}.{name}"
                    yield from _code(function)


def _code(callable_: Any) -> Iterator[str]:
    """What a function does, or an object of a class of the user's own that can be called."""
    function = inspect.unwrap(getattr(callable_, "__func__", callable_))
    if not inspect.isfunction(function):
        yield from _class_code(type(callable_))
        yield _plain(callable_) if hasattr(callable_, "__dict__") else ""
        return
    try:
        # As it is understood: without comments and line breaks.
        yield ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(function))))
    except (OSError, TypeError, SyntaxError):
        yield f"{function.__code__.co_code.hex()} {function.__code__.co_consts!r} {function.__code__.co_names!r}"
    for cell in function.__closure__ or ():
        try:
            yield repr(cell.cell_contents)
        except ValueError:
            continue


def _is_own(kind: type) -> bool:
    if kind.__module__ == "builtins":
        return False
    try:
        file = Path(inspect.getfile(kind)).resolve()
    except (TypeError, OSError):
        return True
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
    return not any(
        file.is_relative_to(Path(place).resolve()) for place in {*libraries, site.getusersitepackages()}
    )
