"""Whether images of the bundled bank look like what their captions say: ``python -m`` this module.

Captions that are a name of an ImageNet class are shown to the embedded target: is the class among its five highest
units, and does the class's unit tell the caption's images from those of all other captions? For each source of
images that, the time of an image and the memory of the process; and how many captions have held-out images.
``--sheet`` writes contact sheets of random captions, one image each. ``--agreement`` asks whether labels that are
evaluated on the images of the first packs get the scores that they get on those of the last one.
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


def of_packs(bank: Bank, packs: Sequence[str]) -> Bank:
    """Return the bank with the images of subjects that some packs have, and all backgrounds."""
    kept = (entry for entry in bank.entries if not entry.is_subject or entry.id.split("/")[0] in packs)
    return Bank(f"{bank.name}:{','.join(packs)}", kept)


def recognition(
    source: str, rows: Mapping[str, NDArray[np.float32]], classes: Mapping[str, frozenset[int]]
) -> Recognition:
    """Compute how often classes are recognised.

    Args:
        rows: the last layer's activations by caption, float32 [n_images, n_units].
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


@dataclass(frozen=True)
class Agreement:
    """How two sources of images evaluate the same labels, by the AUC of each unit on each caption.

    Args:
        captions: captions that both sources have images of; each is the label of each caption's class unit.
        every: Spearman's correlation over all pairs of a unit and a caption.
        wrong: the same over the pairs in which the caption is not the unit's class.
        means: for each method, the mean AUC on the first and on the second source; a unit's labels are its class,
            the wrong caption that excites it most on the first source, and the caption that follows its class.
    """

    captions: int
    every: float
    wrong: float
    means: Mapping[str, tuple[float, float]]

    @property
    def lines(self) -> list[str]:
        """Lines for a terminal."""
        return [
            f"{self.captions} captions; Spearman over pairs of a unit and a caption {self.every:.2f}, "
            f"without the units' own classes {self.wrong:.2f}",
            *(f"  {name}: mean AUC {one:.3f} and {two:.3f}" for name, (one, two) in self.means.items()),
        ]


def agreement(
    first: Mapping[str, NDArray[np.float32]],
    second: Mapping[str, NDArray[np.float32]],
    classes: Mapping[str, frozenset[int]],
) -> Agreement:
    """Compare the scores of labels on two sources of images.

    Args:
        first: the last layer's activations on one source by caption, float32 [n_images, n_units].
        second: the same on the other source, of the same captions.
    """
    from scipy.stats import spearmanr

    captions = sorted(first)
    units = [min(classes[caption]) for caption in captions]
    one, two = (_caption_areas([rows[caption] for caption in captions], units) for rows in (first, second))
    own = np.array([[bool({unit} & classes[caption]) for unit in units] for caption in captions])
    confused = np.where(own, -1, one).argmax(axis=0)
    places = np.arange(len(captions))
    chosen = {
        "the class": places,
        "the most similar wrong caption": confused,
        "another caption": np.roll(places, 1),
    }
    means = {
        name: (float(one[rows, places].mean()), float(two[rows, places].mean())) for name, rows in chosen.items()
    }
    every, wrong = (float(spearmanr(one[kind], two[kind]).statistic) for kind in (own | ~own, ~own))
    return Agreement(len(captions), every, wrong, means)


def _caption_areas(rows: Sequence[NDArray[np.float32]], units: Sequence[int]) -> NDArray[np.float64]:
    """Return [captions, units]: AUC of each unit on a caption's images against those of all other captions."""
    areas = np.empty((len(rows), len(units)))
    for caption, own in enumerate(rows):
        others = np.concatenate([other for other in rows if other is not own])
        areas[caption] = [auc(own[:, unit], others[:, unit]) for unit in units]
    return areas


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
    parser.add_argument(
        "--agreement",
        action="store_true",
        help="compare the last pack with the others, on captions that both have",
    )
    parser.add_argument("--assets", type=Path, default=None)
    options = parser.parse_args(arguments)
    flags = {"generator": options.generator, "control": "bank", "assets": options.assets}
    components = Components(MODEL, load_settings(**flags))
    bank, encoder = components.image_bank, SentenceEncoder(components.assets / "minilm")
    held, every = judgeable(bank)
    classes = classes_of_captions(components, bank)
    shown = len(frozenset().union(*classes.values()))
    print(f"{options.generator}: {every} captions, {held} with held-out images; {shown} classes", flush=True)
    packs = options.packs or BUNDLED[options.generator]
    measure = Measurement(components, encoder, options.images)
    if options.agreement:
        *others, last = packs
        sources = [of_packs(bank, others), of_packs(bank, [last])]
        shared = set(classes).intersection(*(part.captions("all") for part in sources))
        captions = sample(list(shared), options.captions)
        first, second = (measure.rows(part, captions) for part in sources)
        print(*agreement(first, second, classes).lines, sep="\n", flush=True)
        return
    for pack in packs:
        part = of_packs(bank, [pack])
        if not part.captions("all"):
            continue
        if options.sheet is not None:
            options.sheet.mkdir(parents=True, exist_ok=True)
            path = options.sheet / f"{pack}.png"
            generator = ImageBankGenerator(part, encoder, "all")
            contact_sheet(generator, sample(part.captions("all"), options.captions)).save(path)
            print(path, flush=True)
            continue
        captions = sample([caption for caption in part.captions("all") if caption in classes], options.captions)
        if rows := measure.rows(part, captions):
            print(recognition(pack, rows, classes).line, flush=True)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            each = measure.seconds / (len(captions) * options.images)
            print(f"{pack}: {each:.2f} CPU seconds an image, {memory:.1f} GB at most", flush=True)


@dataclass
class Measurement:
    """Generates and measures images of captions.

    Args:
        seconds: processor time that the images of the last source took.
    """

    components: Components
    encoder: SentenceEncoder
    images: int
    seconds: float = 0.0

    def rows(self, bank: Bank, captions: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the last layer's activations on the images of each caption, float32 [n_images, n_units]."""
        generator = ImageBankGenerator(bank, self.encoder, "all")
        rows: dict[str, NDArray[np.float32]] = {}
        self.seconds = 0.0
        for caption in captions:
            start = time.process_time()
            images = generator.synthesize(image_requests(caption, self.images, run_seed=0))
            self.seconds += time.process_time() - start
            rows[caption] = self.components.target.activate([image.png for image in images], [LAYER])[LAYER]
        return rows


if __name__ == "__main__":
    main()
