"""Disk space of a unit, by database: ``python -m line_neurons.eval.benchmarks.disk``.

Real run store, checkpoints and cache around instant components; images are not counted.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

from line_neurons.eval.benchmarks.instant import LAYER, InstantModel, instant_components
from line_neurons.eval.benchmarks.real_components import closing, units_of
from line_neurons.graphs.runs.lifecycle import start, work

WORDS = 2000
"""Size of the proposer's vocabulary, so that units share some of their concepts."""


def bytes_a_unit(store: Path, units: int, iterations: int) -> Mapping[str, float]:
    """Label units with instant components; return the size of each database over the number of units."""
    components = instant_components(
        store, InstantModel(WORDS), iterations=iterations, max_concurrent_units=16, revisit=True
    )
    with closing(components):
        work(components, start(components, LAYER, units_of(units)))
    return {path.name: path.stat().st_size / units for path in sorted(store.glob("*.db"))}


def main() -> None:
    """Measure and print."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--iterations", default="5,10,20", help="numbers of iterations, with commas between")
    options = parser.parse_args()
    for iterations in map(int, options.iterations.split(",")):
        with tempfile.TemporaryDirectory(prefix="line-benchmark-") as folder:
            sizes = bytes_a_unit(Path(folder), options.units, iterations)
        text = ", ".join(f"{name} {size / 1000:.1f} kB" for name, size in sizes.items())
        print(f"N = {iterations}, {options.units} units: {text} a unit")


if __name__ == "__main__":
    main()
