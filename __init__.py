"""LINE: name what the units of a vision model respond to, with the evidence.

import line_neurons as line
result = line.explain("torchvision:mobilenet_v2", "classifier.1", ["violin"], llm="embedded", generator="bank")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from line_neurons.agent.errors import LineError
    from line_neurons.graphs.api.explain import Interrupted, aexplain, explain, iter_explain
    from line_neurons.graphs.api.layers import LayerTable, layers
    from line_neurons.graphs.api.result import Result, UnitResult, load

    __version__: str

__all__ = [
    "Interrupted", "LayerTable", "LineError", "Result", "UnitResult", "__version__", "aexplain", "explain",
    "iter_explain", "layers", "load",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # On access: the command imports this package, and starts without LangGraph and torch.
    if name == "__version__":
        from importlib.metadata import version

        return version("line-neurons")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = "agent.errors" if name == "LineError" else "graphs"
    return getattr(import_module(f"{__name__}.{place}"), name)


def __dir__() -> list[str]:
    return __all__
