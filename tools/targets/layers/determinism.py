"""Check that a layer gives an image the same values each time and in any batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from line_neurons.agent.errors import UsageError
from line_neurons.tools.targets.layers.layouts import observed_again
from line_neurons.tools.targets.random_state import extreme_draws, random_state

if TYPE_CHECKING:
    from torch import Tensor, nn

    from line_neurons.tools.targets.layers.observation import Observation

_ROUNDING = 1e-4
_HALF_ROUNDING = 2e-2
"""Largest difference that is rounding, as a share of the largest value of the layer."""
_DRAWS = 8
"""Passes through a model that draws random numbers; one pass might draw the same.

Two more with extreme numbers show what happens too seldom for these, such as a skipped layer.
"""

_ALL = slice(None)
_SAME_IMAGE = slice(0, 1), slice(1, None)

_CAUSES: Mapping[Literal["random", "batch"], tuple[str, str]] = {
    "random": (
        "gives several values for the same image",
        "leave out the random operations before it, such as dropout or masking that is on without training",
    ),
    "batch": (
        "gives an image other values beside other images of a batch",
        "let it normalise with recorded statistics, or take a layer before it",
    ),
}


@dataclass(frozen=True)
class Nondeterminism:
    """A layer whose values for one image differ.

    Args:
        cause: they differ from pass to pass, or with the other images of the batch.
        difference: the largest, as a share of the largest value.
    """

    cause: Literal["random", "batch"]
    difference: float

    def error(self, path: str, model: str) -> UsageError:
        """Return the error for the user."""
        what, remedy = _CAUSES[self.cause]
        return UsageError(f"layer {path} of {model} {what} (up to {self.difference:.0%} of its largest)", remedy)


def nondeterministic_layers(
    model: nn.Module,
    call: Callable[[Tensor], object],
    first: Observation,
    batch: Tensor,
    other: Tensor,
    *,
    half: bool = False,
) -> dict[str, Nondeterminism]:
    """Find the layers that give an image several values, by path.

    Args:
        model: in evaluation mode.
        first: the observation of a pass on ``batch``.
        batch: images [N, C, H, W].
        other: another batch of N: one image that is not in ``batch``, then the first of ``batch`` in all places.
        half: weights and images are in half precision.

    Raises:
        Exception: whatever the model raises.
    """
    allowed = _HALF_ROUNDING if half else _ROUNDING
    state = random_state()
    passes = [observed_again(model, call, other)]
    if state != random_state():
        passes += [observed_again(model, call, other) for _ in range(_DRAWS - 1)]
        passes += [_extreme_pass(model, call, other, high=high) for high in (False, True)]
    apart = {path: max(_apart(first, seen, path, places=_SAME_IMAGE) for seen in passes) for path in first.layers}
    differing = {path: share for path, share in apart.items() if share > allowed}
    if not differing:
        return {}
    repeats = [(first, observed_again(model, call, batch)), *((passes[0], seen) for seen in passes[1:])]
    return {
        path: Nondeterminism(
            "random" if any(_apart(*pair, path) > allowed for pair in repeats) else "batch", share
        )
        for path, share in differing.items()
    }


def _extreme_pass(model: nn.Module, call: Callable[[Tensor], object], batch: Tensor, *, high: bool) -> Observation:
    with extreme_draws(high=high):
        return observed_again(model, call, batch)


def _apart(
    one: Observation, other: Observation, path: str, *, places: tuple[slice, slice] = (_ALL, _ALL)
) -> float:
    """Compute the largest relative difference of a layer's values in two passes."""
    import torch

    rows, others = (seen.layers[path].sample if path in seen.layers else None for seen in (one, other))
    if rows is None or others is None:
        return 0.0
    scale = float(rows.nan_to_num(0, 0, 0).abs().max())
    rows, others = rows[places[0]], others[places[1]]
    same = (rows == others) | (rows.isnan() & others.isnan())
    difference = torch.where(same, 0.0, (rows - others).abs())
    if not bool(difference.any()):
        return 0.0
    largest = float(difference.nan_to_num(float("inf")).max())
    return largest / scale if scale and largest < float("inf") else 1.0
