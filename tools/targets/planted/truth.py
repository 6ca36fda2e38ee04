"""What each planted unit responds to, read from ``units.csv``."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

NETWORK, PIXELS = "planted:mobilenet_v2", "planted:pixels"
MODELS = (NETWORK, PIXELS)
LAYER = "units"
"""The layer of the planted units, in both models."""
LEAST_EDGES = 8
"""The classes of a pair are at least this many edges apart in WordNet."""

Kind = Literal["single", "larger", "smaller", "dead", "dense", "minus", "pixels"]

KINDS: tuple[Kind, ...] = get_args(Kind)
PIXEL_UNITS = ("red-middle", "left-half", "stripes")
_NAMES = {
    "single": "{0}",
    "larger": "{0} or {1}",
    "smaller": "{0} and {1}",
    "minus": "not {0}",
    "dead": "dead",
    "dense": "dense",
}


@dataclass(frozen=True)
class PlantedClass:
    """A class of ImageNet-1K in a planted unit.

    Args:
        name: torchvision's name.
        mean: of the logit over the control set of the image bank.
    """

    index: int
    name: str
    mean: float
    sd: float


@dataclass(frozen=True)
class PlantedUnit:
    """A unit of known truth.

    Args:
        kind: ``single``: the standardised logit of one class; ``larger``, ``smaller``: the larger or smaller of
            two; ``minus``: minus the logit; ``dead``: always 0; ``dense``: a constant plus noise that depends on
            the exact pixels; ``pixels``: a linear function of the pixels.
        classes: none, one or two.
    """

    unit: int
    kind: Kind
    name: str
    classes: tuple[PlantedClass, ...] = ()


def planted_units(model: str) -> tuple[PlantedUnit, ...]:
    """Return the planted units of a model, ``planted:mobilenet_v2`` or ``planted:pixels``, by index.

    Raises:
        KeyError: the model has none.
    """
    tables: dict[str, Callable[[], tuple[PlantedUnit, ...]]] = {NETWORK: _network_units, PIXELS: _pixel_units}
    return tables[model]()


def table_text() -> str:
    """Return the text of the table of planted units."""
    return files("line_neurons.tools.targets.planted").joinpath("units.csv").read_text("utf-8")


def _pixel_units() -> tuple[PlantedUnit, ...]:
    return tuple(PlantedUnit(unit, "pixels", name) for unit, name in enumerate(PIXEL_UNITS))


@cache
def _network_units() -> tuple[PlantedUnit, ...]:
    return tuple(_unit(place, row) for place, row in enumerate(csv.DictReader(table_text().splitlines())))


def _unit(place: int, row: dict[str, str]) -> PlantedUnit:
    classes = tuple(
        PlantedClass(int(row[which]), row[f"{which}_name"], float(row[f"{which}_mean"]), float(row[f"{which}_sd"]))
        for which in ("first", "second")
        if row[which]
    )
    kind = next(kind for kind in KINDS if kind == row["kind"])
    return PlantedUnit(place, kind, _NAMES[kind].format(*(one.name for one in classes)), classes)
