"""What the response model adds to a step: ``python -m line_neurons.eval.benchmarks.response_speed``."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from statistics import median

import numpy as np
from numpy.typing import NDArray

from line_neurons.tools.guidance.response_model import LayerModel, Observation

_WIDTH = 384


def _vectors(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    rows = rng.normal(size=(count, _WIDTH)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def measure(words: int, classes: int, units: int, steps: int) -> dict[str, float]:
    """Search ``units`` units for some steps each.

    Returns:
        by name: seconds to open the layer; milliseconds to open a unit, and of a step (median), in processor time.
    """
    rng = np.random.default_rng(0)
    candidates, control = _vectors(rng, words), _vectors(rng, classes)
    began = time.process_time()
    layer = LayerModel(control, candidates)
    opening = time.process_time() - began
    scores = rng.normal(size=(classes, units))
    priors, seconds = [], []
    for unit in range(units):
        began = time.process_time()
        prior = layer.prior(scores[:, unit])
        priors.append(time.process_time() - began)
        history: list[Observation] = []
        for step in range(steps):
            at = int(rng.integers(words))
            history.append(Observation(f"{unit} {step}", candidates[at], float(rng.normal())))
            began = time.process_time()
            model = layer.unit(prior, history)
            _ = model.correlation
            model.predict(model.rows).improvement(1.0).argmax()
            seconds.append(time.process_time() - began)
    return {
        "opening the layer, s": opening,
        "opening a unit, ms": 1000 * median(priors),
        "a step, ms": 1000 * median(seconds),
    }


def main() -> None:
    """Print the figures."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=5_000)
    parser.add_argument("--units", type=int, default=10, help="units searched; each costs the same")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    for name, value in measure(**vars(options)).items():
        print(f"{name}: {value:.1f}")


if __name__ == "__main__":
    main()
