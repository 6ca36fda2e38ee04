"""Earlier rules for reading a layer's output: by equal sides and counts of tokens.

Values of a layer that is read differently now must not be mixed with earlier ones; those of all other layers stay
valid. So both readings are compared, layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from line_neurons.tools.targets.layers.outputs import Form

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


def former_readings(
    outputs: Iterable[tuple[str, nn.Module, tuple[int, ...]]], has_class_token: bool, images: int
) -> dict[str, tuple[Form, bool]]:
    """Return each layer's form by the earlier rules, and if it had a class token.

    Args:
        outputs: path, module and shape of every output of a forward pass, in order.
        has_class_token: the model has a parameter of that name.
    """
    found: dict[str, tuple[Form, bool]] = {}
    grids: set[int] = set()
    last = False
    for path, module, whole in outputs:
        shape, kind = whole, type(module).__name__
        if kind == "Permute":
            last = getattr(module, "dims", None) == [0, 2, 3, 1]
        elif kind in _UNITS_LAST | _UNITS_FIRST:
            last = kind in _UNITS_LAST
        if len(shape) not in (2, 3, 4):
            continue
        if len(shape) == 3 and shape[0] > 1 and shape[1] == images != shape[0]:
            form: Form = "sequence"
            shape = shape[1], shape[0], shape[2]
        elif shape[0] != images:
            continue
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
        count = shape[1] if form in {"tokens", "sequence"} else 0
        found[path] = form, count > 0 and count not in grids and (has_class_token or count - 1 in grids)
    return found
