"""Layer outputs: captured with forward hooks, and pooled to one number per unit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from line_neurons.agent.errors import UsageError
from line_neurons.agent.ports import LayerInfo

if TYPE_CHECKING:
    from torch import Tensor, nn

    from line_neurons.agent.setting_groups.target import Layout, Pool

Form = Literal["vector", "tokens", "sequence", "map", "map-last", "plane"]
"""[N, K]; [N, T, K]; [T, N, K]; [N, K, H, W] or [N, K, L]; [N, H, W, K]; [N, H, W], a map of one unit."""

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
    "vector": ("auto", "mean", "max", "cls", "mean-tokens", "patches", "max-patches"),
    "tokens": ("auto", "cls", "mean-tokens", "max", "patches", "max-patches"),
    "map": ("auto", "mean", "max"),
}
_OF_PATCHES: frozenset[Pool] = frozenset({"patches", "max-patches"})
_KINDS: Mapping[Form, Literal["vector", "tokens", "map"]] = {
    "vector": "vector",
    "tokens": "tokens",
    "sequence": "tokens",
    "map": "map",
    "map-last": "map",
    "plane": "map",
}


@dataclass(frozen=True)
class LayerOutput:
    """The output of one layer.

    Args:
        info: path, kind of module, shape and number of units.
        class_token: the first of the tokens stands for the whole image; None if that is not known.
        rule: from what the form is known.
        no_patches: places of the tokens that stand for no patch of the image: class token, registers; None where
            that is not known.
        queries: the tokens are a detector's queries, of which pool ``auto`` takes the largest.
    """

    info: LayerInfo
    form: Form
    class_token: bool | None = False
    rule: Rule = "kind"
    no_patches: frozenset[int] | None = frozenset()
    queries: bool = False

    def with_marks(self, former: tuple[Form, bool] | None, pool: Pool) -> LayerOutput:
        """Mark ``info.reading`` where the earlier rules give other values."""
        marked = self._with_layout_mark(former, pool)
        if not (self.queries and pool == "auto"):
            return marked
        return replace(marked, info=replace(marked.info, reading=f"{marked.info.reading} pool=max"))

    def _with_layout_mark(self, former: tuple[Form, bool] | None, pool: Pool) -> LayerOutput:
        if former is None or self._values(*former, pool) == self._values(self.form, self.class_token, pool):
            return self
        layout = next((name for name, forms in LAYOUTS.items() if self.form in forms), self.form)
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


def last_kernel(model: nn.Module, paths: Iterable[str]) -> str | None:
    """Return the last of ``paths`` with a matrix or kernel; None if there is none."""
    modules = dict(model.named_modules())
    weighted = [path for path in paths if kernel(modules[path]) is not None]
    return weighted[-1] if weighted else None


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
    kind = kind_of(layer)
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
    if pool in _OF_PATCHES and kind == "tokens":
        _check_patches(layer, shape, model)
    if pool == "auto" and layer.class_token is None and not layer.queries:
        raise UsageError(
            f"whether the first token of {layer.info.path} of {model} ({shape}) is a class token is not known",
            "say --pool cls (take the first token) or --pool mean-tokens",
        )


def _check_patches(layer: LayerOutput, shape: str, model: str) -> None:
    others = "use max, mean-tokens or cls"
    if layer.no_patches is None:
        raise UsageError(
            f"which tokens of {layer.info.path} of {model} ({shape}) are patches of the image is not known", others
        )
    if len(layer.no_patches) == layer.info.shape[0]:
        raise UsageError(f"no token of {layer.info.path} of {model} ({shape}) is a patch of the image", others)


def kind_of(layer: LayerOutput) -> Literal["vector", "tokens", "map"]:
    """Return what a layer puts out, whichever dimension is which."""
    return _KINDS[layer.form]


def check_layout(layer: LayerOutput, layout: Layout | None, model: str) -> None:
    """Check that a layout for all layers does not contradict a layer's known one.

    Raises:
        UsageError: it does.
    """
    known = next((name for name, forms in LAYOUTS.items() if layer.form in forms), None)
    if layout is None or known in {None, layout} or layer.rule == "given":
        return
    shape = " x ".join(map(str, layer.info.shape))
    raise UsageError(
        f"layout {layout!r} is not that of {layer.info.path} of {model}; its output ({shape}) is {known}",
        f"leave --layout out for it, or insist with --layout {layer.info.path}={layout}",
    )


def unclear_layout(path: str, shape: Sequence[int], model: str) -> UsageError:
    """Return the error for a layer of which it is not known which dimension counts the units."""
    sides = " x ".join(map(str, shape))
    fitting = "channels-first or tokens" if len(shape) == 2 else "channels-first or channels-last"
    return UsageError(
        f"which side of the output of {path} of {model} ({sides}) counts its units is not known",
        f"say so with --layout {path}=LAYOUT: {fitting}",
    )


def pooled(output: Tensor, layer: LayerOutput, pool: Pool) -> Tensor:
    """Pool an output with a pool that ``check_pool`` accepts to float32 [N, K]."""
    output = output.float()
    if layer.form == "plane":
        output = output.unsqueeze(1)
    kind = kind_of(layer)
    if kind == "map":
        positions = (1, 2) if layer.form == "map-last" else tuple(range(2, output.ndim))
        return output.amax(positions) if pool == "max" else output.mean(positions)
    if kind == "vector":
        return output
    if layer.form == "sequence":
        output = output.transpose(0, 1)
    if pool == "cls" or (pool == "auto" and layer.class_token and not layer.queries):
        return output[:, 0]
    if pool in _OF_PATCHES:
        output = output[:, patch_places(layer)]
    largest = pool in {"max", "max-patches"} or (pool == "auto" and layer.queries)
    return output.amax(1) if largest else output.mean(1)


def tokens_of(output: Tensor, layer: LayerOutput) -> Tensor:
    """Return an output as tokens, float32 [N, T, K]: those of a map are its positions, a vector is one."""
    output = output.float()
    match layer.form:
        case "vector":
            return output.unsqueeze(1)
        case "map":
            return output.flatten(2).transpose(1, 2)
        case "map-last":
            return output.flatten(1, 2)
        case "plane":
            return output.flatten(1).unsqueeze(2)
        case "sequence":
            return output.transpose(0, 1)
    return output


def patch_places(layer: LayerOutput) -> list[int]:
    """Return the places of the tokens that stand for patches of the image."""
    return [place for place in range(layer.info.shape[0]) if place not in (layer.no_patches or ())]
