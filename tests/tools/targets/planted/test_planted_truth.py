from collections import Counter

import pytest

from line_neurons.tools.targets.planted.truth import NETWORK, PIXELS, planted_units
from line_neurons.tools.vocabulary import imagenet_classes


def test_the_table_has_the_documented_units():
    units = planted_units(NETWORK)
    assert [unit.unit for unit in units] == list(range(123))
    expected = {"single": 40, "larger": 40, "smaller": 40, "dead": 1, "dense": 1, "minus": 1}
    assert Counter(unit.kind for unit in units) == expected
    sizes = {"single": 1, "larger": 2, "smaller": 2, "dead": 0, "dense": 0, "minus": 1}
    assert all(len(unit.classes) == sizes[unit.kind] for unit in units)
    assert len({(unit.kind, frozenset(true.index for true in unit.classes)) for unit in units}) == len(units)
    assert len({unit.name for unit in units}) == len(units)


def test_classes_have_torchvision_s_names():
    names = imagenet_classes()
    assert all(
        true.name == names[true.index] and true.sd > 0 for unit in planted_units(NETWORK) for true in unit.classes
    )


def test_the_units_of_pixels_have_no_classes():
    assert [unit.name for unit in planted_units(PIXELS)] == ["red-middle", "left-half", "stripes"]
    with pytest.raises(KeyError):
        planted_units("planted:other")
