"""Determine which dimension of a layer's output counts its units, if that can be known."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError
from line_neurons.agent.near_names import near_names
from line_neurons.agent.ports import LayerInfo
from line_neurons.tools.targets.layers.legacy_layouts import former_readings
from line_neurons.tools.targets.layers.observation import (
    LayerObservation,
    Observation,
    TensorStorage,
    observe,
    observe_shapes,
)
from line_neurons.tools.targets.layers.outputs import LAYOUTS, Form, LayerOutput, Rule
from line_neurons.tools.targets.layers.token_kinds import TokenKinds, query_counts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from line_neurons.agent.setting_groups.target import Layout, Pool, QueryPool

IMAGES = 3
"""Images in the pass that finds the layers; the passes that look at shapes alone have another number of them."""
_OTHER_IMAGES = 2

_FORMS: Mapping[tuple[int, int, int], Form] = {
    (2, 0, 1): "vector",
    (3, 0, 1): "map",
    (3, 0, 2): "tokens",
    (3, 1, 2): "sequence",
    (4, 0, 1): "map",
    (4, 0, 3): "map-last",
}
"""By number of dimensions, the batch's and the units'."""

_CLASS_TOKEN = re.compile(r"(?:.+\.)?(?:cls|class)_?(?:tokens?|embed|embedding)")
_NORM = re.compile(r"(?:Layer|R[Mm][Ss])_?Norm(?:\w*(?P<first>2d))?")
_ON_MAPS = ("pooling", "padding", "upsampling", "pixelshuffle")


@dataclass(frozen=True)
class Layers:
    """The layers of a model.

    Args:
        known: layers with known units, by path, in the order in which they first finish.
        unknown: output shapes of the layers whose unit dimension cannot be determined.
        observed: the forward pass that found them.
    """

    known: dict[str, LayerOutput]
    unknown: dict[str, tuple[int, ...]]
    observed: Observation


def find_layers(
    model: nn.Module,
    call: Callable[[Tensor], object],
    batch: Tensor,
    *,
    layouts: Sequence[str] = (),
    pool: Pool = "auto",
    query_pool: QueryPool = "max",
) -> Layers:
    """Find every layer of ``model`` whose output has units.

    One pass on ``batch`` shows what the modules are and which tensors go between them. Passes on batches of other
    sizes, in which nothing is computed, show which dimensions depend on the image's sides: those do not count
    units.

    Args:
        model: in evaluation mode.
        batch: ``IMAGES`` different images, [N, C, H, W].
        layouts: the user's layouts of layers, as the setting ``layout``.
        pool: how outputs become one number per unit.
        query_pool: what pool ``auto`` is for tokens that are queries.

    Raises:
        UsageError: the user names a layer that does not exist, or a layout that does not fit its output.
        Exception: whatever the model raises on ``batch``.
    """
    seen = observe(model, lambda: call(batch), IMAGES, linked=True)
    if seen.error is not None:
        raise seen.error
    others: list[Observation] = []
    passes = _other_passes(model, call, batch)
    while True:
        batches = {
            path: at for path, one in seen.layers.items() if (at := _batch_at(path, one, others)) is not None
        }
        axes = _unit_dimensions(seen, others, batches)
        clear = axes.keys() == batches.keys() and not any(_two_batches(seen.layers[path]) for path in batches)
        if (clear and not others) or (other := next(passes, None)) is None:
            break
        others.append(other)
    planes = _planes(seen, others, batches, tuple(batch.shape[2:]))
    return _layers(model, seen, batches, axes, planes, layouts, pool, query_pool)


def _other_passes(model: nn.Module, call: Callable[[Tensor], object], batch: Tensor) -> Iterator[Observation]:
    """Run passes on other sizes until one succeeds.

    A model that fails on its own size reads values, so it has to compute them.
    """
    height, width = batch.shape[2:]
    larger = observe_shapes(model, call, batch, _OTHER_IMAGES, (2 * height, 2 * width))
    yield larger
    if larger.error is None:
        return
    own = observe_shapes(model, call, batch, _OTHER_IMAGES, (height, width))
    yield own
    # On a GPU, a table that is too small for another size would end the process.
    computed = own.error is not None and batch.device.type == "cpu"
    for sides in ((height // 2, width // 2), (height // 2, 2 * width)):
        if min(sides):
            other = observe_shapes(model, call, batch, _OTHER_IMAGES, sides, computed=computed)
            yield other
            if other.error is None:
                return


def split_layouts(layouts: Sequence[str]) -> tuple[Layout | None, dict[str, Layout]]:
    """Split layouts into the one for all unknown layers and those by path."""
    everywhere: Layout | None = None
    single: dict[str, Layout] = {}
    for text in layouts:
        path, _, name = text.rpartition("=")
        layout: Layout = next(known for known in LAYOUTS if known == name)
        if path:
            single[path] = layout
        else:
            everywhere = layout
    return everywhere, single


def _layers(
    model: nn.Module,
    seen: Observation,
    batches: Mapping[str, int],
    axes: Mapping[str, tuple[int, Rule]],
    planes: Collection[str],
    layouts: Sequence[str],
    pool: Pool,
    query_pool: QueryPool,
) -> Layers:
    everywhere, single = split_layouts(layouts)
    if absent := next((path for path in single if path not in batches), None):
        near = near_names(absent, batches)
        raise UsageError(
            f"layout names the layer {absent!r:.80}, which has no output with units{'; ' + near if near else ''}",
            "give it as LAYER=LAYOUT with a layer of this model",
        )
    named = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    has_class_token = any(_CLASS_TOKEN.fullmatch(name) for name in named)
    former = former_readings(seen.outputs, has_class_token, IMAGES)
    tokens = TokenKinds(has_class_token, query_counts(model))
    known: dict[str, LayerOutput] = {}
    unknown: dict[str, tuple[int, ...]] = {}
    for path, at in batches.items():
        one = seen.layers[path]
        shape = tuple(side for place, side in enumerate(one.shape) if place != at)
        axis, rule = axes.get(path, (-1, "sizes" if path in planes else "given"))
        if path in single:
            axis, rule = _given(single[path], one.shape, at, path), "given"
        elif axis < 0 and everywhere is not None:
            axis = _given(everywhere, one.shape, at, path, refuse=False)
        form = "plane" if axis < 0 and path in planes else _FORMS.get((len(one.shape), at, axis))
        if form is None:
            unknown[path] = shape
            continue
        class_token = tokens.first_is_class(form, shape, one.fixed)
        info = LayerInfo(path, type(one.module).__name__, shape, 1 if form == "plane" else one.shape[axis])
        queries = query_pool == "max" and tokens.are_queries(form, shape)
        output = LayerOutput(info, form, class_token, rule, tokens.no_patches(form, shape), queries)
        known[path] = output.with_marks(former.get(path), pool)
    return Layers(known, unknown, seen)


def _given(layout: Layout, shape: tuple[int, ...], batch: int, path: str, *, refuse: bool = True) -> int:
    """Return the dimension that a layout names, -1 or an error if none."""
    axis = 1 if layout == "channels-first" else len(shape) - 1
    form = _FORMS.get((len(shape), batch, axis))
    fits = form is not None and LAYOUTS[layout] & {form} != set()
    if not fits and refuse:
        sides = " x ".join(map(str, (side for place, side in enumerate(shape) if place != batch)))
        fitting = [name for name in LAYOUTS if _given(name, shape, batch, path, refuse=False) >= 0]
        raise UsageError(
            f"layout {layout!r} does not fit {path}, which puts out {sides}", f"for it: {' or '.join(fitting)}"
        )
    return axis if fits else -1


def _planes(
    seen: Observation, others: Sequence[Observation], batches: Mapping[str, int], sides: tuple[int, ...]
) -> frozenset[str]:
    """Find the outputs [N, H, W] of which both dimensions grow as the images' sides do: maps of one unit."""
    found = set()
    for path, at in batches.items():
        one = seen.layers[path]
        if at or len(one.shape) != 3:
            continue
        shapes = [(shape[1:], other.sides) for other in others if (shape := _shape_in(other, path, one))]
        grows = any(
            its != one.shape[1:]
            and all(a * old == b * new for a, b, new, old in zip(its, one.shape[1:], to, sides, strict=True))
            for its, to in shapes
        )
        if grows:
            found.add(path)
    return frozenset(found)


def _two_batches(one: LayerObservation) -> bool:
    return len(one.shape) == 3 and one.shape[0] == one.shape[1] == IMAGES


def _batch_at(path: str, one: LayerObservation, others: Iterable[Observation]) -> int | None:
    """Return the dimension that counts the images, or None."""
    if not one.floating or len(one.shape) not in {2, 3, 4}:
        return None
    shapes = [_shape_in(other, path, one) for other in others]
    places = [
        place
        for place in ((0, 1) if len(one.shape) == 3 else (0,))
        if one.shape[place] == IMAGES and all(shape[place] == _OTHER_IMAGES for shape in shapes if shape)
    ]
    return places[0] if places else None


def _shape_in(other: Observation, path: str, one: LayerObservation) -> tuple[int, ...] | None:
    """Return a layer's output shape in another pass with as many runs."""
    its = other.layers.get(path)
    return its.shape if its and its.runs == one.runs and len(its.shape) == len(one.shape) else None


def _unit_dimensions(
    seen: Observation, others: Sequence[Observation], batches: Mapping[str, int]
) -> dict[str, tuple[int, Rule]]:
    """Find unit dimensions and their rules by path, the stronger rules first."""
    known: dict[int, tuple[int, str, Rule]] = {}
    neighbours = _neighbours(seen)

    def learn(rule: Rule, facts: Iterable[tuple[str, int, int]]) -> None:
        fresh = deque((tensor, axis, path) for path, tensor, axis in facts)
        while fresh:
            tensor, axis, path = fresh.popleft()
            if tensor not in known:
                known[tensor] = axis, path, rule
                fresh += [
                    (other, its, "")
                    for other, axis_of in neighbours(tensor)
                    if other not in known and (its := axis_of(axis)) is not None
                ]

    layers = {path: seen.layers[path] for path in batches}
    learn("kind", _vectors(layers))
    learn("kind", _by_kind(layers, _own_kind))
    learn("kind", _by_readers(seen, _own_kind))
    learn("sizes", _by_sizes(layers, others, batches))
    learn("usual kind", _by_kind(layers, _usual_kind))
    learn("usual kind", _by_readers(seen, _usual_kind))
    found: dict[str, tuple[int, Rule]] = {}
    for path, one in layers.items():
        if one.tensor in known:
            axis, source, rule = known[one.tensor]
            found[path] = axis, rule if source == path else "neighbour"
    return found


def _neighbours(seen: Observation) -> Callable[[int], Iterator[tuple[int, _Dimension]]]:
    """Map each tensor to its neighbours, and to which of their dimensions is which of its own."""
    linked: dict[int, list[tuple[int, int | None]]] = {}
    for link in seen.links:
        linked.setdefault(link.one, []).append((link.other, link.joined))
        linked.setdefault(link.other, []).append((link.one, link.joined))
    by_memory: dict[int, list[int]] = {}
    for number, laid in seen.tensors.items():
        by_memory.setdefault(laid.memory, []).append(number)

    def around(tensor: int) -> Iterator[tuple[int, _Dimension]]:
        for other, joined in linked.get(tensor, ()):
            yield other, partial(_but, joined)
        laid = seen.tensors[tensor]
        for other in by_memory[laid.memory]:
            if other != tensor:
                yield other, partial(_same_steps, laid, seen.tensors[other])

    return around


_Dimension = Callable[[int], "int | None"]


def _but(joined: int | None, axis: int) -> int | None:
    return axis if axis != joined else None


def _same_steps(one: TensorStorage, other: TensorStorage, axis: int) -> int | None:
    """Find the dimension of a view with the length and stride of a dimension of another."""
    steps = one.shape[axis], one.steps[axis]
    found = [place for place, its in enumerate(zip(other.shape, other.steps, strict=True)) if its == steps]
    return found[0] if len(found) == 1 and steps[0] > 1 else None


def _vectors(layers: Mapping[str, LayerObservation]) -> Iterator[tuple[str, int, int]]:
    for path, one in layers.items():
        if len(one.shape) == 2:
            yield path, one.tensor, 1


_Kind = Callable[["nn.Module"], "tuple[int, int | None, int | None] | None"]
"""A module's unit dimension, units of its output, and of its input; None for a number that it does not declare."""


def _by_kind(layers: Mapping[str, LayerObservation], kind_of: _Kind) -> Iterator[tuple[str, int, int]]:
    for path, one in layers.items():
        if (kind := kind_of(one.module)) is not None:
            axis, units, _ = kind
            if units is None or one.shape[axis] == units:
                yield path, one.tensor, axis % len(one.shape)


def _by_readers(seen: Observation, kind_of: _Kind) -> Iterator[tuple[str, int, int]]:
    for tensor, reader in seen.readers:
        shape = seen.tensors[tensor].shape
        if len(shape) > 1 and (kind := kind_of(reader)) is not None:
            axis, _, units = kind
            if units is not None and shape[axis] == units:
                yield "", tensor, axis % len(shape)


def _by_sizes(
    layers: Mapping[str, LayerObservation], others: Sequence[Observation], batches: Mapping[str, int]
) -> Iterator[tuple[str, int, int]]:
    for path, one in layers.items():
        shapes = [shape for other in others if (shape := _shape_in(other, path, one))]
        sides = [place for place in range(len(one.shape)) if place != batches[path]]
        same = [place for place in sides if all(shape[place] == one.shape[place] for shape in shapes)]
        if len(same) == 1 and len(sides) > 1:
            yield path, one.tensor, same[0]


def _declared(module: nn.Module) -> tuple[int, int | None, int | None] | None:
    """Return the unit dimension and count of torch's module kinds, from their arguments."""
    from torch import nn

    table: tuple[tuple[tuple[type[nn.Module], ...], int, str, str], ...] = (
        ((nn.modules.conv._ConvNd,), 1, "out_channels", "in_channels"),
        ((nn.modules.batchnorm._NormBase,), 1, "num_features", "num_features"),
        ((nn.GroupNorm,), 1, "num_channels", "num_channels"),
        ((nn.Linear,), -1, "out_features", "in_features"),
        ((nn.LayerNorm, nn.RMSNorm), -1, "normalized_shape", "normalized_shape"),
        ((nn.MultiheadAttention,), -1, "embed_dim", "embed_dim"),
    )
    for kinds, axis, out, given in table:
        if isinstance(module, kinds):
            counts = (getattr(module, out), getattr(module, given))
            units, entering = (
                count[0] if isinstance(count, tuple) and len(count) == 1 else count for count in counts
            )
            return (axis, units, entering) if isinstance(units, int) else None
    return None


def _own_kind(module: nn.Module) -> tuple[int, int | None, int | None] | None:
    """Apply ``_declared`` to a module whose forward is torch's own."""
    return _declared(module) if type(module).forward.__module__.startswith("torch.nn.") else None


def _usual_kind(module: nn.Module) -> tuple[int, int | None, int | None] | None:
    """Return the unit dimension of modules modelled on torch's kinds, or that work on maps."""
    name, place = type(module).__name__, type(module).__module__
    if place.startswith("torch.nn.modules.") and place.rpartition(".")[2] in _ON_MAPS:
        return 1, None, None
    if norm := _NORM.search(name):
        weight = getattr(module, "weight", None)
        units = len(weight) if weight is not None and weight.ndim == 1 else None
        first = norm["first"] or getattr(module, "data_format", "") == "channels_first"
        return (1 if first else -1, units, units) if units is not None else None
    return _declared(module)


def observed_again(model: nn.Module, call: Callable[[Tensor], object], batch: Tensor) -> Observation:
    """Observe another pass on a batch of ``IMAGES``.

    Raises:
        Exception: whatever the model raises.
    """
    seen = observe(model, lambda: call(batch), IMAGES)
    if seen.error is not None:
        raise seen.error
    return seen
