"""Whether images of the bundled bank look like what their captions say: ``python -m`` this module.

Captions that are a name of an ImageNet class are shown to the embedded target: is the class among its five highest
units, and does the class's unit tell the caption's images from those of all other captions? One line for each
source of images, and how many captions have held-out images.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from line_neurons.agent.prompts import image_requests
from line_neurons.agent.settings import load_settings
from line_neurons.eval.labels.wordnet import WordNet
from line_neurons.eval.reports.class_units import LAYER, MODEL, drawable_classes
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.image_bank.bank import BUNDLED, Bank
from line_neurons.tools.image_bank.generator import ImageBankGenerator
from line_neurons.tools.image_bank.text_encoder import SentenceEncoder
from line_neurons.tools.scorers import auc


@dataclass(frozen=True)
class Recognition:
    """How a classifier sees the images of one source.

    Args:
        source: the asset pack of the images.
        captions: captions that name a class.
        top1: share of the images with a class of the caption as the highest unit.
        top5: the same for the five highest units.
        areas: AUC of the class's unit, by caption: its images against those of all captions of other classes.
    """

    source: str
    captions: int
    top1: float
    top5: float
    areas: Mapping[str, float]

    @property
    def line(self) -> str:
        """One line for a terminal."""
        low = ", ".join(f"{caption} {area:.2f}" for caption, area in sorted(self.areas.items(), key=_area)[:8])
        return (
            f"{self.source}: {self.captions} captions of a class, top-1 {self.top1:.2f}, top-5 {self.top5:.2f}, "
            f"AUC median {median(self.areas.values()):.3f}, mean {np.mean(list(self.areas.values())):.3f}; "
            f"lowest: {low}"
        )


def _area(pair: tuple[str, float]) -> tuple[float, str]:
    return pair[1], pair[0]


def of_one_source(bank: Bank, pack: str) -> Bank:
    """Return the bank with the images of subjects that one pack has, and all backgrounds."""
    kept = (entry for entry in bank.entries if not entry.is_subject or entry.id.startswith(f"{pack}/"))
    return Bank(f"{bank.name}:{pack}", kept)


def recognition(
    source: str, rows: Mapping[str, NDArray[np.float32]], classes: Mapping[str, frozenset[int]]
) -> Recognition:
    """Compute how often classes are recognised.

    Args:
        source: name of the images' source.
        rows: the last layer's activations by caption, float32 [n_images, n_units].
        classes: units of each caption.
    """
    ranked = {caption: np.argsort(-values, axis=1, kind="stable") for caption, values in rows.items()}
    first = [row[0] in classes[caption] for caption, order in ranked.items() for row in order]
    among = [bool(classes[caption] & set(row[:5].tolist())) for caption, order in ranked.items() for row in order]
    areas: dict[str, float] = {}
    for caption, values in rows.items():
        others = [rows[other] for other in rows if not classes[other] & classes[caption]]
        if others:
            unit = min(classes[caption])
            areas[caption] = auc(values[:, unit], np.concatenate([other[:, unit] for other in others]))
    return Recognition(source, len(rows), float(np.mean(first)), float(np.mean(among)), areas)


def classes_of_captions(components: Components, bank: Bank) -> dict[str, frozenset[int]]:
    """Return the units of the classes that a caption is a name of, by caption, where there are any."""
    words = WordNet(components.assets / "wordnet")
    found: dict[str, set[int]] = defaultdict(set)
    for true in drawable_classes(bank, words, components.target.unit_names(LAYER) or ()):
        for caption in true.captions:
            found[caption].add(true.unit)
    return {caption: frozenset(units) for caption, units in sorted(found.items())}


def judgeable(bank: Bank) -> tuple[int, int]:
    """Return the number of captions that have held-out images, and of all captions."""
    return len(bank.captions("heldout")), len(bank.captions("search"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--generator", choices=sorted(BUNDLED), default="bank+icons")
    parser.add_argument("--images", type=int, default=5, help="images of each caption (default 5)")
    parser.add_argument("--assets", type=Path, default=None)
    options = parser.parse_args(arguments)
    flags = {"generator": options.generator, "control": "bank", "assets": options.assets}
    components = Components(MODEL, load_settings(**flags))
    bank, encoder = components.image_bank, SentenceEncoder(components.assets / "minilm")
    held, every = judgeable(bank)
    classes = classes_of_captions(components, bank)
    shown = len(frozenset().union(*classes.values()))
    print(f"{options.generator}: {every} captions, {held} with held-out images; {shown} classes", flush=True)
    for pack in BUNDLED[options.generator]:
        part = of_one_source(bank, pack)
        captions = [caption for caption in part.captions("all") if caption in classes]
        if not captions:
            continue
        generator = ImageBankGenerator(part, encoder, "all")
        rows = {}
        for caption in captions:
            images = generator.synthesize(image_requests(caption, options.images, run_seed=0))
            rows[caption] = components.target.activate([image.png for image in images], [LAYER])[LAYER]
        print(recognition(pack, rows, classes).line, flush=True)


if __name__ == "__main__":
    main()
