"""The layers of a model for the user: which there are, which are usual, and which cannot be measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from line_neurons.agent.errors import MissingPartError, UsageError
from line_neurons.agent.ports import LayerInfo
from line_neurons.tools.targets.architectures import forward_passes, has_architecture, open_architecture
from line_neurons.tools.targets.hooked_target import HookedTarget
from line_neurons.tools.targets.layers.layouts import find_layers
from line_neurons.tools.targets.layers.outputs import last_kernel


@dataclass(frozen=True)
class LayerList:
    """The layers of a model that can be explained.

    Args:
        layers: in forward order.
        refused: why other layers cannot be measured, by path.
        output: path of the layer of the classes, or of the output; None if there is none.
        missing: what weights are missing, where these are the layers of the architecture alone.
    """

    layers: Sequence[LayerInfo]
    refused: Mapping[str, UsageError] = field(default_factory=dict)
    output: str | None = None
    missing: MissingPartError | None = None

    @property
    def last_hidden(self) -> str | None:
        """The path of the last layer before the output that has maps or tokens, or else of the last one."""
        paths = [info.path for info in self.layers]
        before = self.layers[: paths.index(self.output)] if self.output in paths else self.layers[:-1]
        spread = [info for info in before if len(info.shape) > 1 and prod(info.shape) > info.units]
        return (spread or before)[-1].path if before else None

    def matching(self, depth: int | None = None, pattern: str = "") -> list[LayerInfo]:
        """Return the layers with at most ``depth`` names in their path, and ``pattern`` in path or kind.

        Raises:
            UsageError: the pattern is no regular expression.
        """
        try:
            searched = re.compile(pattern, re.IGNORECASE)
        except re.error as error:
            raise UsageError(
                f"{pattern!r:.80} is no regular expression: {error}", "a plain word will do, such as conv"
            ) from None
        return [
            info
            for info in self.layers
            if (depth is None or info.path.count(".") < depth)
            and (searched.search(info.path) or searched.search(info.kind))
        ]


def list_layers(target: HookedTarget) -> LayerList:
    """List the layers of a target, whose weights are loaded.

    Raises:
        LineError: see ``HookedTarget.layers``; or the user's class names are not as many as the output units.
    """
    target.check_classes()
    return LayerList(target.layers(), target.refused_layers(), target.output_layer)


def list_architecture(spec: str, missing: MissingPartError, layouts: Sequence[str] = ()) -> LayerList:
    """List the layers of a model whose weights are ``missing``.

    Raises:
        MissingPartError: ``missing``, where the source has no architecture without weights.
        LineError: the model does not exist, or its forward pass fails.
    """
    import torch

    if not has_architecture(spec):
        raise missing
    module, batch, call = forward_passes(open_architecture(spec))
    with torch.inference_mode():
        found = find_layers(module, call, batch, layouts=layouts)
    # How earlier releases read a layer depends on values.
    layers = [replace(output.info, reading="") for output in found.known.values()]
    return LayerList(layers, output=last_kernel(module, found.known), missing=missing)
