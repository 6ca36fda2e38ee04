"""Observe forward passes: shapes, values, and which tensor comes from which."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from line_neurons.tools.targets.layers.outputs import first_tensor, hooked

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils._python_dispatch import TorchDispatchMode

_SAMPLED = 4096
_KEEPING = {
    "clone",
    "_to_copy",
    "_softmax",
    "_safe_softmax",
    "native_dropout",
    "native_layer_norm",
    "_fused_rms_norm",
    "native_group_norm",
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm",
    "miopen_batch_norm",
}
"""Operations of torch, beside those on single numbers, whose first output has the order of their first input."""


@dataclass(frozen=True)
class TensorStorage:
    """How a tensor is stored: shape, number of its memory, strides by dimension."""

    shape: tuple[int, ...]
    memory: int
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Link:
    """Two tensors, by number, each dimension of which counts the same in both.

    Args:
        joined: the dimension along which the result was concatenated, which does not.
    """

    one: int
    other: int
    joined: int | None = None


@dataclass
class LayerObservation:
    """What a forward pass showed of a layer.

    Args:
        shape: of its last output, the batch included.
        floating: the output has floating-point numbers.
        runs: how often the module ran.
        tensor: number of that output; layers that output the same tensor have the same.
        sample: float32 [N, S], values of each image: some of the output, evenly spread, then the mean of all.
        fixed: bool [T] for [N, T, K] (or [T, N, K]), the tokens that are the same for every image.
    """

    module: nn.Module
    shape: tuple[int, ...]
    floating: bool
    runs: int
    tensor: int
    sample: Tensor | None = None
    fixed: Tensor | None = None


@dataclass
class Observation:
    """What a forward pass showed.

    Args:
        layers: by path, in the order in which they first finish.
        links: which of them comes from which, dimension by dimension.
        readers: the input tensors of modules.
        outputs: path, module and shape of every floating-point output, in order.
        error: what ended the pass early; None where it succeeded.
        sides: height and width of the images, of a pass that looks at shapes alone.
    """

    layers: dict[str, LayerObservation] = field(default_factory=dict)
    tensors: dict[int, TensorStorage] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    readers: list[tuple[int, nn.Module]] = field(default_factory=list)
    outputs: list[tuple[str, nn.Module, tuple[int, ...]]] = field(default_factory=list)
    error: Exception | None = None
    sides: tuple[int, ...] = ()


def observe(
    model: nn.Module, forward: Callable[[], object], images: int | None = None, *, linked: bool = False
) -> Observation:
    """Observe every layer in a forward pass; a pass that fails shows what finished before.

    Args:
        model: in evaluation mode.
        images: size of the batch, to record values as well as shapes.
        linked: also record which tensor comes from which.
    """
    seen = Observation()
    numbers = _Numbers(seen)

    def look(path: str, module: nn.Module, output: object, given: object) -> None:
        source, tensor = first_tensor(given), first_tensor(output)
        if source is not None:
            seen.readers.append((numbers.of(source), module))
        if tensor is None:
            return
        before = seen.layers.get(path)
        runs = before.runs + 1 if before else 1
        one = LayerObservation(module, tuple(tensor.shape), tensor.is_floating_point(), runs, numbers.of(tensor))
        if one.floating:
            seen.outputs.append((path, module, one.shape))
            if images is not None:
                _look_at_values(one, tensor, images)
        seen.layers[path] = one

    try:
        with (
            hooked({path: module for path, module in model.named_modules() if path}, look),
            _linking(numbers) if linked else nullcontext(),
        ):
            forward()
    except Exception as error:
        seen.error = error
    return seen


def observe_shapes(
    model: nn.Module,
    forward: Callable[[Tensor], object],
    like: Tensor,
    images: int,
    sides: tuple[int, int],
    *,
    computed: bool = False,
) -> Observation:
    """Observe shapes of a pass on a batch of another size, without computing.

    The tensors of the pass have a shape and no values, so that it costs neither memory nor arithmetic and cannot
    harm a GPU, whatever the model does with an unsupported size. What a module stores in the pass (tables for that
    size) is removed again.

    Args:
        model: in evaluation mode.
        like: a batch [N, C, H, W] of the model's own size.
        sides: height and width of its images.
        computed: compute values nevertheless, for a model that reads them.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    without_values: AbstractContextManager[object] = (
        nullcontext() if computed or like.is_meta else FakeTensorMode(allow_non_fake_inputs=True)
    )
    with _unchanged(model), torch.no_grad(), without_values:
        batch = torch.zeros(images, like.shape[1], *sides, dtype=like.dtype, device=like.device)
        return replace(observe(model, lambda: forward(batch)), sides=sides)


class _Numbers:
    """Number the tensors of a pass; an address alone may be that of a freed tensor."""

    def __init__(self, seen: Observation) -> None:
        self.seen = seen
        self._known: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._memories: dict[int, tuple[StorageWeakRef, int]] = {}

    def of(self, tensor: Tensor) -> int:
        alive, number = self._known.get(id(tensor), (None, 0))
        if alive is None or alive() is not tensor:
            number = len(self.seen.tensors)
            self._known[id(tensor)] = weakref.ref(tensor), number
            self.seen.tensors[number] = TensorStorage(tuple(tensor.shape), self._memory(tensor), tensor.stride())
        return number

    def _memory(self, tensor: Tensor) -> int:
        from torch.multiprocessing.reductions import StorageWeakRef

        # The reference keeps the address of memory that is gone from being another's.
        storage = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        return self._memories.setdefault(storage.cdata, (storage, len(self._memories)))[1]


def _linking(numbers: _Numbers) -> TorchDispatchMode:
    """Return a mode that links the tensors of every operation that keeps their order."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Linking(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            output = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__
            sources: Iterable[object] = ()
            joined = None
            if torch.Tag.pointwise in func.tags:
                sources = args
            elif name in _KEEPING:
                sources = args[:1]
            elif name == "cat":
                sources = args[0]
                joined = args[1] if len(args) > 1 else (kwargs or {}).get("dim", 0)
            made = output[0] if isinstance(output, (tuple, list)) and output else output
            if isinstance(made, torch.Tensor):
                number = numbers.of(made)
                for source in sources:
                    if isinstance(source, torch.Tensor) and source.ndim == made.ndim > 1:
                        place = None if joined is None else joined % made.ndim
                        if place is not None or source.shape == made.shape:
                            numbers.seen.links.append(Link(numbers.of(source), number, place))
            return output

    return Linking()  # type: ignore[no-untyped-call]


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Restore every module's attributes, and the entries of those that are dicts or lists."""
    kept = [(module, dict(vars(module))) for module in model.modules()]
    entries: list[tuple[Any, Any]] = [
        (held, held.copy())
        for _, attributes in kept
        for held in attributes.values()
        if isinstance(held, (dict, list))
    ]
    try:
        yield
    finally:
        for module, attributes in kept:
            vars(module).clear()
            vars(module).update(attributes)
        for held, before in entries:
            held.clear()
            held.update(before) if isinstance(held, dict) else held.extend(before)


def _look_at_values(one: LayerObservation, tensor: Tensor, images: int) -> None:
    import torch

    if tensor.is_meta or tensor.ndim < 2:
        return
    if tensor.shape[0] == images:
        rows = tensor
    elif tensor.ndim == 3 and tensor.shape[1] == images:
        rows = tensor.transpose(0, 1)
    else:
        return
    flat = rows.flatten(1).float()
    if not flat.shape[1]:
        return
    spread = flat[:, :: -(-flat.shape[1] // _SAMPLED)]
    one.sample = torch.cat([spread, flat.mean(1, keepdim=True)], 1).cpu()
    if rows.ndim == 3:
        apart = (rows[1:] - rows[:1]).float().abs().amax((0, 2))
        rounding = 8 * torch.finfo(tensor.dtype).eps * rows.abs().amax().float()
        one.fixed = (apart <= rounding).cpu()
