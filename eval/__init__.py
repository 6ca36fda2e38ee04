"""Evaluation of labels: CoSy, baselines, reports, exchange formats and benchmarks."""
