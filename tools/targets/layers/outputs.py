"""Layer outputs: captured with forward hooks, and pooled to one number per unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import LayerInfo

if TYPE_CHECKING:
    from torch import Tensor, nn

    from line_neurons.agent.settings import Layout, Pool

Form = Literal["vector", "tokens", "sequence", "map", "map-last"]
"""[N, K]; [N, T, K]; [T, N, K]; [N, K, H, W] or [N, K, L]; [N, H, W, K]."""

Rule = Literal["given", "kind", "neighbour", "sizes", "usual kind"]
"""From what it is known which dimension counts the units.

The user; the kind of the module; a layer that its tensor comes from or goes to; images of another size; the kind
that the module is made after.
"""

LAYOUTS: Mapping[Layout, frozenset[Form]] = {
    "channels-first": frozenset({"map"}),
    "channels-last": frozenset({"map-last"}),
    "tokens": frozenset({"tokens", "sequence"}),
}
_POOLS: dict[str, tuple[Pool, ...]] = {
    "vector": ("auto", "mean", "max", "cls", "mean-tokens"),
    "tokens": ("auto", "cls", "mean-tokens"),
    "map": ("auto", "mean", "max"),
}


@dataclass(frozen=True)
class LayerOutput:
    """The output of one layer.

    Args:
        info: path, kind of module, shape and number of units.
        form: which dimension is which.
        class_token: the first of the tokens stands for the whole image; None if that is not known.
        rule: from what the form is known.
    """

    info: LayerInfo
    form: Form
    class_token: bool | None = False
    rule: Rule = "kind"

    def with_legacy_mark(self, former: tuple[Form, bool] | None, pool: Pool) -> LayerOutput:
        """Mark ``info.reading`` where the earlier rules give other values."""
        if former is None or self._values(*former, pool) == self._values(self.form, self.class_token, pool):
            return self
        layout = next((name for name, forms in LAYOUTS.items() if self.form in forms), "vector")
        token = f",class-token={'yes' if self.class_token else 'no'}" if layout == "tokens" else ""
        return replace(self, info=replace(self.info, reading=f" layout={layout}{token}"))

    def _values(self, form: Form, class_token: bool | None, pool: Pool) -> tuple[Form, bool]:
        """Return what decides the values of a reading: with one token, it is its own mean."""
        several = form in {"tokens", "sequence"} and self.info.shape[0] > 1
        return form, bool(class_token) and several and pool in {"auto", "cls"}


@contextmanager
def hooked(modules: Mapping[str, nn.Module], seen: Callable[[str, nn.Module, Any, Any], None]) -> Iterator[None]:
    """Call ``seen(path, module, output, arguments)`` after each forward of ``modules``.

    The arguments are the positional ones, then those by name. The hooks are removed at the end.
    """

    def hook(path: str) -> Callable[[nn.Module, Any, Any, Any], None]:
        return lambda module, given, named, output: seen(path, module, output, (*given, *named.values()))

    handles = [module.register_forward_hook(hook(path), with_kwargs=True) for path, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def kernel(module: nn.Module) -> Tensor | None:
    """Return the module's weight if it is a matrix or a convolution's kernel."""
    import torch

    weight = getattr(module, "weight", None)
    return weight if isinstance(weight, torch.Tensor) and weight.ndim >= 2 else None


def first_tensor(output: object) -> Tensor | None:
    """Return the output if it is a tensor, or the first tensor in a tuple, list or mapping.

    Attention modules return (output, weights); models of transformers return mappings that begin with the last
    hidden state or the logits.
    """
    import torch

    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, (tuple, list)):
        return next((found for part in output if (found := first_tensor(part)) is not None), None)
    return None


def check_pool(layer: LayerOutput, pool: Pool, model: str) -> None:
    """Check that ``pool`` fits the layer's output.

    Raises:
        UsageError: it is for maps and the layer outputs tokens, or the other way round, or there is no class
            token.
    """
    kind = {"sequence": "tokens", "map-last": "map"}.get(layer.form, layer.form)
    shape = " x ".join(map(str, layer.info.shape))
    if pool not in _POOLS[kind]:
        plural = {"map": "maps", "tokens": "tokens"}[kind]
        raise UsageError(
            f"pool {pool!r} does not fit {layer.info.path} of {model}, which puts out {plural} ({shape})",
            f"for {plural}: {', '.join(_POOLS[kind])}",
        )
    if pool == "cls" and kind == "tokens" and layer.class_token is False:
        raise UsageError(
            f"pool 'cls' does not fit {layer.info.path} of {model}: its tokens ({shape}) have no class token",
            "use mean-tokens",
        )
    if pool == "auto" and layer.class_token is None:
        raise UsageError(
            f"whether the first token of {layer.info.path} of {model} ({shape}) is a class token is not known",
            "say --pool cls (take the first token) or --pool mean-tokens",
        )


def check_layout(layer: LayerOutput, layout: Layout | None, model: str) -> None:
    """Check that a layout for all layers does not contradict a layer's known one.

    Raises:
        UsageError: it does.
    """
    if layout is None or layer.rule == "given" or layer.form == "vector" or layer.form in LAYOUTS[layout]:
        return
    known = next(name for name, forms in LAYOUTS.items() if layer.form in forms)
    shape = " x ".join(map(str, layer.info.shape))
    raise UsageError(
        f"layout {layout!r} is not that of {layer.info.path} of {model}; its output ({shape}) is {known}",
        f"leave --layout out for it, or insist with --layout {layer.info.path}={layout}",
    )


def pooled(output: Tensor, layer: LayerOutput, pool: Pool) -> Tensor:
    """Pool an output with a pool that ``check_pool`` accepts to float32 [N, K]."""
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
