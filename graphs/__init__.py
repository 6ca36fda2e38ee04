"""The state machine of one unit, runs over many units, and the Python interface (``explain``, ``load``)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from line_neurons.graphs.api.explain import Interrupted, aexplain, explain, iter_explain
    from line_neurons.graphs.api.result import Result, UnitResult, load

__all__ = ["Interrupted", "Result", "UnitResult", "aexplain", "explain", "iter_explain", "load"]


def __getattr__(name: str) -> Any:
    # Imported on access: the packages above import single modules, some without LangGraph.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "result" if name in {"Result", "UnitResult", "load"} else "explain"
    return getattr(import_module(f"{__name__}.api.{module}"), name)
