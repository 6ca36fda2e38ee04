"""Former place of the run store, importable for one more release; use ``line_neurons.tools.store``."""

from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore, default_store

__all__ = ["Run", "RunStore", "Step", "Unit", "default_store"]
