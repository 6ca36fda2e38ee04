"""Measure storage and time of layers with many units, few of which respond to an image.

    python tests/tools/cache/wide_layers.py --units 49152 --images 2000 --active 1500

Activations are made up: of each image as many units as ``--active`` are not 0. Stored bytes and memory grow with
the number of images; those of 50,000 are extrapolated.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import count, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from line_neurons.agent.activations import SparseActivations, compact, joined_activations
from line_neurons.agent.ports import Control, LayerInfo
from line_neurons.eval.benchmarks.instant import LAYER, InstantControl, InstantTarget, instant_components
from line_neurons.eval.benchmarks.real_components import closing as closed
from line_neurons.graphs.runs.lifecycle import start, work
from line_neurons.tools.cache.activation_cache import Cache
from line_neurons.tools.cache.reader import control_path
from line_neurons.tools.cache.vectors import encode_vector
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


@contextmanager
def kept_steps(
    images: int, units: int, active: int, asked: int, store: Path
) -> Iterator[tuple[Callable[[], None], int]]:
    """Keep a concept's images and a control set; give what a step of each of ``asked`` units reads and scores.

    Yields:
        what takes ``asked`` such steps, and stored bytes an image.
    """
    rng = np.random.default_rng(1)
    rows = made_up(rng, _OF_CONCEPT, units, active)
    names = [f"{number:064x}" for number in range(_OF_CONCEPT)]
    control_rows = [made_up(rng, min(_CHUNK, images), units, active) for _ in range(max(1, images // _CHUNK))]
    with closing(Cache(store)) as cache:
        cache._vectors.put(names, {"layer": "target"}, {"layer": rows})
        control = Control((), np.full(images, -1, np.int64), joined_activations(list(map(compact, control_rows))))
        cache.put_control("steps", control)
        kept = cache.control("steps", units)
        assert kept is not None
        chosen = [int(unit) for unit in rng.choice(units, asked)]

        def steps() -> None:
            for unit in chosen:
                found = cache._vectors.read(names, "target", "layer")
                concept = np.array([found[name].value(unit) for name in names], np.float32)
                auc(concept, kept.column(unit))

        yield steps, int(np.mean([len(encode_vector(row)[0]) for row in rows]))


class WideTarget(InstantTarget):
    """A layer of which the activations on an image are one of 64 made-up rows."""

    def __init__(self, units: int, active: int) -> None:
        super().__init__(f"instant target of {units} units")
        self.rows = made_up(np.random.default_rng(2), 64, units, active)

    def layers(self) -> list[LayerInfo]:
        width = self.rows.shape[1]
        return [LayerInfo(LAYER, "Linear", (width,), width)]

    def activate(self, images: Sequence[Any], layers: Sequence[str], progress: object = None) -> Any:
        self.passes += len(images)
        return dict.fromkeys(layers, self.rows[[zlib.crc32(bytes(image)) % 64 for image in images]])


def searched(units: int, active: int, asked: int, store: Path, *, new: bool) -> Callable[[], int]:
    """Return what labels some units that are alive, and gives the number of their steps.

    Language model, generator and target reply at once. With ``new`` each time has a seed of its own, so that the
    images of all concepts are generated, measured and stored; else only the first time does that. The control set
    is measured the first time.
    """
    target, seeds = WideTarget(units, active), count() if new else repeat(0)
    control = [chunk.images[0] for chunk in InstantControl().chunks()]
    alive = np.flatnonzero(np.ptp(target.activate(control, [LAYER])[LAYER], axis=0))
    chosen = [str(unit) for unit in np.random.default_rng(3).choice(alive, asked, replace=False)]

    def search() -> int:
        components = instant_components(store, seed=next(seeds), scorer="auc", max_concurrent_units=1)
        with closed(components.with_(target=target)) as opened:
            run = work(opened, start(opened, LAYER, chosen))
            return sum(1 for unit in chosen for _ in opened.runs.steps(run.id, int(unit)))

    return search


def alternated(wide: Callable[[], object], usual: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Time two things in turn, after a round that does not count; return the least processor seconds of each."""
    seconds: list[list[float]] = [[], []]
    for counted in range(rounds + 1):
        for part, found in zip((wide, usual), seconds, strict=True):
            began = time.process_time()
            part()
            if counted:
                found.append(time.process_time() - began)
    return min(seconds[0]), min(seconds[1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--units", type=int, default=49_152)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--active", type=int, default=1_500)
    parser.add_argument("--reference-units", type=int, default=2_048)
    parser.add_argument("--asked", type=int, default=300)
    parser.add_argument("--searched", type=int, default=6, help="units that are labelled")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args(arguments)
    wide, usual = (given.units, given.active), (given.reference_units, given.reference_units)
    with TemporaryDirectory() as folder, ExitStack() as opened:
        file, held, peak = control_memory(given.images, *wide, Path(folder) / "control")
        (reads, stored), (usual_reads, dense) = (
            opened.enter_context(kept_steps(given.images, *layer, given.asked, Path(folder) / f"{layer[0]}"))
            for layer in (wide, usual)
        )
        read, usual_read = (seconds / given.asked for seconds in alternated(reads, usual_reads, given.rounds))
        steps = []
        for new in (False, True):
            search, usual_search = (
                searched(*layer, given.searched, Path(folder) / f"search {layer[0]} {new}", new=new)
                for layer in (wide, usual)
            )
            taken, usual_taken = search(), usual_search()
            step, usual_step = alternated(search, usual_search, given.rounds)
            steps.append((1e3 * step / taken, 1e3 * usual_step / usual_taken))
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
        f"what a step reads and scores: {1e6 * read:.0f} us, {read / usual_read:.2f} times the"
        f" {1e6 * usual_read:.0f} us of a layer of {given.reference_units:,} units with all above 0"
        f" ({dense:,} bytes an image); {given.asked:,} units, least of {given.rounds}"
    )
    for images_are, (step, usual_step) in zip(("known", "new"), steps, strict=True):
        print(
            f"a whole step with instant components whose images are {images_are}: {step:.2f} ms,"
            f" {step / usual_step:.2f} times {usual_step:.2f} ms; {given.searched} units, least of {given.rounds}"
        )


if __name__ == "__main__":
    main()
