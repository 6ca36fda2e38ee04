"""Measure whether maps point at the thing: ``python -m line_neurons.eval.pointing``.

On images that the image bank composes of cut-outs it is known where the thing is: where the image without it
differs. ``pointing`` is the share of a map's highest tenth that lies there; by chance it would be the share of the
thing in what the target sees.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from line_neurons.agent.errors import NotDrawableError
from line_neurons.agent.prompts import image_requests
from line_neurons.agent.settings import load_settings
from line_neurons.eval.benchmarks.bank_images import classes_of_captions
from line_neurons.eval.reports.class_units import LAYER, MODEL
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.editors.composed import where_thing_is
from line_neurons.tools.targets.maps import Box, box_in_pixels, unit_maps

_TOP = 0.1


def pointing(values: NDArray[np.float32], box: Box, thing: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the share of a map's highest tenth that lies on a thing, and the share by chance.

    Args:
        values: the map, float32 [h, w].
        box: the part of the image that it covers.
        thing: bool [H, W], where the thing is in the image.
    """
    height, width = thing.shape
    left, top, right, bottom = box_in_pixels(box, width, height)
    seen = thing[top:bottom, left:right]
    spread = np.asarray(
        Image.fromarray(values.astype(np.float32)).resize(seen.shape[::-1], Image.Resampling.BILINEAR)
    )
    order = np.argsort(-spread.ravel(), kind="stable")[: max(1, int(_TOP * spread.size))]
    return float(seen.ravel()[order].mean()), float(seen.mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--units", type=int, default=40, help="class units (default 40)")
    parser.add_argument("--images", type=int, default=3, help="images of each (default 3)")
    parser.add_argument("--occlusion", action="store_true", help="maps by occlusion")
    parser.add_argument("--assets", type=Path, default=None)
    options = parser.parse_args(arguments)
    components = Components(MODEL, load_settings(generator="bank", control="bank", assets=options.assets))
    generator = components.bank_generator("search")
    found: list[tuple[float, float]] = []
    units: set[int] = set()
    for caption, classes in classes_of_captions(components, components.image_bank).items():
        if len(units) == options.units:
            break
        try:
            composed = [
                where_thing_is(generator, request)
                for request in image_requests(caption, options.images, run_seed=0)
            ]
        except NotDrawableError:
            continue
        unit = min(classes)
        images = [image for image, _ in composed]
        maps = unit_maps(components.target, images, LAYER, [unit], occlusion=options.occlusion)
        units.add(unit)
        found += [
            pointing(values[0], box, thing)
            for values, box, (_, thing) in zip(maps.values, maps.boxes, composed, strict=True)
        ]
    shares, chances = np.array(found).T
    print(
        f"{maps.source}: {len(units)} class units, {len(found)} images: pointing {shares.mean():.2f} (median "
        f"{np.median(shares):.2f}), by chance {chances.mean():.2f}; above chance in "
        f"{(shares > chances).mean():.2f}"
    )


if __name__ == "__main__":
    main()
