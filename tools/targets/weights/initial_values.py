"""Recognise weights as their library initialises them: random, because nothing was loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from line_neurons.agent.text import clean_text

if TYPE_CHECKING:
    from torch import Tensor, nn

_FEW = 1000
"""Fewer weights tell nothing of a single layer."""
_EDGE = 20
"""Of n uniform numbers the largest lies this many n-ths below their bound with a probability of exp(-20)."""
_ERRORS = 5
"""Standard errors within which a kurtosis is that of the distribution."""
_KURTOSES = (3.0, 1.8)
"""Of normal and of uniform numbers; those of trained weights have longer tails."""
_REMEDY = "load a checkpoint before the model is handed over; a function's can be given with --weights"


def random_weights(module: nn.Module, name: str) -> str:
    """Say which weights are as initialised, in a sentence; empty if none are.

    All are if every normalisation layer has its initial values, or, in a module without such layers, if every
    kernel has. Of a trained module, layers of at least 1,000 weights are named that have PyTorch's usual ones.
    """
    if is_untrained(module):
        return f"the weights of {name} are random: all layers have their initial values ({_REMEDY})"
    layers = [path for path, weight in _kernels(module) if weight.numel() >= _FEW and _fills_bound(weight)]
    if not layers:
        return ""
    listed = f"{', '.join(layers[:3])}{' ...' if len(layers) > 3 else ''}"
    what = f"layer {listed} of {name} has" if len(layers) == 1 else f"{len(layers)} layers of {name} have"
    named = "" if len(layers) == 1 else f": {listed}"
    return clean_text(f"{what} random weights, as nothing was loaded{named} ({_REMEDY})", 400)


def is_untrained(module: nn.Module) -> bool:
    """Tell whether all of a module's weights are as initialised."""
    norms = [fresh for part in module.modules() if (fresh := _norm_is_fresh(part)) is not None]
    if norms:
        return all(norms)
    weights = [weight for _, weight in _kernels(module)]
    if not weights or sum(weight.numel() for weight in weights) < _FEW:
        return False
    if all(map(_fills_bound, weights)):
        return True
    biases = [tensor for name, tensor in module.named_parameters() if name.rpartition(".")[2] == "bias"]
    return bool(biases) and not any(bool(bias.any()) for bias in biases) and all(map(_looks_drawn, weights))


def _kernels(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    for path, part in module.named_modules():
        if isinstance(part, (nn.Linear, _ConvNd)) and part.weight.is_floating_point() and part.weight.numel():
            yield path, part.weight.detach()


def _norm_is_fresh(part: nn.Module) -> bool | None:
    """Tell whether a normalisation layer has its initial values; None if the module is none, or has no values."""
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    if isinstance(part, _NormBase) and part.running_mean is not None and part.running_var is not None:
        return not bool(part.running_mean.any()) and bool((part.running_var == 1).all())
    weight = getattr(part, "weight", None)
    if not isinstance(part, (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)) or weight is None:
        return None
    bias = getattr(part, "bias", None)
    return bool((weight == 1).all()) and (bias is None or not bool(bias.any()))


def _fills_bound(weight: Tensor) -> bool:
    """Tell whether weights fill the range that PyTorch draws them from, and do not leave it, as training does."""
    count, inputs = weight.numel(), weight[0].numel()
    largest = float(weight.abs().max()) * math.sqrt(inputs)
    return 1 - _EDGE / count <= largest <= 1 + 1e-5


def _looks_drawn(weight: Tensor) -> bool:
    values = weight.float().flatten()
    if len(values) < 2 or not bool(values.any()):
        return False
    apart = values - values.mean()
    kurtosis = float((apart**4).mean()) / float((apart**2).mean()) ** 2
    allowed = _ERRORS * (24 / len(values)) ** 0.5
    return any(abs(kurtosis - usual) <= allowed for usual in _KURTOSES)
