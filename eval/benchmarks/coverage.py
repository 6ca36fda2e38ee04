"""How often the bootstrap interval contains the mean: ``python -m line_neurons.eval.benchmarks.coverage``."""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from random import Random

from line_neurons.eval.reports.statistics import bootstrap_interval

SIZES = (5, 10, 20, 40)
SAMPLES = 1000
DRAWS: dict[str, Callable[[Random], float]] = {
    "normal": lambda rng: rng.gauss(0, 1),
    "skewed": lambda rng: rng.lognormvariate(0, 1) - exp(0.5),
}
"""Distributions with mean 0."""


def coverage(draw: Callable[[Random], float], size: int, samples: int, resamples: int = 999) -> float:
    """Return the share of samples whose interval contains the mean, which is 0."""
    rng = Random(size)
    held = 0
    for seed in range(samples):
        low, high = bootstrap_interval([draw(rng) for _ in range(size)], seed, resamples)
        held += low <= 0 <= high
    return held / samples


def main() -> None:
    """Print a line for each distribution and size."""
    for name, draw in DRAWS.items():
        for size in SIZES:
            print(f"{name}, n = {size}: {coverage(draw, size, SAMPLES):.3f}")


if __name__ == "__main__":
    main()
