"""Benchmarks of speed, memory and reuse; each is run with ``python -m``."""
