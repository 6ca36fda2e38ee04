"""The 1,000 classes of ImageNet-1K with their WordNet synsets.

The ids are those of ILSVRC 2012 as timm 1.0.31 lists them (``timm/data/_info/imagenet_synsets.txt``, Apache-2.0);
their digits are offsets of WordNet 3.0. The names are torchvision's. The further names of a class, few and
reviewed by hand, are words that WordNet lacks or has elsewhere and that name exactly what the images show.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from line_neurons.agent.concepts import concept_key

_TABLE = "imagenet_synsets.csv"


@dataclass(frozen=True)
class ImageNetClass:
    """A class of ImageNet-1K.

    Args:
        synset: offset of its noun synset in WordNet 3.0.
        name: torchvision's name.
        also: reviewed names that its synset lacks.
    """

    synset: int
    name: str
    also: tuple[str, ...] = ()


@cache
def imagenet_table() -> tuple[ImageNetClass, ...]:
    """Read the 1,000 classes in the order of their indices."""
    text = files("line_neurons.eval.labels").joinpath(_TABLE).read_text("utf-8")
    return tuple(
        ImageNetClass(int(row["wnid"][1:]), row["name"], tuple(filter(None, row["also"].split(";"))))
        for row in csv.DictReader(text.splitlines())
    )


def are_imagenets(named: Iterable[tuple[int, str]], lemmas: Mapping[int, Iterable[str]]) -> bool:
    """Return whether units of these names are the classes of ImageNet-1K in their order.

    Args:
        named: index and class name of each unit; of several names with commas between, one has to fit.
        lemmas: WordNet's words of each synset; a dictionary that lacks a class's synset is not WordNet 3.0.
    """
    table = imagenet_table()
    return all(
        unit < len(table)
        and table[unit].synset in lemmas
        and _keys(name.split(",")) & _keys((table[unit].name, *lemmas[table[unit].synset]))
        for unit, name in named
    )


def _keys(names: Iterable[str]) -> set[str]:
    return {concept_key(name) for name in names}
