"""Former place of ``reports.histories``, kept for one release."""

from line_neurons.eval.reports.histories import History, Search, histories, history

__all__ = ["History", "Search", "histories", "history"]
