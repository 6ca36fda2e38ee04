"""Measure storage and time of layers with many units, few of which respond to an image.

    python tests/tools/cache/wide_layers.py --units 49152 --images 2000 --active 1500

Activations are made up: of each image as many units as ``--active`` are not 0. Stored bytes and memory grow with
the number of images; those of 50,000 are extrapolated.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from line_neurons.agent.activations import SparseActivations
from line_neurons.agent.ports import Control
from line_neurons.tools.cache.activation_cache import Cache, vector_row
from line_neurons.tools.cache.reader import control_path
from line_neurons.tools.scorers import auc

if TYPE_CHECKING:
    from line_neurons.agent.ports import Activations

_CHUNK = 100
_OF_CONCEPT = 5
_EXTRAPOLATED = 50_000


def made_up(rng: np.random.Generator, images: int, units: int, active: int) -> Activations:
    """Return activations [images, units], ``active`` of each image above 0."""
    rows = np.zeros((images, units), np.float32)
    for row in rows:
        row[rng.choice(units, min(active, units), replace=False)] = rng.random(min(active, units)) + 0.1
    return rows


def control_memory(images: int, units: int, active: int, store: Path) -> tuple[int, int, int]:
    """Join a control set chunk by chunk, and read it again.

    Returns:
        bytes of its file, bytes in memory, and peak bytes while it was joined and read.
    """
    rng = np.random.default_rng(0)
    parts = [
        SparseActivations.joined([made_up(rng, _CHUNK, units, active)], units) for _ in range(images // _CHUNK)
    ]
    with closing(Cache(store)) as cache:
        tracemalloc.start()
        joined = SparseActivations.joined(parts, units)
        cache.put_control("control", Control((), np.full(images, -1, np.int64), joined))
        del joined, parts
        found = cache.control("control", units)
        assert found is not None
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        held = found.activations.nbytes
    return control_path(store, "control").stat().st_size, held, peak


def step_seconds(images: int, units: int, active: int, asked: int, store: Path) -> tuple[float, int]:
    """Time what a step of a unit reads and scores; return seconds a step, and stored bytes an image."""
    rng = np.random.default_rng(1)
    rows = made_up(rng, _OF_CONCEPT, units, active)
    names = [f"{number:064x}" for number in range(_OF_CONCEPT)]
    control_rows = [made_up(rng, min(_CHUNK, images), units, active) for _ in range(max(1, images // _CHUNK))]
    with closing(Cache(store)) as cache:
        cache._vectors.put(names, {"layer": "target"}, {"layer": rows})
        control = Control((), np.full(images, -1, np.int64), SparseActivations.joined(control_rows, units))
        cache.put_control("steps", control)
        kept = cache.control("steps", units)
        assert kept is not None
        began = time.perf_counter()
        for unit in rng.choice(units, asked):
            found = cache._vectors.read(names, "target", "layer")
            concept = np.array([found[name].value(int(unit)) for name in names], np.float32)
            auc(concept, kept.column(int(unit)))
        seconds = (time.perf_counter() - began) / asked
    stored = sum(len(vector_row(name, "target", "layer", row)[3]) for name, row in zip(names, rows, strict=True))
    return seconds, stored // _OF_CONCEPT


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--units", type=int, default=49_152)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--active", type=int, default=1_500)
    parser.add_argument("--reference-units", type=int, default=2_048)
    parser.add_argument("--asked", type=int, default=2_000)
    given = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        file, held, peak = control_memory(given.images, given.units, given.active, Path(folder) / "control")
        seconds, stored = step_seconds(given.images, given.units, given.active, given.asked, Path(folder) / "wide")
        usual, dense = step_seconds(
            given.images, given.reference_units, given.reference_units, given.asked, Path(folder) / "usual"
        )
    scale = _EXTRAPOLATED / given.images
    print(f"{given.images:,} control images, {given.units:,} units, {given.active:,} of each image above 0")
    print(f"an image: {stored:,} bytes stored; dense would be {4 * given.units:,}")
    print(
        f"control set: {file / given.images:,.0f} bytes an image in its file, {held / given.images:,.0f} in memory"
    )
    print(
        f"{_EXTRAPOLATED:,} control images, extrapolated: file {file * scale / 2**30:.2f} GiB, memory"
        f" {held * scale / 2**30:.2f} GiB, peak {peak * scale / 2**30:.2f} GiB; dense"
        f" {4 * given.units * _EXTRAPOLATED / 2**30:.1f} GiB"
    )
    print(
        f"a step of a unit: {seconds / usual:.2f} times that of a layer of {given.reference_units:,} units with"
        f" all above 0 ({dense:,} bytes an image), {given.asked:,} units each"
    )


if __name__ == "__main__":
    main()
