"""Seconds and peak memory of ``line facets`` for a run of a whole layer: ``python`` this file.

The layer is made up: activations of a control set of 1,440 images of 360 classes, and of 600 concepts, as random
mixtures of 64 things. Histories are read from a store and facets are written to it; activations come from memory
in place of the cache, and no model is loaded.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from line_neurons.agent.ports import Control
from line_neurons.agent.settings import Settings
from line_neurons.graphs.runs.facets.run_facets import store_facets
from line_neurons.tools.facets.control_vectors import ControlVectors
from line_neurons.tools.store.records import Run, Step, Unit
from line_neurons.tools.store.runs import RunStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from line_neurons.graphs.loop.state import Deps

_CLASSES, _IMAGES_OF_CLASS, _CONCEPTS, _IMAGES, _THINGS, _TRIALS = 360, 4, 600, 5, 64, 12


def main() -> None:
    """Find the facets of the units of a made-up layer, and print the cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=2048)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    layer = rng.normal(size=(_THINGS, options.units)).astype(np.float32)
    shown = np.maximum(_mixtures(rng, _CLASSES, _IMAGES_OF_CLASS) @ layer, 0)
    known = np.maximum(_mixtures(rng, _CONCEPTS, _IMAGES) @ layer, 0)
    classes = tuple(f"class {index}" for index in range(_CLASSES))
    control = Control(classes, np.repeat(np.arange(_CLASSES), _IMAGES_OF_CLASS), shown)

    def activations(images: Sequence[str], *_: Any, unit: int | None = None, **__: Any) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = known[[int(image) for image in images]]
        return rows if unit is None else rows[:, [unit]]

    with TemporaryDirectory() as folder:
        runs = RunStore(Path(folder))
        run, units = _record(runs, rng, known)
        vectors = ControlVectors(control)
        deps = SimpleNamespace(
            settings=Settings.model_construct(), runs=runs, cache=SimpleNamespace(activations=activations),
            target=None, layer="layer", generator=None, also_layers=(), control=lambda: control,
            control_vectors=lambda: vectors,
        )  # fmt: skip
        before, began, used = _memory(), time.monotonic(), time.process_time()
        found = store_facets(cast("Deps", deps), run, units)
        seconds, used = time.monotonic() - began, time.process_time() - used
        runs.close()
    split = sum(len(one.facets) > 1 for one in found)
    print(
        f"{len(units)} units, {_CONCEPTS} concepts: {used:.1f} s of processor time in {seconds:.1f} s, "
        f"peak memory {_memory():.0f} MB "
        f"({before:.0f} MB before); {split} split"
    )


def _mixtures(rng: np.random.Generator, things: int, images: int) -> NDArray[np.float32]:
    kinds = np.maximum(rng.normal(size=(things, _THINGS)), 0)
    rows = np.repeat(kinds, images, axis=0) + 0.3 * rng.normal(size=(things * images, _THINGS))
    return rows.astype(np.float32)


def _record(runs: RunStore, rng: np.random.Generator, known: NDArray[np.float32]) -> tuple[Run, list[Unit]]:
    """Record a finished run of which each unit was scored on some of the concepts."""
    run = Run("made-up", "torchvision:none", "layer", 0, "finished", 1.0, {}, {}, {})
    means = known.reshape(_CONCEPTS, _IMAGES, -1).mean(1)
    units, steps = [], []
    for unit in range(known.shape[1]):
        tried = rng.choice(_CONCEPTS, _TRIALS, replace=False)
        best = max(tried, key=lambda concept: float(means[concept, unit]))
        units.append(
            Unit(run.id, unit, unit, status="finished", label=f"concept {best}", score=float(means[best, unit]),
                 origin="proposed", label_step=0, images=_images(int(best)))
        )  # fmt: skip
        steps += [
            Step(run.id, unit, 0, place, "initial", "scored", f"concept {concept}",
                 float(means[concept, unit]), images=_images(int(concept)))
            for place, concept in enumerate(tried)
        ]  # fmt: skip
    runs.add_run(run, units)
    runs.put_steps(steps)
    return run, units


def _images(concept: int) -> tuple[str, ...]:
    return tuple(str(concept * _IMAGES + image) for image in range(_IMAGES))


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
