"""Random numbers that code draws: the state of the shared generators, and draws of extreme numbers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils._python_dispatch import TorchDispatchMode

_REPEATS = 3
_UNIFORM = {"rand", "rand_like", "uniform", "uniform_"}
_COINS = {"bernoulli", "bernoulli_"}
_ALMOST_ONE = 1 - 2**-8
"""Below 1 in every precision."""


def random_state() -> tuple[object, ...]:
    """Return the state of the generators of Python, NumPy (the legacy one) and torch, of all devices in use."""
    import numpy as np
    import torch

    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states += [torch.cuda.get_rng_state(device) for device in range(torch.cuda.device_count())]
    legacy = np.random.get_state(legacy=False)
    inner = legacy["state"]
    of_numpy = (inner["key"].tobytes(), inner["pos"], legacy["has_gauss"], legacy["gauss"])
    return (random.getstate(), of_numpy, *(state.numpy().tobytes() for state in states))


def draws_numbers(call: Callable[[], object]) -> bool:
    """Tell whether each of a few calls changes the state; one change may be another thread's."""
    return all(_changes_state(call) for _ in range(_REPEATS))


def _changes_state(call: Callable[[], object]) -> bool:
    before = random_state()
    call()
    return random_state() != before


def extreme_draws(*, high: bool) -> TorchDispatchMode:
    """Return a mode in which torch draws its lowest or highest numbers, so that even rare effects show."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Extreme(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            with self:
                # In inference mode functions such as dropout arrive whole.
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
            output = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__
            if name in _COINS and isinstance(output, torch.Tensor):
                output.fill_(1 if high else 0)
            elif name in _UNIFORM and isinstance(output, torch.Tensor):
                low, end = (*args[1:3], 0, 1)[:2] if name.startswith("uniform") and len(args) > 2 else (0, 1)
                output.fill_(low + (end - low) * (_ALMOST_ONE if high else 0))
            elif name == "native_dropout" and args[2]:
                values, mask = output
                mask.fill_(high)
                values.copy_(args[0]) if high else values.zero_()
            return output

    return Extreme()  # type: ignore[no-untyped-call]
