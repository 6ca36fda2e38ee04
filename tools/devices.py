"""Devices that models run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError, reason_of

if TYPE_CHECKING:
    import torch


def find_device(name: str) -> torch.device:
    """The torch device of that name; ``auto`` is CUDA where there is one.

    Raises:
        UsageError: the device cannot be used here.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"the device {name!r} cannot be used: {reason_of(error)}", "auto or cpu") from error
    return device
