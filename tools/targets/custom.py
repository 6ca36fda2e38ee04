"""A user's own model: a module in memory, or a function that returns one."""

from __future__ import annotations

import ast
import copy
import hashlib
import importlib
import importlib.util
import inspect
import json
import site
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from line_neurons.agent.errors import LineError, UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.target_specs import IN_MEMORY, known_prefixes
from line_neurons.tools.targets.base import ModelBundle, ModelRequest, short_hash
from line_neurons.tools.targets.known_transforms import Preprocessing, known_preprocessing, refuse_preparing
from line_neurons.tools.targets.transforms import IMAGENET_TRANSFORM, imagenet_transform
from line_neurons.tools.targets.weights.checkpoint import find_network, load
from line_neurons.tools.targets.weights.files import read_checkpoint, weights_file
from line_neurons.tools.targets.weights.initial_values import is_untrained, random_weights

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    Transform = Callable[[Image], Tensor] | Literal["imagenet"]

_NAME_CHARACTERS = 60
_FORM = "return the module, or (module, transform), or (module, transform, class names)"


def in_memory(spec: str) -> bool:
    """Tell whether a spec names a model that exists only in the Python session that made it."""
    return spec.partition(":")[0] == IN_MEMORY


def refuse_absent(request: ModelRequest) -> ModelBundle:
    """Refuse to open a model in memory by its spec.

    Raises:
        UsageError: always.
    """
    raise UsageError(
        f"the model {IN_MEMORY}:{request.model} lives in the memory of a Python session",
        "hand it over in Python: line_neurons.graphs.explain(model, layer, units)",
    )


def bundle_from_module(
    module: nn.Module, transform: Transform | None = None, class_names: Sequence[str] | None = None
) -> ModelBundle:
    """Bundle a copy of a module in memory with its preprocessing and identity.

    Later changes to the module have no effect.

    Args:
        module: takes images as a batch [N, 3, H, W]; it is copied, and neither moved nor set to evaluation.
        transform: maps an RGB image to a float tensor [3, H, W], of the same size for every image; ``"imagenet"``:
            resize 256, crop 224, ImageNet's mean and standard deviation. None: the preprocessing of a model of
            timm, torchvision or transformers, where that is certain.

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
            f"{name} is a TorchScript module, and its layers cannot be accessed", "give the original one"
        )
    known = _module_preprocessing(module, name, transform)
    if class_names is not None and (isinstance(class_names, str) or not isinstance(class_names, Sequence)):
        raise UsageError(f"class_names is {type(class_names).__name__}", "give a list with the name of each class")
    identity = f"{state_hash(module, name)[:16]} (in memory, structure {short_hash(_structure(module))})"
    try:
        kept = copy.deepcopy(module).eval()
    except Exception as error:
        raise UsageError(
            f"{name} cannot be copied: {clean_text(str(error), 200)}",
            "give a module without tensors of a running computation, or a file: path/to/file.py:function",
        ) from error
    return ModelBundle(
        name=name,
        weights=identity,
        preprocessing=short_hash(known.identity),
        prepare=known.prepare,
        build=lambda: kept,
        classes=tuple(clean_text(str(name), 100) for name in class_names or ()),
        note=f"{name} is used with the preprocessing of {known.source}" if known.source else "",
        doubts=_doubts(random_weights(kept, name)),
        own_classes=True,
        own_preprocessing=callable(transform),
    )


def unwrapped(module: nn.Module) -> nn.Module:
    """Remove the wrappers of parallel training and torch.compile, which rename layers."""
    from torch.nn.parallel import DataParallel, DistributedDataParallel

    while True:
        if isinstance(module, (DataParallel, DistributedDataParallel)):
            module = module.module
        elif (compiled := getattr(module, "_orig_mod", None)) is not None:
            module = compiled
        else:
            return module


def state_hash(module: nn.Module, whose: str) -> str:
    """Compute the SHA-256 of all parameters and buffers, as hex.

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


def _module_preprocessing(module: nn.Module, name: str, transform: Transform | None) -> Preprocessing:
    if transform is not None and not isinstance(transform, str):
        if not callable(transform):
            raise UsageError(
                f"transform is {type(transform).__name__}", 'give a function of an image, or "imagenet"'
            )
        known = [] if inspect.isroutine(transform) else [repr(transform)]
        return Preprocessing(transform, "\n".join([*known, *_code(transform)]), "")
    refuse_preparing(module, name)
    if transform == "imagenet":
        return Preprocessing(imagenet_transform, IMAGENET_TRANSFORM, "")
    found = known_preprocessing(module) if transform is None else f"transform is {transform!r:.40}"
    if isinstance(found, Preprocessing):
        return found
    raise UsageError(
        f"the preprocessing of {name} is not known{found and f': {found}'}",
        'give transform=, the one of its evaluation: an image to a tensor [3, H, W]; or transform="imagenet" for'
        " resize 256, crop 224 and ImageNet's mean and standard deviation",
    )


def _structure(module: nn.Module) -> str:
    """Describe what decides a module's computation besides its weights."""
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
    """Serialize the attributes of an object that are plain values, as JSON."""
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
    """Yield the code of a user's own class; library classes are named only."""
    for one in kind.__mro__:
        if _is_own(one):
            for name, function in sorted(vars(one).items()):
                if inspect.isfunction(function):
                    yield f"{one.__qualname__}.{name}"
                    yield from _code(function)


def _code(callable_: Any) -> Iterator[str]:
    """Yield the code of a function, or of an object of a user's own class that can be called."""
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


def open_function(spec: str, request: ModelRequest) -> ModelBundle:
    """Open the model that ``package.module:function`` or ``path/to/file.py:function`` returns.

    The function is called with ``weights=FILE`` if ``--weights`` is given and it has such an argument, else
    without arguments; a checkpoint that it does not take is loaded into its module. It returns the module, or
    (module, transform), or (module, transform, class names); a transform of None stands for the preprocessing of a
    model of timm, torchvision or transformers where that is certain, and else for resize 256, crop 224 and
    ImageNet's mean and standard deviation.

    Raises:
        UsageError: there is no such function, it fails, or it returns something else.
    """
    place, _, name = spec.rpartition(":")
    if not place:
        place, name = name, ""
    folder = Path(place).resolve().parent if place.endswith(".py") else Path.cwd()
    with _first_on_path(folder):
        function = _find(spec, place, name)
        returned = _call(spec, function, request.weights)
    module, transform, classes = _parts(spec, returned)
    module.eval()
    # The same wherever the file lies: what is in it is in the hashes.
    weights = state_hash(module, f"the module that {spec} returned")
    known, note, guessed = _function_preprocessing(module, transform, spec)
    if inspect.isclass(function) and request.weights is None and is_untrained(module):
        raise UsageError(
            f"{spec} is a class, and calling it gives random weights",
            "give its checkpoint with --weights FILE, or name a function that loads it and returns the module",
        )
    return ModelBundle(
        name=f"{Path(place).stem if place.endswith('.py') else place}:{name}",
        weights=f"{weights[:16]} (own, source {_source_hash(function)})",
        preprocessing=short_hash(known.identity),
        prepare=known.prepare,
        build=lambda: module,
        classes=tuple(clean_text(str(name), 100) for name in classes or ()),
        note=note,
        doubts=_doubts(random_weights(module, spec), guessed),
        own_classes=True,
        own_preprocessing=transform is not None,
        typed=spec,
    )


def _doubts(*doubts: str) -> tuple[str, ...]:
    return tuple(doubt for doubt in doubts if doubt)


def _function_preprocessing(
    module: nn.Module, transform: Callable[..., Any] | None, spec: str
) -> tuple[Preprocessing, str, str]:
    """Return the preprocessing; where the function returns none also a note about it, or a doubt if guessed."""
    if transform is not None:
        return Preprocessing(transform, _described(transform), ""), "", ""
    refuse_preparing(module, f"what {spec} returned")
    found = known_preprocessing(module)
    used = f"what {spec} returned is used with the preprocessing of"
    if isinstance(found, Preprocessing):
        return found, f"{used} {found.source}", ""
    guessed = (
        f"{used} ImageNet (resize 256, crop 224): the function returns none"
        f"{f', and {found}' if found else ''} (return (module, transform) with that of its training)"
    )
    return Preprocessing(imagenet_transform, IMAGENET_TRANSFORM, ""), "", guessed


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        # What the user's code imports later is still found, but shadows nothing of anyone else's.
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def _find(spec: str, place: str, name: str) -> Callable[..., Any]:
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except LineError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{place}.".startswith(f"{error.name}."):
            raise UsageError(
                f"{spec!r} names no model: there is no module {error.name!r} here or installed",
                f"your own module must lie in the current folder; others start with {known_prefixes()}",
            ) from error
        raise _failure(f"importing {place}", error) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"{place} has no function {name!r}", "name it as MODULE:FUNCTION")
    found: Callable[..., Any] = function
    return found


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no file {path}", "give the path of a Python file")
    spec = importlib.util.spec_from_file_location(f"line_own_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Classes find their module by name when they are made (dataclasses do).
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _call(spec: str, function: Callable[..., Any], weights: Path | None) -> Any:
    file = weights_file(weights) if weights else None
    try:
        taken = file is not None and "weights" in inspect.signature(function).parameters
        if taken and file is not None and file.network is not None:
            raise UsageError(
                f"{spec} reads {file.path} itself, so its network {file.network!r:.200} cannot be chosen here",
                "give the file alone, or leave the argument `weights` out of the function",
            )
        returned = function(weights=file.path) if file is not None and taken else function()
    except LineError:
        raise
    except (Exception, SystemExit) as error:
        raise _failure(spec, error) from error
    if file is not None and not taken:
        module = _parts(spec, returned)[0]
        load(module, find_network(read_checkpoint(file), module.state_dict(), name=spec), name=spec)
    return returned


def _failure(what: str, error: BaseException) -> UsageError:
    reason = clean_text(str(error), 200)
    return UsageError(
        f"{what} failed: {type(error).__name__}{': ' + reason if reason else ''}", "--debug shows where"
    )


def _parts(spec: str, returned: Any) -> tuple[nn.Module, Any, Sequence[Any] | None]:
    import torch

    given = returned if isinstance(returned, tuple) else (returned,)
    module, transform, classes = (*given, None, None, None)[:3]
    known = classes is None or (isinstance(classes, Sequence) and not isinstance(classes, (str, bytes)))
    fits = isinstance(module, torch.nn.Module) and (transform is None or callable(transform)) and known
    if not fits or len(given) > 3:
        kinds = type(returned).__name__
        if isinstance(returned, tuple):
            kinds = f"({', '.join(type(part).__name__ for part in returned)})"
        raise UsageError(f"{spec} returned {kinds}", _FORM)
    module = unwrapped(module)
    if isinstance(module, torch.jit.ScriptModule):
        raise UsageError(
            f"{spec} returned a TorchScript module, and its layers cannot be accessed",
            "return the module that it was made from",
        )
    return module, transform, classes


def _source_hash(function: Callable[..., Any]) -> str:
    try:
        file = Path(inspect.getfile(inspect.unwrap(function)))
        return hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    except (TypeError, OSError):
        return "unknown"


def _described(transform: Callable[..., Any]) -> str:
    # A plain function's repr is its name alone.
    try:
        return inspect.getsource(transform) if inspect.isroutine(transform) else repr(transform)
    except (OSError, TypeError):
        return repr(transform)
