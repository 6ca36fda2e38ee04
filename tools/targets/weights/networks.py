"""The networks of a checkpoint: tensor names by prefix, without wrappers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from line_neurons.agent.errors import UsageError
from line_neurons.agent.text import clean_text

if TYPE_CHECKING:
    from line_neurons.tools.targets.weights.files import Checkpoint, Key

Parts = tuple[str, ...]
"""A dotted name split at its dots."""

# What wrappers of parallel, sharded, compiled and checkpointed training put into names, anywhere in them.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Older DenseNet files write norm.1 for norm1.
_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
_LISTED = 12


@dataclass
class Network:
    """Tensors below one prefix that have names of the model."""

    prefix: Parts
    keys: dict[str, Key] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The prefix as users write it."""
        return clean_text(".".join(self.prefix), 200)


class TensorNames:
    """The names of a checkpoint's tensors, matched with a model's ``names``."""

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
        """Split a name at its dots, without the wrappers."""
        return _short(name, self._wrappers)

    def versions(self, network: Network) -> dict[str, Any]:
        """Return the version numbers of a network's modules, by path."""
        length = len(network.prefix)
        found = {}
        for place, versions in self._checkpoint.versions.items():
            above = tuple(part for piece in place for part in self.short(piece))
            for path, version in versions.items():
                parts = (*above, *self.short(path))
                if parts[:length] == network.prefix:
                    found[".".join(parts[length:])] = version
        return found

    def starts(self, network: Network) -> tuple[int, ...]:
        """Return where a network's prefix may be read from: at each of the nested dicts around it."""
        return tuple(
            start for start in self._starts[next(iter(network.keys.values()))] if start <= len(network.prefix)
        )

    def under(self, name: str) -> dict[Key, Parts]:
        """Return the tensors whose name, in the file or in a nested dict, begins with ``name``."""
        wanted = self.short(name)
        return {
            key: parts
            for key, parts in self.all.items()
            if any(
                parts[start : start + len(wanted)] == wanted and len(parts) > start + len(wanted)
                for start in self._starts[key]
            )
        }

    def networks(self, within: Mapping[Key, Parts]) -> list[Network]:
        """Return all prefixes below which names of the model occur, the shortest first."""
        found: dict[Parts, Network] = {}
        for key, parts in within.items():
            for start in range(len(parts)):
                name = self._names.get(parts[start:])
                if name is None:
                    continue
                network = found.setdefault(parts[:start], Network(parts[:start]))
                if name in network.keys:
                    twice = " and ".join(clean_text(".".join(parts), 200) for parts in (network.keys[name], key))
                    raise UsageError(
                        f"the weights file {self._checkpoint} holds {name} twice: {twice}",
                        "save the network that you mean into a file of its own",
                    )
                network.keys[name] = key
        return sorted(found.values(), key=lambda network: (len(network.prefix), network.prefix))

    def unclaimed(
        self, network: Network, others: Iterable[Network], within: Mapping[Key, Parts]
    ) -> dict[str, Key]:
        """Return tensors below a network's prefix that match no name of the model."""
        dicts = {key[:-1] for key in network.keys.values()}
        taken = {*network.keys.values(), *(key for other in others for key in other.keys.values())}
        length = len(network.prefix)
        return {
            ".".join(parts[length:]): key
            for key, parts in within.items()
            if parts[:length] == network.prefix and key not in taken and (not dicts or key[:-1] in dicts)
        }

    def rest(self, network: Network, beside: Collection[str]) -> list[Key]:
        """Return tensors of the file that are neither a network's nor numbers nor ``beside`` it."""
        used = set(network.keys.values())
        return [
            key
            for key, parts in self.all.items()
            if key not in used and parts and parts[-1] not in beside and self._checkpoint.tensors[key].ndim
        ]

    def groups(self, beside: Parts = (), passed: Iterable[Key] | None = None) -> dict[str, int]:
        """Count the tensors by name, one level below those under ``beside``."""
        counts: Counter[str] = Counter()
        for key in self.all if passed is None else passed:
            parts = self.all[key]
            same = next((n for n, pair in enumerate(zip(parts, beside, strict=False)) if len(set(pair)) > 1), None)
            depth = min(len(beside), len(parts) - 1) if same is None else same
            counts[clean_text(".".join(parts[: depth + 1]), 80)] += 1
        return counts


def _short(name: str, wrappers: Collection[str]) -> Parts:
    return tuple(part for part in _DENSENET.sub(r"\1\2.", name).split(".") if part and part not in wrappers)


def join_names(names: Iterable[str]) -> str:
    """Join up to twelve names with commas, and count the rest."""
    shown = list(names)
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return ", ".join(name or "(no prefix)" for name in shown[:_LISTED]) + more
