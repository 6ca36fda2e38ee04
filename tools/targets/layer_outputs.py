"""What layers put out: captured with forward hooks, and pooled to one number a unit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import LayerInfo

if TYPE_CHECKING:
    from torch import Tensor, nn

    from line_neurons.agent.settings import Pool

Form = Literal["vector", "tokens", "sequence", "map", "map-last"]
"""[N, K]; [N, T, K]; [T, N, K]; [N, K, H, W] or [N, K, L]; [N, H, W, K]."""

# The shape of [N, K, H, W] and [N, H, W, K] tells them apart unless K = H = W; then the kind of the last
# leaf module does. Leaves not listed (activations, dropout) keep the layout of what came before.
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
_CLASS_TOKEN = re.compile(r"(?:.+\.)?(?:cls|class)_?(?:tokens?|embed|embedding)")
_POOLS: dict[str, tuple[Pool, ...]] = {
    "vector": ("auto", "mean", "max", "cls", "mean-tokens"),
    "tokens": ("auto", "cls", "mean-tokens"),
    "map": ("auto", "mean", "max"),
}


@dataclass(frozen=True)
class LayerOutput:
    """What one layer puts out.

    Args:
        info: path, kind of module, shape and number of units.
        form: which dimension is which.
        class_token: the first of the tokens stands for the whole picture.
    """

    info: LayerInfo
    form: Form
    class_token: bool = False


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


def kernel(module: nn.Module) -> Tensor | None:
    """The module's weight if that is a matrix or a convolution's kernel."""
    import torch

    weight = getattr(module, "weight", None)
    return weight if isinstance(weight, torch.Tensor) and weight.ndim >= 2 else None


def first_tensor(output: object) -> Tensor | None:
    """The output if it is a tensor, or the first tensor inside of a tuple, list or mapping.

    Attention modules return (output, weights); models of transformers return mappings that begin with the
    last hidden state or the logits.
    """
    import torch

    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, (tuple, list)):
        return next((found for part in output if (found := first_tensor(part)) is not None), None)
    return None


def find_layers(model: nn.Module, forward: Callable[[], object], pictures: int) -> dict[str, LayerOutput]:
    """Every layer of ``model`` whose output has units, through one forward pass.

    Args:
        model: in evaluation mode.
        forward: calls the model on square pictures.
        pictures: how many; with 3, tensors that have no batch (position biases) are hardly taken for outputs.

    Returns:
        The layers by path, in the order in which they first finish. A layer that runs more than once counts
        with its last output.
    """
    found: dict[str, LayerOutput] = {}
    grids: set[int] = set()
    named = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    has_token = any(_CLASS_TOKEN.fullmatch(name) for name in named)
    last = False

    def seen(path: str, module: nn.Module, output: object) -> None:
        nonlocal last
        kind = type(module).__name__
        if kind == "Permute":
            last = getattr(module, "dims", None) == [0, 2, 3, 1]
        elif kind in _UNITS_LAST | _UNITS_FIRST:
            last = kind in _UNITS_LAST
        tensor = first_tensor(output)
        if tensor is None or tensor.ndim not in (2, 3, 4) or not tensor.is_floating_point():
            return
        shape = tuple(tensor.shape)
        if len(shape) == 3 and shape[0] > 1 and shape[1] == pictures != shape[0]:
            form: Form = "sequence"
            shape = shape[1], shape[0], shape[2]
        elif shape[0] != pictures:
            return
        elif len(shape) == 3 and kind.endswith("1d"):
            form = "map"
        elif len(shape) == 4:
            _, first, second, third = shape
            if (first == second) != (second == third):
                last = first == second
            form = "map-last" if last else "map"
            if second in {first, third}:
                grids.add(second * second)
        else:
            form = "vector" if len(shape) == 2 else "tokens"
        tokens = shape[1] if form in {"tokens", "sequence"} else 0
        token = tokens > 0 and tokens not in grids and (has_token or tokens - 1 in grids)
        units = shape[1] if form == "map" else shape[-1]
        found[path] = LayerOutput(LayerInfo(path, kind, shape[1:], units), form, token)

    with hooked({path: module for path, module in model.named_modules() if path}, seen):
        forward()
    return found


def check_pool(layer: LayerOutput, pool: Pool, model: str) -> None:
    """See that ``pool`` fits what the layer puts out.

    Raises:
        UsageError: it is for maps and the layer puts out tokens, or the other way round, or there is no
            class token.
    """
    kind = {"sequence": "tokens", "map-last": "map"}.get(layer.form, layer.form)
    shape = " x ".join(map(str, layer.info.shape))
    if pool not in _POOLS[kind]:
        plural = {"map": "maps", "tokens": "tokens"}[kind]
        raise UsageError(
            f"pool {pool!r} does not fit {layer.info.path} of {model}, which puts out {plural} ({shape})",
            f"for {plural}: {', '.join(_POOLS[kind])}",
        )
    if pool == "cls" and kind == "tokens" and not layer.class_token:
        raise UsageError(
            f"pool 'cls' does not fit {layer.info.path} of {model}: its tokens ({shape}) have no class token",
            "use mean-tokens",
        )


def pooled(output: Tensor, layer: LayerOutput, pool: Pool) -> Tensor:
    """One number a unit and picture, as float32.

    Args:
        output: as ``layer.form`` says.
        layer: what is known of it.
        pool: one that ``check_pool`` accepts.

    Returns:
        [N, K].
    """
    output = output.float()
    if layer.form in {"map", "map-last"}:
        positions = tuple(range(2, output.ndim)) if layer.form == "map" else (1, 2)
        return output.amax(positions) if pool == "max" else output.mean(positions)
    if layer.form == "sequence":
        output = output.transpose(0, 1)
    if layer.form in {"tokens", "sequence"}:
        cls = pool == "cls" or (pool == "auto" and layer.class_token)
        return output[:, 0] if cls else output.mean(1)
    return output
