"""Find the one network of a checkpoint that fits a model, and put its tensors into the model.

A file is read as tensors by their place in it (``weights_files``). Wherever the model's own names stand below a
prefix, there is a network; of those that fit, one is used, or the user is asked which.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.targets.layers.outputs import kernel

if TYPE_CHECKING:
    from torch import Tensor, nn

    from line_neurons.tools.targets.weights.files import Checkpoint, Key

logger = logging.getLogger(__name__)

Parts = tuple[str, ...]
"""A dotted name in its parts."""

# What wrappers of parallel, sharded, compiled and checkpointed training put into names, anywhere in them.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Older DenseNet files write norm.1 for norm1.
_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
# Files of torch before 0.4.1 have no such counters, and nothing is computed from them.
_COUNTER = "num_batches_tracked"
# AveragedModel counts the models in its average.
_AVERAGED = "n_averaged"
_EXAMPLES = 3
_LISTED = 12
_REMEDY = "name the model it was trained as, or load it in a function of your own (MODULE:FUNCTION)"
_QUANTISED = "give the weights from before the quantisation, as float32, float16 or bfloat16"


class MisfitError(UsageError):
    """A checkpoint is of another model."""


@dataclass(frozen=True)
class FoundNetwork:
    """A network of a checkpoint that fits a model.

    Args:
        state: its tensors by the model's names.
        source: file and network, for messages.
        classes: the number of its classes where the model has another, else None.
        left_out: path of the model's class layer where the network has no weights of it, else None.
    """

    state: OrderedDict[str, Tensor]
    source: str
    classes: int | None = None
    left_out: str | None = None


def head_of(module: nn.Module, classes: int) -> str | None:
    """Path of the class layer: the last module with a weight matrix or kernel, if that has so many units."""
    path, found = None, None
    for name, part in module.named_modules():
        if (weight := kernel(part)) is not None:
            path, found = str(name), weight
    return path if found is not None and found.shape[0] == classes else None


def find_network(
    checkpoint: Checkpoint,
    tensors: Mapping[str, Tensor],
    *,
    name: str,
    head: str | None = None,
    strict: bool = True,
    beside: Collection[str] = (),
) -> FoundNetwork:
    """The network of ``checkpoint`` that fits a model.

    A network is what stands below one prefix; wrappers of training (``module.``, ``_orig_mod.`` ...) do not count
    as a part of it. It fits if every tensor is there with its shape. The class layer may have another number of
    units, or be missing: then the rest is used.

    Args:
        checkpoint: all tensors of a file.
        tensors: the model's by name, as its ``state_dict()`` has them; may be on the meta device.
        name: the model, for messages.
        head: path of the class layer; None if the model has none.
        strict: refuse tensors of the network that the model does not have.
        beside: last parts of names that the caller reads itself.

    Raises:
        MisfitError: no network fits.
        UsageError: several do and none was chosen, there is none of the chosen name, or it is quantised.
    """
    plan = _Plan(name, tensors, head)
    places = _Places(checkpoint, tensors)
    chosen = checkpoint.file.network
    within = places.under(chosen) if chosen is not None else places.all
    networks = places.networks(within)
    fitting = [one for one in networks if plan.fits(one, checkpoint)]
    if chosen is not None and len(fitting) > 1:
        wanted = places.short(chosen)
        whole = [one for one in fitting if one.prefix == wanted]
        exact = [one for one in fitting if any(one.prefix[start:] == wanted for start in places.starts(one))]
        fitting = whole or exact or fitting
    fitting = _different(fitting, checkpoint)
    if len(fitting) > 1:
        labels = [one.label for one in fitting]
        raise UsageError(
            f"the weights file {checkpoint} holds {len(labels)} networks that fit {name}: {_listed(labels)}",
            f"choose one: --weights {checkpoint}#{labels[0]}",
        )
    if chosen is not None and not within:
        known = [one.label for one in places.networks(places.all) if plan.fits(one, checkpoint)]
        raise UsageError(
            f"the weights file {checkpoint} holds no network {chosen!r:.200}",
            f"there is {_listed(known or places.groups())}",
        )
    best = fitting[0] if fitting else max(networks, key=lambda one: len(one.keys), default=_Network(()))
    others = [one for one in networks if one is not best and plan.fits(one, checkpoint)]
    source = f"{checkpoint}{'#' + best.label if best.prefix else ''}"
    unclaimed = places.unclaimed(best, others, within)
    plan.check(best, unclaimed, checkpoint, source, strict=strict)
    if plan.headless(best):
        best = plan.with_head(best, unclaimed, checkpoint, source)
    if chosen is None:
        _tell_passed_over(source, best, places, beside)
    state = OrderedDict((name, checkpoint.tensors[key]) for name, key in best.keys.items())
    state._metadata = places.versions(best)  # type: ignore[attr-defined]
    left = head if plan.headless(best) else None
    return FoundNetwork(state, source, plan.classes(best, checkpoint), left)


def load(module: nn.Module, found: FoundNetwork, *, name: str) -> None:
    """Put a network that ``find_network`` found for it into ``module``; its tensors become the module's own.

    Args:
        module: may be on the meta device.
        found: of the same number of classes.
        name: the model, for the error.

    Raises:
        UsageError: the tensors do not fit.
    """
    if found.left_out:
        leave_out(module, found.left_out)
    try:
        module.load_state_dict(found.state, assign=True)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"{found.source} does not fit {name}: {str(error).splitlines()[0][:200]}", _REMEDY
        ) from error
    module.float()


def leave_out(module: nn.Module, path: str) -> None:
    """Put an identity in the place of a layer that has no weights; ``left_out`` tells its path."""
    import torch

    parent, _, last = path.rpartition(".")
    setattr(module.get_submodule(parent), last, torch.nn.Identity())
    module._line_left_out = path  # type: ignore[assignment]


def left_out(module: nn.Module) -> str | None:
    """Path of the layer that ``leave_out`` has left out of a module, or None."""
    return getattr(module, "_line_left_out", None)


def check_finite(module: nn.Module, name: str) -> None:
    """See that a model's weights are numbers.

    Raises:
        UsageError: a parameter is NaN or infinite somewhere, or a buffer NaN.
    """
    import torch

    parameters = {key for key, one in module.named_parameters() if not torch.isfinite(one).all()}
    # A mask may be minus infinity.
    buffers = {key for key, one in module.named_buffers() if one.is_floating_point() and torch.isnan(one).any()}
    broken = sorted(parameters | buffers)
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise UsageError(
            f"the weights of {name} are not all numbers: NaN or infinity in {broken[0]}{more}",
            "give weights from before the training went wrong",
        )


def misfit(
    source: str,
    name: str,
    count: int,
    *,
    missing: Sequence[str],
    unknown: Sequence[str] = (),
    other: Mapping[str, tuple[Sequence[int], Sequence[int]]] | None = None,
) -> MisfitError:
    """The error that a checkpoint is another model's: how many of ``count`` tensors, with examples.

    Args:
        source: file and network.
        name: the model.
        count: tensors of the model.
        missing: names of the model that the file lacks.
        unknown: names of the file that the model lacks.
        other: shape in the file and in the model, of tensors that have another one.
    """
    shapes = {key: (list(there), list(here)) for key, (there, here) in (other or {}).items()}
    problems = [
        f"{len(keys)} {what} ({clean_text(', '.join(keys[:_EXAMPLES]), 300)}{more})"
        for keys, what in (
            (missing, "missing"),
            (unknown, "unexpected"),
            ([f"{key}: {there} for {here}" for key, (there, here) in shapes.items()], "of another shape"),
        )
        if keys
        for more in (" ..." if len(keys) > _EXAMPLES else "",)
    ]
    for key, (there, here) in shapes.items():
        if len(there) == 4 and there[2:] == here[2:] and (there[0], here[1]) == (here[0], 3):
            return MisfitError(
                f"{source} does not fit {name}: its {key} wants images of {there[1]} channels, not 3",
                "load it in a function of your own (MODULE:FUNCTION) that returns the module and a transform to"
                f" [{there[1]}, H, W]",
            )
    return MisfitError(f"{source} does not fit {name}: of {count} tensors, {', '.join(problems)}", _REMEDY)


@dataclass
class _Network:
    """Tensors below one prefix that have names of the model."""

    prefix: Parts
    keys: dict[str, Key] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return clean_text(".".join(self.prefix), 200)


class _Places:
    """The names of a file, without the wrappers of training.

    Args:
        checkpoint: the file.
        names: the model's.
    """

    def __init__(self, checkpoint: Checkpoint, names: Iterable[str]) -> None:
        self._checkpoint = checkpoint
        # A model of the user's own may have a module of such a name.
        short = [(_short(name, _WRAPPERS), name) for name in names]
        self._wrappers = _WRAPPERS if len(dict(short)) == len(short) else set()
        self._names = {_short(name, self._wrappers): name for _, name in short}
        self.all: dict[Key, Parts] = {}
        self._starts: dict[Key, tuple[int, ...]] = {}
        for key in checkpoint.tensors:
            pieces = [_short(piece, self._wrappers) for piece in key]
            self.all[key] = tuple(part for piece in pieces for part in piece)
            self._starts[key] = tuple(sum(map(len, pieces[:level])) for level in range(len(pieces)))

    def short(self, name: str) -> Parts:
        return _short(name, self._wrappers)

    def versions(self, network: _Network) -> dict[str, Any]:
        """Version numbers of a network's modules, by path."""
        length = len(network.prefix)
        found = {}
        for place, versions in self._checkpoint.versions.items():
            above = tuple(part for piece in place for part in self.short(piece))
            for path, version in versions.items():
                parts = (*above, *self.short(path))
                if parts[:length] == network.prefix:
                    found[".".join(parts[length:])] = version
        return found

    def starts(self, network: _Network) -> tuple[int, ...]:
        """Where a network's prefix may be read from: at each of the nested dicts around it."""
        return tuple(
            start for start in self._starts[next(iter(network.keys.values()))] if start <= len(network.prefix)
        )

    def under(self, name: str) -> dict[Key, Parts]:
        """The tensors whose name, in the file or in one of its nested dicts, begins with ``name``."""
        wanted = self.short(name)
        return {
            key: parts
            for key, parts in self.all.items()
            if any(
                parts[start : start + len(wanted)] == wanted and len(parts) > start + len(wanted)
                for start in self._starts[key]
            )
        }

    def networks(self, within: Mapping[Key, Parts]) -> list[_Network]:
        """All prefixes below which names of the model stand, the shortest first."""
        found: dict[Parts, _Network] = {}
        for key, parts in within.items():
            for start in range(len(parts)):
                name = self._names.get(parts[start:])
                if name is None:
                    continue
                network = found.setdefault(parts[:start], _Network(parts[:start]))
                if name in network.keys:
                    twice = " and ".join(clean_text(".".join(one), 200) for one in (network.keys[name], key))
                    raise UsageError(
                        f"the weights file {self._checkpoint} holds {name} twice: {twice}",
                        "save the network that you mean into a file of its own",
                    )
                network.keys[name] = key
        return sorted(found.values(), key=lambda one: (len(one.prefix), one.prefix))

    def unclaimed(
        self, network: _Network, others: Iterable[_Network], within: Mapping[Key, Parts]
    ) -> dict[str, Key]:
        """Tensors below a network's prefix, in the same dicts, that no name of the model stands for."""
        dicts = {key[:-1] for key in network.keys.values()}
        taken = {*network.keys.values(), *(key for other in others for key in other.keys.values())}
        length = len(network.prefix)
        return {
            ".".join(parts[length:]): key
            for key, parts in within.items()
            if parts[:length] == network.prefix and key not in taken and (not dicts or key[:-1] in dicts)
        }

    def rest(self, network: _Network, beside: Collection[str]) -> list[Key]:
        """Tensors of the file that are neither a network's nor numbers nor those ``beside`` it."""
        used = set(network.keys.values())
        return [
            key
            for key, parts in self.all.items()
            if key not in used and parts and parts[-1] not in beside and self._checkpoint.tensors[key].ndim
        ]

    def groups(self, beside: Parts = (), passed: Iterable[Key] | None = None) -> dict[str, int]:
        """How many tensors stand under which name, next to those under ``beside``."""
        counts: Counter[str] = Counter()
        for key in self.all if passed is None else passed:
            parts = self.all[key]
            same = next((n for n, pair in enumerate(zip(parts, beside, strict=False)) if len(set(pair)) > 1), None)
            depth = min(len(beside), len(parts) - 1) if same is None else same
            counts[clean_text(".".join(parts[: depth + 1]), 80)] += 1
        return counts


def _short(name: str, wrappers: Collection[str]) -> Parts:
    return tuple(part for part in _DENSENET.sub(r"\1\2.", name).split(".") if part and part not in wrappers)


@dataclass(frozen=True)
class _Plan:
    """What a network must have to fit a model."""

    name: str
    tensors: Mapping[str, Tensor]
    head: str | None

    @property
    def head_names(self) -> list[str]:
        return [name for name in self.tensors if self.head and name.rpartition(".")[0] == self.head]

    def missing(self, network: _Network) -> list[str]:
        return [name for name in self.tensors if name not in network.keys and not name.endswith(_COUNTER)]

    def headless(self, network: _Network) -> bool:
        """Whether all but the class layer is there."""
        missing = self.missing(network)
        return bool(missing) and missing == self.head_names and bool(network.keys)

    def classes(self, network: _Network, checkpoint: Checkpoint) -> int | None:
        key = network.keys.get(f"{self.head}.weight") if self.head else None
        if key is None or not checkpoint.tensors[key].ndim:
            return None
        units = checkpoint.tensors[key].shape[0]
        return None if units == self.tensors[f"{self.head}.weight"].shape[0] else int(units)

    def other_shapes(self, network: _Network, checkpoint: Checkpoint) -> dict[str, tuple[list[int], list[int]]]:
        classes = self.classes(network, checkpoint)
        usual = self.tensors[f"{self.head}.weight"].shape[0] if classes else None
        found = {}
        for name, key in network.keys.items():
            there, here = list(checkpoint.tensors[key].shape), list(self.tensors[name].shape)
            # A second class layer, of an auxiliary output, has as many units as the first.
            resized = classes is not None and there[:1] == [classes] and here[:1] == [usual]
            if there != here and not (resized and there[1:] == here[1:]):
                found[name] = there, here
        return found

    def fits(self, network: _Network, checkpoint: Checkpoint) -> bool:
        missing = self.missing(network)
        return (not missing or self.headless(network)) and not self.other_shapes(network, checkpoint)

    def with_head(
        self, network: _Network, unclaimed: Mapping[str, Key], checkpoint: Checkpoint, source: str
    ) -> _Network:
        """A network without a class layer, with one that has another name if there is one; logs what was done."""
        top = (self.head or "").partition(".")[0]
        others = [name for name in unclaimed if name.partition(".")[0] == top]
        if renamed := self._linear(others, unclaimed, checkpoint):
            logger.warning(
                "%s: its %s is used as %s, the class layer of %s; layers without weights around it, such as"
                " dropout, are not in the file and are left out",
                source,
                others[0].rpartition(".")[0],
                self.head,
                self.name,
            )
            return _Network(network.prefix, network.keys | renamed)
        logger.warning(
            "%s has no weights of %s, the class layer of %s%s: that layer is left out, and what comes after it",
            source,
            self.head,
            self.name,
            f", but those of another head ({_listed(others)})" if others else "",
        )
        return network

    def check(
        self, network: _Network, unclaimed: Mapping[str, Key], checkpoint: Checkpoint, source: str, *, strict: bool
    ) -> None:
        """See that a network is the model's.

        Raises:
            MisfitError: tensors are missing, unexpected or of another shape.
            UsageError: its tensors are quantised.
        """
        top = (self.head or "").partition(".")[0]
        headless = self.headless(network)
        unknown = [
            name
            for name, key in unclaimed.items()
            if strict
            and not (name == _AVERAGED and not checkpoint.tensors[key].ndim)
            and not name.endswith(_COUNTER)
            and not (headless and name.partition(".")[0] == top)
        ]
        missing = [] if headless else self.missing(network)
        other = self.other_shapes(network, checkpoint)
        if missing or other or unknown:
            raise misfit(source, self.name, len(self.tensors), missing=missing, unknown=unknown, other=other)
        _check_types({name: checkpoint.tensors[key] for name, key in network.keys.items()}, self.tensors, source)

    def _linear(
        self, names: Sequence[str], unclaimed: Mapping[str, Key], checkpoint: Checkpoint
    ) -> dict[str, Key]:
        """The head's tensors where they stand under another name of the same part, and are one layer; else empty.

        ``fc = Sequential(Dropout(), Linear(512, 7))`` has them at ``fc.1``.
        """
        paths = {name.rpartition(".")[0] for name in names}
        wanted = self.head_names
        if len(paths) != 1 or len(names) != len(wanted):
            return {}
        (path,) = paths
        renamed = {name: f"{path}.{name.rpartition('.')[2]}" for name in wanted}
        if set(renamed.values()) != set(names):
            return {}
        fits = all(
            checkpoint.tensors[unclaimed[there]].shape[1:] == self.tensors[name].shape[1:]
            and checkpoint.tensors[unclaimed[there]].ndim == self.tensors[name].ndim
            for name, there in renamed.items()
        )
        return {name: unclaimed[there] for name, there in renamed.items()} if fits else {}


def _different(networks: Sequence[_Network], checkpoint: Checkpoint) -> list[_Network]:
    """The networks without those that have the same values as one before."""

    def same(one: _Network, other: _Network) -> bool:
        import torch

        tensors = checkpoint.tensors
        return one.keys.keys() == other.keys.keys() and all(
            tensors[key].dtype == tensors[other.keys[name]].dtype
            and torch.equal(tensors[key], tensors[other.keys[name]])
            for name, key in one.keys.items()
        )

    found: list[_Network] = []
    for network in networks:
        if not any(same(network, before) for before in found):
            found.append(network)
    return found


def _check_types(state: Mapping[str, Tensor], plan: Mapping[str, Tensor], source: str) -> None:
    import torch

    plain = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
    for name, tensor in state.items():
        weights = plan[name].is_floating_point()
        if tensor.is_quantized or tensor.layout != torch.strided or (weights and tensor.dtype not in plain):
            kind = str(tensor.dtype if tensor.layout == torch.strided else tensor.layout).removeprefix("torch.")
            raise UsageError(f"{source} holds {name} as {kind}: it is quantised or packed", _QUANTISED)


def _tell_passed_over(source: str, network: _Network, places: _Places, beside: Collection[str]) -> None:
    passed = places.rest(network, beside)
    if passed:
        groups = places.groups(network.prefix, passed)
        logger.warning(
            "%s is used; other tensors of the file are passed over: %s",
            source,
            _listed([f"{count} of {name}" for name, count in groups.items()]),
        )


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return ", ".join(name or "(no prefix)" for name in shown[:_LISTED]) + more
