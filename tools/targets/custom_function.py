"""A user's own function that returns a model, as a target."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import LineError, UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.targets.base import ModelBundle, Wanted, brief
from line_neurons.tools.targets.custom_module import state_hash, unwrapped
from line_neurons.tools.targets.known_transforms import Known, known_preprocessing, refuse_preparing
from line_neurons.tools.targets.transforms import USUAL, usual
from line_neurons.tools.targets.weights.checkpoint import find_network, load
from line_neurons.tools.targets.weights.files import read_checkpoint, weights_file

if TYPE_CHECKING:
    from torch import nn

_FORM = "return the module, or (module, transform), or (module, transform, class names)"


def open_function(spec: str, wanted: Wanted) -> ModelBundle:
    """The model that ``package.module:function`` or ``path/to/file.py:function`` returns.

    The function is called with ``weights=FILE`` if ``--weights`` is given and it has such an argument, else
    without arguments; a checkpoint that it does not take is loaded into its module. It returns the module, or
    (module, transform), or (module, transform, class names); a transform of None stands for what belongs to a
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
        returned = _call(spec, function, wanted.weights)
    module, transform, classes = _parts(spec, returned)
    module.eval()
    # The same wherever the file lies: what is in it is in the hashes.
    weights = state_hash(module, f"the module that {spec} returned")
    known, told = _preprocessing(module, transform, spec)
    return ModelBundle(
        name=f"{Path(place).stem if place.endswith('.py') else place}:{name}",
        weights=f"{weights[:16]} (own, source {_source_hash(function)})",
        preprocessing=brief(known.identity),
        prepare=known.prepare,
        build=lambda: module,
        classes=tuple(clean_text(str(one), 100) for one in classes or ()),
        note=told,
    )


def _preprocessing(module: nn.Module, transform: Callable[..., Any] | None, spec: str) -> tuple[Known, str]:
    """The preprocessing, and a line for the screen where the function returns none."""
    if transform is not None:
        return Known(transform, _described(transform), ""), ""
    refuse_preparing(module, f"what {spec} returned")
    found = known_preprocessing(module)
    if not isinstance(found, Known):
        found = Known(usual, USUAL, "ImageNet (resize 256, crop 224): the function returns none")
    return found, f"what {spec} returned is seen with the preprocessing of {found.told}"


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
            from line_neurons.tools.targets.registry import known_prefixes

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
            f"{spec} returned a TorchScript module, whose layers cannot be reached",
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
