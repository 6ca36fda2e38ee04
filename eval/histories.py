"""Former place of ``reports.histories``, kept for one release."""

from line_neurons.eval.reports.histories import History, histories, history
from line_neurons.eval.reports.histories import UnitSearch as Search

__all__ = ["History", "Search", "histories", "history"]
