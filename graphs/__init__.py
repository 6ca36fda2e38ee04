"""The state machine of one unit, runs over many units, and the Python interface (``explain``, ``load``)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from line_neurons.graphs.api.explain import Interrupted, aexplain, explain, iter_explain
    from line_neurons.graphs.api.layers import LayerTable, layers
    from line_neurons.graphs.api.result import Result, UnitResult, load

__all__ = [
    "Interrupted", "LayerTable", "Result", "UnitResult", "aexplain", "explain", "iter_explain", "layers", "load",
]  # fmt: skip
_MODULES = {
    **dict.fromkeys(("Result", "UnitResult", "load"), "result"),
    **dict.fromkeys(("LayerTable", "layers"), "layers"),
}


def __getattr__(name: str) -> Any:
    # Imported on access: the packages above import single modules, some without LangGraph.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.api.{_MODULES.get(name, 'explain')}"), name)
