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


def hold_arithmetic() -> None:
    """Hold the process to arithmetic that gives the same bits each time on a GPU.

    That is: no TF32, and no trials of which algorithm is fastest. These switches are the process's, and generator
    and target compute at the same time in threads of their own. So all of them set the same values before they
    compute, and nobody sets them back: what another library or the user's code has set meanwhile is gone with the
    next computation, and no computation changes another's.
    """
    import torch

    cudnn = torch.backends.cudnn
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = True, False, True, False
    torch.set_float32_matmul_precision("highest")


def memory_spent(error: Exception) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    import torch

    said = str(error).lower()
    named = isinstance(error, RuntimeError) and any(words in said for words in _MEMORY_SPENT)
    return named or isinstance(error, (torch.OutOfMemoryError, MemoryError))
