"""Whether images of the bundled bank look like what their captions say: ``python -m`` this module.

Captions that are a name of an ImageNet class are shown to the embedded target: is the class among its five highest
units, and does the class's unit tell the caption's images from those of all other captions? For each source of
images that, the time of an image and the memory of the process; and how many captions have held-out images.
``--sheet`` writes contact sheets of random captions, one image each.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from line_neurons.agent.prompts import image_requests
from line_neurons.agent.settings import load_settings
from line_neurons.eval.labels.wordnet import WordNet
from line_neurons.eval.reports.class_units import LAYER, MODEL, drawable_classes
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.image_bank.bank import BUNDLED, Bank
from line_neurons.tools.image_bank.generator import ImageBankGenerator
from line_neurons.tools.image_bank.text_encoder import SentenceEncoder
from line_neurons.tools.images.reader import read_image
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


def contact_sheet(generator: ImageBankGenerator, captions: Sequence[str], side: int = 128) -> Image.Image:
    """Return an image of each caption with its name, ten in a row."""
    row = side + 14
    sheet = Image.new("RGB", (10 * side, row * -(-len(captions) // 10)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, caption in enumerate(captions):
        (image,) = generator.synthesize(image_requests(caption, 1, run_seed=0))
        left, top = number % 10 * side, number // 10 * row
        sheet.paste(read_image(image.png).resize((side, side), Image.Resampling.LANCZOS), (left, top))
        pen.text((left + 1, top + side), caption[:22], fill="black")
    return sheet


def sample(captions: Sequence[str], count: int | None) -> list[str]:
    """Return ``count`` random captions, the same each time, or all of them; sorted."""
    if count is None or count >= len(captions):
        return sorted(captions)
    return sorted(random.Random(0).sample(sorted(captions), count))


def judgeable(bank: Bank) -> tuple[int, int]:
    """Return the number of captions that have held-out images, and of all captions."""
    return len(bank.captions("heldout")), len(bank.captions("search"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--generator", choices=sorted(BUNDLED), default="bank+icons")
    parser.add_argument("--images", type=int, default=5, help="images of each caption (default 5)")
    parser.add_argument("--captions", type=int, default=None, help="random captions of a class (default all)")
    parser.add_argument("--packs", nargs="+", default=None, help="only these packs")
    parser.add_argument("--sheet", type=Path, default=None, help="folder of contact sheets, instead of measuring")
    parser.add_argument("--assets", type=Path, default=None)
    options = parser.parse_args(arguments)
    flags = {"generator": options.generator, "control": "bank", "assets": options.assets}
    components = Components(MODEL, load_settings(**flags))
    bank, encoder = components.image_bank, SentenceEncoder(components.assets / "minilm")
    held, every = judgeable(bank)
    classes = classes_of_captions(components, bank)
    shown = len(frozenset().union(*classes.values()))
    print(f"{options.generator}: {every} captions, {held} with held-out images; {shown} classes", flush=True)
    for pack in options.packs or BUNDLED[options.generator]:
        part = of_one_source(bank, pack)
        if not part.captions("all"):
            continue
        generator = ImageBankGenerator(part, encoder, "all")
        if options.sheet is not None:
            options.sheet.mkdir(parents=True, exist_ok=True)
            path = options.sheet / f"{pack}.png"
            contact_sheet(generator, sample(part.captions("all"), options.captions)).save(path)
            print(path, flush=True)
            continue
        captions = sample([caption for caption in part.captions("all") if caption in classes], options.captions)
        rows, seconds = {}, 0.0
        for caption in captions:
            start = time.process_time()
            images = generator.synthesize(image_requests(caption, options.images, run_seed=0))
            seconds += time.process_time() - start
            rows[caption] = components.target.activate([image.png for image in images], [LAYER])[LAYER]
        if rows:
            print(recognition(pack, rows, classes).line, flush=True)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            each = seconds / (len(captions) * options.images)
            print(f"{pack}: {each:.2f} CPU seconds an image, {memory:.1f} GB at most", flush=True)


if __name__ == "__main__":
    main()
