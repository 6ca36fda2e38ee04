"""Devices that models run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError, reason_of

if TYPE_CHECKING:
    import torch


_MEMORY_SPENT = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


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


def memory_spent(error: Exception) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    import torch

    said = str(error).lower()
    named = isinstance(error, RuntimeError) and any(words in said for words in _MEMORY_SPENT)
    return named or isinstance(error, (torch.OutOfMemoryError, MemoryError))
