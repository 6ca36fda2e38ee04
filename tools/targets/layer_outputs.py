"""What layers put out: captured with forward hooks, and pooled to one number a unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from line_neurons.agent.ports import LayerInfo

if TYPE_CHECKING:
    from torch import Tensor, nn

Pooling = Literal["mean", "max"]
"""Over the positions of a convolutional map."""

Tokens = Literal["cls", "mean"]
"""Over the tokens of a transformer: the class token, or the mean of all."""

# Shape alone cannot tell [N, K, H, W] from [N, H, W, K]; the kind of the last leaf module can. Leaves
# not listed (activations, dropout) keep the layout of what came before.
_UNITS_LAST = {"Linear", "LayerNorm", "WindowPartition"}
_UNITS_FIRST = {
    "Conv2d",
    "BatchNorm2d",
    "MaxPool2d",
    "AvgPool2d",
    "AdaptiveAvgPool2d",
    "LayerNorm2d",
    "WindowDepartition",
}


@contextmanager
def hooked(modules: Mapping[str, nn.Module], seen: Callable[[str, nn.Module, Any], None]) -> Iterator[None]:
    """Call ``seen(path, module, output)`` after each forward of ``modules``; hooks are removed at the end."""

    def hook(path: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, _, output: seen(path, module, output)

    handles = [module.register_forward_hook(hook(path)) for path, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(output: object) -> Tensor | None:
    """The output if it is a tensor, or the first tensor of a tuple or list (as attention returns one)."""
    import torch

    if isinstance(output, (tuple, list)):
        output = next((part for part in output if isinstance(part, torch.Tensor)), None)
    return output if isinstance(output, torch.Tensor) else None


def find_layers(model: nn.Module, images: Tensor) -> tuple[dict[str, LayerInfo], frozenset[str]]:
    """Every layer of ``model`` whose output has units, through one forward pass.

    Args:
        model: in evaluation mode.
        images: float [N, 3, H, W]; N of at least 2 tells tensors that have no batch (position biases).

    Returns:
        The layers by path, in the order in which they first finish, and the paths of those whose
        four-dimensional output is [N, H, W, K]. A layer that runs more than once counts with its last output.
    """
    found: dict[str, LayerInfo] = {}
    units_last: set[str] = set()
    last = False

    def seen(path: str, module: nn.Module, output: object) -> None:
        nonlocal last
        kind = type(module).__name__
        if kind == "Permute":
            last = getattr(module, "dims", None) == [0, 2, 3, 1]
        elif kind in _UNITS_LAST | _UNITS_FIRST:
            last = kind in _UNITS_LAST
        tensor = first_tensor(output)
        if tensor is None or tensor.ndim not in (2, 3, 4) or len(tensor) != len(images):
            return
        shape = tuple(tensor.shape[1:])
        first = len(shape) == 3 and not last
        found[path] = LayerInfo(path, kind, shape, shape[0] if first else shape[-1])
        if len(shape) == 3 and last:
            units_last.add(path)

    with hooked({path: module for path, module in model.named_modules() if path}, seen):
        model(images)
    return found, frozenset(units_last)


def pool(output: Tensor, *, units_last: bool, pooling: Pooling, tokens: Tokens) -> Tensor:
    """One number a unit and picture.

    Args:
        output: [N, K], [N, T, K] or [N, K, H, W]; [N, H, W, K] with ``units_last``.
        units_last: the units of a four-dimensional output are its last dimension.
        pooling: over H and W.
        tokens: over T.

    Returns:
        [N, K].
    """
    if output.ndim == 4:
        positions = (1, 2) if units_last else (2, 3)
        return output.mean(positions) if pooling == "mean" else output.amax(positions)
    if output.ndim == 3:
        return output[:, 0] if tokens == "cls" else output.mean(1)
    return output
