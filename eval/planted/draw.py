"""Draw the units of known truth, and check that they respond to their classes: ``python -m`` this module.

The classes are those that the bundled image bank has images of. Four images of each of its captions are measured
on MobileNetV2's logits; a unit is kept where the images of each of its classes excite it, on average, more than
95 % of all images do. ``--write FILE`` writes ``tools/targets/planted/units.csv``.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from line_neurons.agent.settings import load_settings
from line_neurons.eval.labels.wordnet import WordNet
from line_neurons.eval.reports.class_units import LAYER, MODEL, drawable_classes
from line_neurons.eval.reports.label_quality import TrueClass
from line_neurons.graphs.runs.components import Components
from line_neurons.tools.store.atomic_files import write_file
from line_neurons.tools.targets.planted.truth import LEAST_EDGES

SEED = 42
UNITS_OF_KIND = 40
IMAGES = 4
_COLUMNS = (
    "kind",
    "first",
    "first_name",
    "first_mean",
    "first_sd",
    "second",
    "second_name",
    "second_mean",
    "second_sd",
)
_LEVEL = 0.95


@dataclass(frozen=True)
class MeasuredBank:
    """The logits of the bank's images.

    Args:
        logits: float32 [n_images, 1000].
    """

    logits: NDArray[np.float32]
    captions: NDArray[np.str_]
    classes: Sequence[TrueClass]

    def standardised(self, index: int) -> NDArray[np.float64]:
        """Return a class's logit on all images, with mean 0 and standard deviation 1."""
        values = self.logits[:, index].astype(np.float64)
        standardised: NDArray[np.float64] = (values - values.mean()) / values.std()
        return standardised

    def responds(self, values: NDArray[np.float64], classes: Sequence[TrueClass]) -> bool:
        """Return whether the images of each class have a mean activation above 95 % of all images."""
        level = np.quantile(values, _LEVEL)
        return all(values[np.isin(self.captions, true.captions)].mean() > level for true in classes)


def measured_bank(components: Components) -> MeasuredBank:
    """Measure the images of all captions of the image bank."""
    words = WordNet(components.assets / "wordnet")
    classes = drawable_classes(components.image_bank, words, components.target.unit_names(LAYER) or ())
    control = components.control(LAYER)
    assert control is not None
    captions = np.array([control.classes[label] for label in control.labels])
    return MeasuredBank(control.dense(), captions, classes)


def edges(words: WordNet, one: int, other: int) -> int:
    """Return the number of edges between two synsets, over their nearest common hypernym."""
    first, second = ({synset: 0, **words.hypernyms(synset)} for synset in (one, other))
    return min(first[shared] + second[shared] for shared in first.keys() & second.keys())


def draw(bank: MeasuredBank, words: WordNet) -> tuple[list[tuple[str, tuple[TrueClass, ...]]], dict[str, int]]:
    """Draw the units with seed 42.

    Returns:
        kind and classes of each unit, and how many draws of each kind were not kept.
    """
    random = Random(SEED)
    refused = dict.fromkeys(("single", "larger", "smaller"), 0)
    alone = [one for one in bank.classes if bank.responds(bank.standardised(one.unit), [one])]
    refused["single"] = len(bank.classes) - len(alone)
    units: list[tuple[str, tuple[TrueClass, ...]]] = [
        ("single", (true,)) for true in sorted(random.sample(alone, UNITS_OF_KIND), key=lambda true: true.unit)
    ]

    def far_pairs() -> Iterator[tuple[TrueClass, TrueClass]]:
        while True:
            first, second = random.sample(alone, 2)
            if first.synset and second.synset and edges(words, first.synset, second.synset) >= LEAST_EDGES:
                yield first, second

    def pairs(kind: str, keeps: Callable[[tuple[TrueClass, TrueClass]], bool]) -> None:
        kept: set[frozenset[int]] = set()
        for pair in far_pairs():
            if len(kept) == UNITS_OF_KIND:
                return
            key = frozenset(true.unit for true in pair)
            if key in kept:
                continue
            if not keeps(pair):
                refused[kind] += 1
                continue
            kept.add(key)
            units.append((kind, pair))

    def larger(pair: tuple[TrueClass, TrueClass]) -> bool:
        values = np.maximum(*(bank.standardised(true.unit) for true in pair))
        return bank.responds(values, pair)

    pairs("larger", larger)
    pairs("smaller", lambda _: True)
    units += [("dead", ()), ("dense", ()), ("minus", (random.choice(alone),))]
    return units, refused


def table(bank: MeasuredBank, units: Sequence[tuple[str, tuple[TrueClass, ...]]]) -> str:
    """Format the units as CSV, with mean and standard deviation of each logit over the bank's images."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for kind, classes in units:
        cells: list[object] = [kind]
        for true in classes:
            values = bank.logits[:, true.unit].astype(np.float64)
            cells += [true.unit, true.name, f"{values.mean():.5f}", f"{values.std():.5f}"]
        writer.writerow(cells + [""] * (len(_COLUMNS) - len(cells)))
    return text.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, print how many draws were not kept, and write the table if a file is named."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--assets", type=Path, default=None)
    parser.add_argument("--store", type=Path, default=Path("line-store/planted-units"))
    parser.add_argument("--write", type=Path, help="file of the table")
    options = parser.parse_args(arguments)
    flags: dict[str, Any] = {"generator": "bank", "control": "bank", "control_images": IMAGES}
    flags |= {"vocabulary_share": 1.0, "assets": options.assets, "store": options.store}
    components = Components(MODEL, load_settings(**flags))
    bank = measured_bank(components)
    units, refused = draw(bank, WordNet(components.assets / "wordnet"))
    print(f"{len(bank.logits):,} images of {len(set(bank.captions))} captions, {len(bank.classes)} classes")
    for kind, count in refused.items():
        print(f"{kind}: {UNITS_OF_KIND} units, {count} not kept")
    if options.write:
        write_file(options.write, table(bank, units).encode())


if __name__ == "__main__":
    main()
