"""Former place of ``reports.run_comparison``, kept for one release."""

from line_neurons.eval.reports.run_comparison import comparison

__all__ = ["comparison"]
