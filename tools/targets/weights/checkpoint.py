"""Find the network of a checkpoint that fits a model, and load its tensors.

A file is read as tensors by their place in it (``weights.files``). Wherever the model's own names occur below a
prefix, there is a network; of those that fit, one is used, or the user has to choose.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text
from line_neurons.tools.targets.layers.outputs import kernel
from line_neurons.tools.targets.weights.networks import Network, TensorNames, join_names

if TYPE_CHECKING:
    from torch import Tensor, nn

    from line_neurons.tools.targets.weights.files import Checkpoint, Key

logger = logging.getLogger(__name__)

# Files of torch before 0.4.1 have no such counters, and nothing is computed from them.
_COUNTER = "num_batches_tracked"
# AveragedModel counts the models in its average.
_AVERAGED = "n_averaged"
_EXAMPLES = 3
_REMEDY = "name the model it was trained as, or load it in a function of your own (MODULE:FUNCTION)"
_QUANTISED = "give the weights from before the quantisation, as float32, float16 or bfloat16"


class MisfitError(UsageError):
    """A checkpoint is of another model."""


@dataclass(frozen=True)
class MatchedNetwork:
    """A network of a checkpoint that fits a model.

    Args:
        state: its tensors by the model's names.
        classes: the number of its classes where the model has another, else None.
        left_out: path of the model's class layer where the network has no weights of it, else None.
    """

    state: OrderedDict[str, Tensor]
    source: str
    classes: int | None = None
    left_out: str | None = None


def head_of(module: nn.Module, classes: int) -> str | None:
    """Return the path of the class layer: the last kernel, with ``classes`` units."""
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
) -> MatchedNetwork:
    """Find the network of ``checkpoint`` that fits a model.

    A network is what stands below one prefix; wrappers of training (``module.``, ``_orig_mod.`` ...) do not count.
    It fits if every tensor is there with its shape. The class layer may have another number of units, or be
    missing: then the rest is used.

    Args:
        tensors: the model's by name, as its ``state_dict()`` has them; may be on the meta device.
        head: path of the class layer; None if the model has none.
        strict: refuse tensors of the network that the model does not have.
        beside: last parts of names that the caller reads itself.

    Raises:
        MisfitError: no network fits.
        UsageError: several do and none was chosen, there is none of the chosen name, or it is quantised.
    """
    plan = _Plan(name, tensors, head)
    places = TensorNames(checkpoint, tensors)
    chosen = checkpoint.file.network
    within = places.under(chosen) if chosen is not None else places.all
    networks = places.networks(within)
    fitting = [network for network in networks if plan.fits(network, checkpoint)]
    if chosen is not None and len(fitting) > 1:
        wanted = places.short(chosen)
        whole = [network for network in fitting if network.prefix == wanted]
        exact = [
            network
            for network in fitting
            if any(network.prefix[start:] == wanted for start in places.starts(network))
        ]
        fitting = whole or exact or fitting
    fitting = _distinct(fitting, checkpoint)
    if len(fitting) > 1:
        labels = [network.label for network in fitting]
        raise UsageError(
            f"the weights file {checkpoint} holds {len(labels)} networks that fit {name}: {join_names(labels)}",
            f"choose one: --weights {checkpoint}#{labels[0]}",
        )
    if chosen is not None and not within:
        known = [network.label for network in places.networks(places.all) if plan.fits(network, checkpoint)]
        raise UsageError(
            f"the weights file {checkpoint} holds no network {chosen!r:.200}",
            f"there is {join_names(known or places.groups())}",
        )
    best = fitting[0] if fitting else max(networks, key=lambda network: len(network.keys), default=Network(()))
    others = [network for network in networks if network is not best and plan.fits(network, checkpoint)]
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
    return MatchedNetwork(state, source, plan.classes(best, checkpoint), left)


def load(module: nn.Module, found: MatchedNetwork, *, name: str) -> None:
    """Load a found network into ``module``, which may be on the meta device.

    The network's tensors become the module's own, so it needs as many classes.

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
    """Replace a layer without weights by an identity; ``left_out`` returns its path."""
    import torch

    parent, _, last = path.rpartition(".")
    setattr(module.get_submodule(parent), last, torch.nn.Identity())
    module._line_left_out = path  # type: ignore[assignment]


def left_out(module: nn.Module) -> str | None:
    """Return the path of the layer that ``leave_out`` replaced, or None."""
    return getattr(module, "_line_left_out", None)


def check_finite(module: nn.Module, name: str) -> None:
    """Check that a model's weights are finite.

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
    """Make the error for a checkpoint of another model, with examples.

    Args:
        missing: names of the model that the file lacks.
        unknown: names of the file that the model lacks.
        other: shapes in the file and in the model, of tensors where they differ.
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


@dataclass(frozen=True)
class _Plan:
    """The tensors that a network must have to fit a model."""

    name: str
    tensors: Mapping[str, Tensor]
    head: str | None

    @property
    def head_names(self) -> list[str]:
        return [name for name in self.tensors if self.head and name.rpartition(".")[0] == self.head]

    def missing(self, network: Network) -> list[str]:
        return [name for name in self.tensors if name not in network.keys and not name.endswith(_COUNTER)]

    def headless(self, network: Network) -> bool:
        """Tell whether all but the class layer is there."""
        missing = self.missing(network)
        return bool(missing) and missing == self.head_names and bool(network.keys)

    def classes(self, network: Network, checkpoint: Checkpoint) -> int | None:
        key = network.keys.get(f"{self.head}.weight") if self.head else None
        if key is None or not checkpoint.tensors[key].ndim:
            return None
        units = checkpoint.tensors[key].shape[0]
        return None if units == self.tensors[f"{self.head}.weight"].shape[0] else int(units)

    def other_shapes(self, network: Network, checkpoint: Checkpoint) -> dict[str, tuple[list[int], list[int]]]:
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

    def fits(self, network: Network, checkpoint: Checkpoint) -> bool:
        missing = self.missing(network)
        return (not missing or self.headless(network)) and not self.other_shapes(network, checkpoint)

    def with_head(
        self, network: Network, unclaimed: Mapping[str, Key], checkpoint: Checkpoint, source: str
    ) -> Network:
        """Find the class layer under another name; logs what was used or left out."""
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
            return Network(network.prefix, network.keys | renamed)
        logger.warning(
            "%s has no weights of %s, the class layer of %s%s: that layer is left out, and what comes after it",
            source,
            self.head,
            self.name,
            f", but those of another head ({join_names(others)})" if others else "",
        )
        return network

    def check(
        self, network: Network, unclaimed: Mapping[str, Key], checkpoint: Checkpoint, source: str, *, strict: bool
    ) -> None:
        """Check that a network is the model's.

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
        """Map the head's tensors to one layer of other names; else empty.

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


def _distinct(networks: Sequence[Network], checkpoint: Checkpoint) -> list[Network]:
    """Drop networks with the same values as an earlier one."""

    def same(one: Network, other: Network) -> bool:
        import torch

        tensors = checkpoint.tensors
        return one.keys.keys() == other.keys.keys() and all(
            tensors[key].dtype == tensors[other.keys[name]].dtype
            and torch.equal(tensors[key], tensors[other.keys[name]])
            for name, key in one.keys.items()
        )

    found: list[Network] = []
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


def _tell_passed_over(source: str, network: Network, places: TensorNames, beside: Collection[str]) -> None:
    passed = places.rest(network, beside)
    if passed:
        groups = places.groups(network.prefix, passed)
        logger.warning(
            "%s is used; other tensors of the file are passed over: %s",
            source,
            join_names([f"{count} of {name}" for name, count in groups.items()]),
        )
