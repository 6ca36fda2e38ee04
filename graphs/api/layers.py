"""The layers of a model in Python: records, and a data frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from line_neurons.agent.errors import MissingPartError
from line_neurons.agent.ports import LayerInfo
from line_neurons.agent.settings import load_settings
from line_neurons.agent.settings_arguments import SettingsArguments
from line_neurons.graphs.api.result import frame_of
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.targets.base import find_layer
from line_neurons.tools.targets.custom import bundle_from_module
from line_neurons.tools.targets.layer_list import LayerList, list_architecture, list_layers

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import nn

    from line_neurons.tools.store.columns import Kind
    from line_neurons.tools.targets.custom import Transform
    from line_neurons.tools.targets.hooked_target import HookedTarget

_COLUMNS: dict[str, Kind] = {"path": "text", "kind": "text", "shape": "texts", "units": "integer"}


@dataclass(frozen=True)
class LayerTable:
    """The layers of a model that can be explained, in forward order; ``table["layer4"]`` is one by its path.

    Args:
        layers: each with ``path``, ``kind``, ``shape`` of its output and number of ``units``.
        output: path of the layer of the classes, or of the output; None if there is none.
        last_hidden: path of the last layer before it.
    """

    model: str
    layers: tuple[LayerInfo, ...]
    output: str | None
    last_hidden: str | None

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.layers)

    def __iter__(self) -> Iterator[LayerInfo]:
        """Iterate over the layers, in forward order."""
        return iter(self.layers)

    def __getitem__(self, which: int | str) -> LayerInfo:
        """Return a layer by its place or its path.

        Raises:
            UsageError: there is no such layer.
        """
        return self.layers[which] if isinstance(which, int) else find_layer(self.layers, which, self.model)

    def frame(self) -> DataFrame:
        """Return a row for each layer: path, kind, shape, units.

        Raises:
            MissingPartError: pandas is not installed.
        """
        return frame_of(({name: asdict(info)[name] for name in _COLUMNS} for info in self.layers), _COLUMNS)

    def __repr__(self) -> str:
        """Show a line for each layer."""
        rows = [(info.path, info.kind, " x ".join(map(str, info.shape)), f"{info.units} units") for info in self]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        lines = ["  ".join([*map(str.ljust, row, widths), row[3]]) for row in rows]
        return "\n".join([f"{self.model}: {len(rows)} layers", *(f"  {line}" for line in lines)])


def layers(
    model: str | nn.Module,
    *,
    depth: int | None = None,
    grep: str = "",
    transform: Transform | None = None,
    class_names: Sequence[str] | None = None,
    config: Path | None = None,
    **settings: Unpack[SettingsArguments],
) -> LayerTable:
    """List the layers of a model that can be explained; its weights are not needed.

    Args:
        model: a spec as on the command line, ``"torchvision:mobilenet_v2"``, or a module in memory.
        depth: list only layers with at most this many names in their path.
        grep: list only layers with this regular expression in their path or kind.
        transform: preprocessing of a module in memory; see ``explain``.
        class_names: names of the output units of a module in memory.
        config: settings file; None: ``line.toml`` in the working folder, if there is one.
        settings: any setting by name, such as ``weights="mine.pth"`` or ``download=True``.

    Raises:
        LineError: there is no such model, it cannot be opened, or a setting does not fit.
    """
    chosen = load_settings(config, **cast(dict[str, Any], settings))
    if isinstance(model, str):
        components = Components(model, chosen)
    else:
        bundle = bundle_from_module(model, transform, class_names)
        components = Components(bundle.name, chosen, bundle=bundle)
    found = layer_list(components)
    return LayerTable(components.model, tuple(found.matching(depth, grep)), found.output, found.last_hidden)


def layer_list(components: Components) -> LayerList:
    """List the layers of the target, or those of its architecture where its weights are missing.

    Raises:
        LineError: see ``tools.targets.layer_list``.
    """
    try:
        return list_layers(cast("HookedTarget", components.target))
    except MissingPartError as missing:
        settings = components.settings
        if components.bundle is not None or settings.sae or settings.directions:
            raise
        return list_architecture(components.model, missing, components.settings.layout)
