"""Open a target from its spec, ``torchvision:mobilenet_v2``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import Target
from line_neurons.tools.targets.layer_outputs import Pooling, Tokens

# Where each prefix's class lives; imported only when asked for, because they bring torch.
TARGETS = {"torchvision": ("line_neurons.tools.targets.torchvision_target", "TorchvisionTarget")}


def open_target(
    spec: str,
    *,
    assets: Path | None = None,
    weights: Path | None = None,
    pooling: Pooling = "mean",
    tokens: Tokens = "cls",
    device: str = "auto",
    batch_size: int | None = None,
    download: bool = False,
) -> Target:
    """The target that ``spec`` names; its weights are read on first use.

    Args:
        spec: ``prefix:model`` or ``prefix:model@WEIGHTS``.
        assets: folder of the installed asset packs.
        weights: a checkpoint of the user's own, instead of the official weights.
        pooling: how a convolutional map becomes one number a unit.
        tokens: how a transformer's tokens become one number a unit.
        device: ``auto``, or a torch device such as ``cpu`` or ``cuda:1``.
        batch_size: pictures in each forward pass; the target's own choice if None.
        download: let the library fetch official weights that are not here.

    Raises:
        UsageError: no such prefix, model, official weights or device.
        MissingPartError: the library is not installed.
    """
    prefix, colon, model = spec.partition(":")
    if not colon or prefix not in TARGETS:
        known = ", ".join(f"{name}:" for name in TARGETS)
        raise UsageError(f"{spec!r} names no model", f"a model starts with {known} as in torchvision:mobilenet_v2")
    module, name = TARGETS[prefix]
    opened = getattr(import_module(module), name)(
        model,
        assets=assets,
        weights=weights,
        pooling=pooling,
        tokens=tokens,
        device=device,
        batch_size=batch_size,
        download=download,
    )
    return cast(Target, opened)
